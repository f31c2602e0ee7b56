"""Input dicts of detectron2 as our batches.

B images, N instances, K classes, (h, w) an image as the network sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks
from numpy.typing import NDArray
from torch import Tensor

from partglee.data import DatasetSpec, Records
from partglee.data.collate import collate
from partglee.data.mapper import LevelSample, Sample
from partglee.structures import ClassList, Level, TrainingBatch


def rgb(image: Tensor, input_format: str) -> Tensor:
    """(3, h, w) in the colour order of `INPUT.FORMAT` -> RGB."""
    return image.flip(0) if input_format == "BGR" else image


def original_size(entry: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) that the answer is wanted in: `height` and `width`, else that of the image itself."""
    _, height, width = entry["image"].shape
    return int(entry.get("height", height)), int(entry.get("width", width))


def training_batch(
    entries: Sequence[Mapping[str, Any]],
    classes: ClassList,
    spec: DatasetSpec,
    *,
    input_format: str,
    divisibility: int,
    dataset_ids: Mapping[int, int] | None = None,
) -> TrainingBatch:
    """What `TrainingStep` takes, of dicts with `image` and `instances`.

    `gt_ids` and `gt_object_ids` of the instances are the hierarchy (`HierarchyMapper` makes them); without them the
    parents of parts are not known. `neg_category_ids` and `not_exhaustive_category_ids` (LVIS) say what was looked for.

    Args:
        spec: what the annotations mean.
        dataset_ids: category id of the data set's file -> class; None = the ids of LVIS, which count from 1.

    Raises:
        ValueError: for a dict without instances, or a class that the list lacks.
    """
    samples = [_sample(entry, classes, input_format, dataset_ids) for entry in entries]
    seed = int(torch.randint(2**31, ())) if spec.sampled_names else 0
    return collate(
        samples, spec=spec, vocabulary=classes.vocabulary, rng=np.random.default_rng(seed), divisibility=divisibility
    )


def plain_spec(classes: ClassList, *, name: str, sampled_names: int) -> DatasetSpec:
    """Everything is annotated of the levels that the list has."""
    return DatasetSpec(
        name=name,
        annotations="",
        images="",
        reader=_read_elsewhere,
        supervises_objects=Level.OBJECT in classes.level,
        supervises_parts=Level.PART in classes.level,
        sampled_names=sampled_names,
    )


def supervised_by(spec: DatasetSpec, classes: ClassList, *, sampled_names: int) -> DatasetSpec:
    """The spec of a data set, reduced to the levels that the list has."""
    return replace(
        spec,
        supervises_objects=spec.supervises_objects and Level.OBJECT in classes.level,
        supervises_parts=spec.supervises_parts and Level.PART in classes.level,
        sampled_names=sampled_names or spec.sampled_names,
        expressions=None,
    )


def _read_elsewhere(spec: DatasetSpec) -> Records:
    raise ValueError(f"{spec.name!r} is read by detectron2")


def _sample(
    entry: Mapping[str, Any], classes: ClassList, input_format: str, dataset_ids: Mapping[int, int] | None
) -> Sample:
    file = str(entry.get("file_name", entry.get("image_id", "an image")))
    if "instances" not in entry:
        raise ValueError(f"{file}: training needs 'instances'; is the mapper one for training?")
    image, instances = rgb(entry["image"], input_format), entry["instances"].to("cpu")
    numbers = instances.gt_classes.numpy().astype(np.int64)
    strange = numbers[(numbers < 0) | (numbers >= len(classes))]
    if len(strange):
        raise ValueError(
            f"{file}: class {strange[0]} is none of {len(classes)} classes; the metadata lists others than the "
            "annotations have"
        )
    is_part = np.array(classes.level, np.int64)[numbers] == Level.PART
    labels = np.array(classes.label, np.int64)[numbers]
    boxes = instances.gt_boxes.tensor.numpy().astype(np.float64)
    masks = _masks(instances, (int(image.shape[1]), int(image.shape[2])), file)
    levels = [
        LevelSample(labels[rows], boxes[rows], None if masks is None else masks[rows], *looked)
        for rows, looked in zip((~is_part, is_part), _looked_for(entry, classes, dataset_ids), strict=True)
    ]
    return Sample(image, levels[0], levels[1], _parents(instances, is_part), file)


def _masks(instances: Any, size: tuple[int, int], file: str) -> NDArray[np.bool_] | None:
    """(N, h, w)."""
    if not instances.has("gt_masks"):
        return None
    masks = instances.gt_masks
    if not hasattr(masks, "tensor"):  # polygons
        masks = BitMasks.from_polygon_masks(masks, *size)
    found: NDArray[np.bool_] = masks.tensor.bool().numpy()
    if len(found) and found.shape[1:] != size:
        raise ValueError(
            f"{file}: masks of {found.shape[1]} x {found.shape[2]} pixels for an image of {size[0]} x {size[1]}; the "
            "mapper must resize both alike"
        )
    return found


def _parents(instances: Any, is_part: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(Np,) row among the objects of each part's object, -1 without."""
    parents = np.full(int(is_part.sum()), -1, np.int64)
    if not instances.has("gt_ids") or not instances.has("gt_object_ids"):
        return parents
    ids, owners = instances.gt_ids.numpy(), instances.gt_object_ids.numpy()
    row_of = {int(key): row for row, key in enumerate(ids[~is_part])}
    for row, owner in enumerate(owners[is_part]):
        parents[row] = row_of.get(int(owner), -1)
    return parents


def _looked_for(
    entry: Mapping[str, Any], classes: ClassList, dataset_ids: Mapping[int, int] | None
) -> list[tuple[frozenset[int] | None, frozenset[int]]]:
    """For objects and parts: labels looked for and not found (None = all), labels that are not fully annotated."""
    if "neg_category_ids" not in entry:
        return [(None, frozenset())] * 2
    found: list[tuple[frozenset[int] | None, frozenset[int]]] = []
    for level in (Level.OBJECT, Level.PART):
        sets = []
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            numbers = [n - 1 if dataset_ids is None else dataset_ids.get(n, -1) for n in entry.get(key, ())]
            known = [k for k in numbers if 0 <= k < len(classes) and classes.level[k] == level]
            sets.append(frozenset(classes.label[k] for k in known))
        found.append((sets[0], sets[1]))
    return found
