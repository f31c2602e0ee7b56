"""Input dicts of detectron2 as our batches.

B images, N instances, K classes, (h, w) an image as the network sees it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from detectron2.structures import BitMasks, Boxes, Instances
from numpy.typing import NDArray
from torch import Tensor

from partglee.data import DatasetSpec, Records
from partglee.data.annotations.values import whole
from partglee.data.collate import collate
from partglee.data.mapper import LevelSample, Sample
from partglee.structures import ClassList, Level, TrainingBatch


def rgb(entry: Mapping[str, Any], input_format: str) -> Tensor:
    """`image` of an input dict, (3, h, w) in the colour order of `INPUT.FORMAT`, as RGB.

    Raises:
        TypeError: for an input that is no dict, or an image that is no tensor.
        ValueError: for a dict without an image, or an image of another shape.
    """
    if not isinstance(entry, Mapping):
        raise TypeError(f"the model takes a list of dicts with 'image' (3, h, w), got {type(entry).__name__} in it")
    if "image" not in entry:
        raise ValueError(f"{_file(entry)}: the dict has no 'image' but {sorted(map(str, entry))}; a mapper reads it")
    image = entry["image"]
    if not isinstance(image, Tensor):
        raise TypeError(
            f"{_file(entry)}: 'image' must be a tensor (3, h, w), got {type(image).__name__}; of an array (h, w, 3): "
            "torch.as_tensor(array.transpose(2, 0, 1).copy())"
        )
    if image.ndim != 3 or len(image) != 3 or 0 in image.shape:
        raise ValueError(f"{_file(entry)}: 'image' must be (3, h, w), got {tuple(image.shape)}; for (h, w, 3) permute")
    return image.flip(0) if input_format == "BGR" else image


def original_size(entry: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) that the answer is wanted in: `height` and `width`, else (or where they are None) that of the image.

    Raises:
        ValueError: for sides that are no pixels.
    """
    sides = []
    for key, own in zip(("height", "width"), entry["image"].shape[1:], strict=True):
        side = own if entry.get(key) is None else entry[key]
        try:
            sides.append(whole(side.item() if hasattr(side, "item") else side, key))
        except ValueError:
            sides.append(0)
        if sides[-1] < 1:
            raise ValueError(f"{_file(entry)}: {key!r} must be a number of pixels, got {side!r:.40}")
    return sides[0], sides[1]


def _file(entry: Mapping[str, Any]) -> str:
    return str(entry.get("file_name", entry.get("image_id", "an image")))


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
        ValueError: for a dict without an image or instances, fields that are missing, boxes that are none, or a class
            that the list lacks.
        TypeError: for an image or fields of other types.
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
    image, file = rgb(entry, input_format), _file(entry)
    if "instances" not in entry:
        raise ValueError(f"{file}: training needs 'instances'; is the mapper one for training?")
    if not isinstance(entry["instances"], Instances):
        raise TypeError(f"{file}: 'instances' must be Instances of detectron2, got {entry['instances']!r:.40}")
    instances, size = entry["instances"].to("cpu"), (int(image.shape[1]), int(image.shape[2]))
    if missing := [name for name in ("gt_classes", "gt_boxes") if not instances.has(name)]:
        raise ValueError(
            f"{file}: training needs {' and '.join(missing)} of the instances, which have "
            f"{sorted(instances.get_fields()) or 'no fields'}"
        )
    if tuple(instances.image_size) != size:
        raise ValueError(
            f"{file}: instances of an image of {instances.image_size[0]} x {instances.image_size[1]} pixels, the image "
            f"has {size[0]} x {size[1]}; the mapper must resize both alike"
        )
    numbers = _numbers(instances, "gt_classes", file)
    strange = numbers[(numbers < 0) | (numbers >= len(classes))]
    if len(strange):
        raise ValueError(
            f"{file}: class {strange[0]} is none of {len(classes)} classes; the metadata lists others than the "
            "annotations have"
        )
    is_part = np.array(classes.level, np.int64)[numbers] == Level.PART
    labels = np.array(classes.label, np.int64)[numbers]
    boxes = _boxes(instances, file)
    masks = _masks(instances, size, file)
    levels = [
        LevelSample(labels[rows], boxes[rows], None if masks is None else masks[rows], *looked)
        for rows, looked in zip((~is_part, is_part), _looked_for(entry, classes, dataset_ids), strict=True)
    ]
    return Sample(image, levels[0], levels[1], _parents(instances, is_part, file), file)


def _numbers(instances: Instances, name: str, file: str) -> NDArray[np.int64]:
    """(N,) whole numbers of a field."""
    values = instances.get(name)
    if not isinstance(values, Tensor) or values.shape != (len(instances),) or (values != values.long()).any():
        raise ValueError(f"{file}: {name} must be a tensor (N,) of whole numbers, got {values!r:.60}")
    found: NDArray[np.int64] = values.numpy().astype(np.int64)
    return found


def _boxes(instances: Instances, file: str) -> NDArray[np.float64]:
    """(N, 4) xyxy."""
    if not isinstance(instances.gt_boxes, Boxes):
        raise TypeError(f"{file}: gt_boxes must be Boxes of detectron2, got {type(instances.gt_boxes).__name__}")
    boxes: NDArray[np.float64] = instances.gt_boxes.tensor.numpy().astype(np.float64)
    right = np.isfinite(boxes).all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1)
    if not right.all():
        row = int(np.flatnonzero(~right)[0])
        raise ValueError(
            f"{file}: box {row} of gt_boxes must be x0, y0, x1, y1 with x0 <= x1 and y0 <= y1, got "
            f"{boxes[row].tolist()}; is its bbox_mode right?"
        )
    return boxes


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


def _parents(instances: Any, is_part: NDArray[np.bool_], file: str) -> NDArray[np.int64]:
    """(Np,) row among the objects of each part's object, -1 without."""
    parents = np.full(int(is_part.sum()), -1, np.int64)
    if not instances.has("gt_ids") or not instances.has("gt_object_ids"):
        return parents
    ids, owners = _numbers(instances, "gt_ids", file), _numbers(instances, "gt_object_ids", file)
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
