"""Samples of one data set to a `TrainingBatch`: the place after which no data set name and no category id is left.

B images, N instances of one level in one image, C names of one level in the batch, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partglee.data.mapper import LevelSample, Sample, to_tensor
from partglee.data.spec import Background, DatasetSpec
from partglee.data.transforms import Size
from partglee.structures import (
    BatchNames,
    HierarchicalTargets,
    LevelSupervision,
    LevelTargets,
    Supervision,
    TrainingBatch,
    Vocabulary,
)

Level = Literal["objects", "parts"]


def collate(
    samples: Sequence[Sample],
    *,
    spec: DatasetSpec,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
    divisibility: int,
    min_canvas: Size = (1, 1),
) -> TrainingBatch:
    """Choose the batch's names, rename the labels, and put everything on one canvas.

    Args:
        samples: B of one data set.
        spec: what the data set's annotations mean.
        vocabulary: that labels of the samples are positions in.
        rng: draws names.
        divisibility: the canvas is a multiple of this.
        min_canvas: the canvas is at least this large (the crop of large-scale jitter).

    Raises:
        ValueError: when some samples have an expression and some do not.
    """
    canvas = canvas_of([sample.image for sample in samples], divisibility, min_canvas)
    told = [sample.expression for sample in samples if sample.expression is not None]
    if told and len(told) < len(samples):
        silent = next(sample.file for sample in samples if sample.expression is None)
        raise ValueError(f"data set {spec.name!r} has expressions, but image '{silent}' has none; remove it")
    if told:
        names, chosen = None, (np.zeros(1, np.int64), np.zeros(0, np.int64))
        samples = [_referred(sample) for sample in samples]
    else:
        chosen = _choose(samples, spec, vocabulary, rng)
        names = BatchNames(
            tuple(vocabulary.object_prompts[label] for label in chosen[0]),
            tuple(vocabulary.part_prompts[label] for label in chosen[1]),
            tuple(vocabulary.part_names[label] for label in chosen[1]),
        )
    supervises = spec.supervises_objects, spec.supervises_parts and not told and len(chosen[1]) > 0
    return TrainingBatch(
        images=tuple(sample.image for sample in samples),
        canvas=canvas,
        targets=tuple(_targets(sample, chosen, canvas, supervises) for sample in samples),
        supervision=Supervision(
            objects=_supervision(samples, "objects", chosen[0], spec.object_background, supervises[0], canvas),
            parts=_supervision(samples, "parts", chosen[1], spec.part_background, supervises[1], canvas),
        ),
        names=names,
        expressions=tuple(told) or None,
        source=spec.name,
        files=tuple(sample.file for sample in samples),
    )


def canvas_of(images: Sequence[Tensor], divisibility: int, min_canvas: Size = (1, 1)) -> Size:
    """(H, W) that (3, h, w) images fit on: multiples of `divisibility`, at least `min_canvas`."""
    sides = zip(min_canvas, *((image.shape[1], image.shape[2]) for image in images), strict=True)
    height, width = (-(-max(side) // divisibility) * divisibility for side in sides)
    return height, width


def _referred(sample: Sample) -> Sample:
    """One object with the only name there is."""
    return sample._replace(objects=sample.objects._replace(labels=np.zeros_like(sample.objects.labels), negative=None))


def _choose(
    samples: Sequence[Sample], spec: DatasetSpec, vocabulary: Vocabulary, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    chosen = []
    for level, names in (("objects", vocabulary.object_names), ("parts", vocabulary.part_names)):
        shown: list[LevelSample] = [getattr(sample, level) for sample in samples]
        chosen.append(
            choose_names(
                num_names=len(names) if level == "objects" or spec.supervises_parts else 0,
                positives={int(label) for one in shown for label in one.labels},
                looked_for={label for one in shown for label in one.negative or ()},
                sampled=spec.sampled_names,
                rng=rng,
            )
        )
    return chosen[0], chosen[1]


def _targets(
    sample: Sample,
    chosen: tuple[NDArray[np.int64], NDArray[np.int64]],
    canvas: Size,
    supervises: tuple[bool, bool],
) -> HierarchicalTargets:
    objects = _level_targets(sample.objects, chosen[0], canvas) if supervises[0] else LevelTargets.empty()
    if not supervises[1]:
        return HierarchicalTargets(objects)
    parts = _level_targets(sample.parts, chosen[1], canvas)
    parent = to_tensor(sample.parent) if supervises[0] else torch.full((len(parts),), -1)
    return HierarchicalTargets(objects, parts, parent)


def _level_targets(level: LevelSample, chosen: NDArray[np.int64], canvas: Size) -> LevelTargets:
    labels = to_tensor(np.searchsorted(chosen, level.labels).astype(np.int64))
    masks = with_mask = None
    if level.masks is not None:
        _, height, width = level.masks.shape
        masks = torch.zeros(len(labels), *canvas, dtype=torch.bool)
        masks[:, :height, :width] = to_tensor(level.masks)
        there: NDArray[np.bool_] = np.asarray(level.masks.any((1, 2)))
        with_mask = None if there.all() else to_tensor(there)
    return LevelTargets(labels, relative_boxes(level.boxes, canvas), masks, with_mask)


def relative_boxes(boxes: NDArray[np.float64], canvas: Size) -> Tensor:
    """(N, 4) xyxy pixels -> cxcywh in [0, 1] of the canvas, float32."""
    x0, y0, x1, y1 = (boxes / np.array([canvas[1], canvas[0]] * 2)).T
    return to_tensor(np.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], axis=1).astype(np.float32))


def _supervision(
    samples: Sequence[Sample],
    level: Level,
    chosen: NDArray[np.int64],
    background: Background,
    supervises: bool,
    canvas: Size,
) -> LevelSupervision:
    if not supervises:
        return LevelSupervision(background=(False,) * len(samples))
    shown: list[LevelSample] = [getattr(sample, level) for sample in samples]
    negatives = None
    if any(one.negative is not None for one in shown):
        negatives = torch.stack([to_tensor(_looked_for(one, chosen)) for one in shown])
    labelled = None
    if background == "inside":
        labelled = tuple(relative_boxes(sample.objects.boxes, canvas) for sample in samples)
    return LevelSupervision(negatives, (background != "unlabelled",) * len(samples), labelled)


def _looked_for(level: LevelSample, chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(C,) True = all instances of the name are annotated, be it none."""
    if level.negative is None:
        return np.ones(len(chosen), bool)
    exhaustive = (set(level.labels.tolist()) | level.negative) - level.not_exhaustive
    return np.isin(chosen, sorted(exhaustive))


def choose_names(
    *,
    num_names: int,
    positives: Collection[int],
    looked_for: Collection[int] = (),
    sampled: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """(n,) labels of the data set's vocabulary, ascending; their order tells nothing of which are in the images.

    Args:
        num_names: C.
        positives: labels that the batch's images have; all of them are chosen, even above `sampled`.
        looked_for: labels that annotators looked for and did not find (LVIS). They come before random others, which
            supervise nothing.
        sampled: n; 0 = all names.
        rng: draws the others.
    """
    if sampled == 0 or sampled >= num_names:
        return np.arange(num_names)
    chosen = sorted(set(positives))
    for pool in (sorted(set(looked_for) - set(chosen)), None):
        room = sampled - len(chosen)
        if room <= 0:
            break
        rest = np.setdiff1d(np.arange(num_names), chosen) if pool is None else np.array(pool, np.int64)
        chosen += rng.choice(rest, size=min(room, len(rest)), replace=False).tolist()
    return np.array(sorted(chosen), np.int64)
