"""Detections as columns, small enough for millions of rows.

N detections. `DetectionBuffer` makes them of COCO result dicts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.masks import MASKS_AT_ONCE
from partglee.evaluation.ground_truth import RLE, GroundTruth
from partglee.evaluation.issues import InputIssues
from partglee.evaluation.run_lengths import RunLengths


@dataclass(frozen=True, kw_only=True)
class Detections:
    """Rows in the order in which they were given, image by image."""

    image: NDArray[np.int64]  # (N,) image rows of the ground truth
    category: NDArray[np.int64]  # (N,) category columns of the ground truth
    score: NDArray[np.float64]  # (N,)
    boxes: NDArray[np.float64]  # (N, 4) xywh pixels; NaN without
    counts: RunLengths  # N of masks of the image's size; None without
    area: NDArray[np.float64]  # (N,) pixels of the masks; NaN without
    parent: NDArray[np.int64]  # (N,) row of the object a part belongs to, -1 without
    sizes: NDArray[np.int64]  # (I, 2) height and width of each image row

    def __len__(self) -> int:
        return len(self.image)

    def mask(self, row: int) -> RLE:
        """Run lengths as the pycocotools functions take them."""
        return {"size": self.sizes[self.image[row]].tolist(), "counts": self.counts[row]}

    def select(self, rows: NDArray[np.int64]) -> Detections:
        """Some rows; a part whose object is not among them loses its parent."""
        new = np.full(len(self) + 1, -1, np.int64)  # the last entry is what parent -1 points to
        new[rows] = np.arange(len(rows))
        return Detections(
            image=self.image[rows], category=self.category[rows], score=self.score[rows], boxes=self.boxes[rows],
            counts=self.counts.select(rows), area=self.area[rows], parent=new[self.parent[rows]], sizes=self.sizes,
        )  # fmt: skip


def mask_boxes(masks: RunLengths, size: Sequence[int]) -> NDArray[np.float64]:
    """(N, 4) xywh of masks of one size."""
    entries = [{"size": list(size), "counts": counts} for counts in masks]
    blocks = [entries[start : start + MASKS_AT_ONCE] for start in range(0, len(entries), MASKS_AT_ONCE)]
    return np.concatenate([rle.toBbox(block) for block in blocks]).astype(np.float64)


def merge_states(
    states: Sequence[tuple[dict[int, tuple[int, int]], Detections]], issues: InputIssues, num_images: int
) -> Detections:
    """Detections of all processes. An image that two processes saw (samplers repeat some to give every process the same
    number) counts once, from the first; images nobody saw and an empty whole are noted."""
    seen: set[int] = set()
    parts: list[Detections] = []
    for spans, detections in states:
        again = [image for image in spans if image in seen]
        if again:
            issues.add("repeated by the sampler", f"image row {again[0]}", count=len(again))
            keep = [np.arange(*span) for image, span in spans.items() if image not in seen]
            detections = detections.select(np.concatenate(keep) if keep else np.zeros(0, np.int64))
        seen.update(spans)
        parts.append(detections)
    if num_images - len(seen):
        issues.add(
            "image without prediction",
            f"only {len(seen)} of {num_images} images have any",
            count=num_images - len(seen),
        )
    if sum(map(len, parts)) == 0:
        issues.add("no predictions", "there is not one detection, so every AP is 0")
    if len(parts) == 1:
        return parts[0]
    offsets = np.cumsum([0, *map(len, parts)])
    sizes = np.max([part.sizes for part in parts], axis=0)
    parents = [np.where(p.parent >= 0, p.parent + o, -1) for p, o in zip(parts, offsets, strict=False)]
    return Detections(
        image=np.concatenate([p.image for p in parts]), category=np.concatenate([p.category for p in parts]),
        score=np.concatenate([p.score for p in parts]), boxes=np.concatenate([p.boxes for p in parts]),
        counts=RunLengths.joined([p.counts for p in parts]), area=np.concatenate([p.area for p in parts]),
        parent=np.concatenate(parents), sizes=sizes,
    )  # fmt: skip


# -- federated annotations ------------------------------------------------------------------------------------------
# In an image only some names were looked for (LVIS, PACO, Open Images). A name that is annotated there, or in the list
# of verified absent names, can be judged; of the others nobody knows. A name that is not exhaustively annotated has
# more instances than are annotated.


def judgeable(truth: GroundTruth, detections: Detections) -> NDArray[np.bool_]:
    """(N,) whether the category of a detection is annotated in its image, as present or as absent."""
    num_categories = len(truth.categories.ids)
    absent = [image * num_categories + k for image, negative in enumerate(truth.negative) for k in negative]
    cells = np.union1d(truth.image * num_categories + truth.category, np.array(absent, np.int64))
    return np.isin(detections.image * num_categories + detections.category, cells)


def not_exhaustive(truth: GroundTruth, detections: Detections) -> NDArray[np.bool_]:
    """(N,) whether the image may have more instances of a detection's category than are annotated."""
    num_categories = len(truth.categories.ids)
    cells = [image * num_categories + k for image, columns in enumerate(truth.not_exhaustive) for k in columns]
    return np.isin(detections.image * num_categories + detections.category, np.array(cells, np.int64))
