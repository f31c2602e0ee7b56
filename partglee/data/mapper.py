"""One image record to one training sample.

N instances of one level, h x w what the sample shows of the image.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partglee.data.augmentation import Augmentation
from partglee.data.images import read_image
from partglee.data.records import Expression, ImageRecord, Instance
from partglee.data.transforms import Geometry, Size, flipped_labels, jitter_color, swap_sides
from partglee.structures import Vocabulary

_ORDINAL = re.compile(r"\b(first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)\b", re.IGNORECASE)


class LevelSample(NamedTuple):
    """What a sample shows of one level. Labels are those of the data set's vocabulary."""

    labels: NDArray[np.int64]  # (N,)
    boxes: NDArray[np.float64]  # (N, 4) xyxy pixels of the sample
    masks: NDArray[np.bool_] | None  # (N, h, w), empty of an instance that has only a box; None where all have
    negative: frozenset[int] | None = None  # as in `ImageRecord`
    not_exhaustive: frozenset[int] = frozenset()


class Sample(NamedTuple):
    """One augmented image."""

    image: Tensor  # (3, h, w) uint8 RGB
    objects: LevelSample
    parts: LevelSample
    parent: NDArray[np.int64]  # (Np,) row of the object, -1 unknown or cropped away
    file: str
    expression: str | None = None  # of the only object


class Mapper:
    """Reads and augments images of one data set.

    Args:
        vocabulary: of the data set, for names that change sides in a flip.
        augmentation: where the image goes.
        color: strength of colour changes; 0 = off.
        max_instances: of an image; the largest objects and their parts stay.
        min_area: pixels of a mask (or box) below which an instance is dropped.
        boxes_from_masks: the box around what is visible of the mask, not the annotated one cut off.
        left_right: a flip swaps names that say left or right.
    """

    def __init__(
        self,
        *,
        vocabulary: Vocabulary,
        augmentation: Augmentation,
        color: float = 0.0,
        max_instances: int = 500,
        min_area: float = 1.0,
        boxes_from_masks: bool = True,
        left_right: bool = True,
    ) -> None:
        self.augmentation = augmentation
        self.color = color
        self.max_instances = max_instances
        self.min_area = min_area
        self.boxes_from_masks = boxes_from_masks
        self.left_right = left_right
        self._mirror_objects, self._mirror_parts = flipped_labels(vocabulary)

    def __call__(self, record: ImageRecord, rng: np.random.Generator) -> Sample:
        """A sample, the same one for the same state of `rng`.

        Raises:
            FileNotFoundError, ValueError: for an image that cannot be read or is not of the annotated size, and for a
                mask that is not of the image's size.
        """
        expression, target = _choose_expression(record, rng)
        objects = record.objects if target is None else (record.objects[target],)
        parts = record.parts if target is None else ()
        size, pixels = (record.height, record.width), None
        if 0 in size:
            pixels = read_image(record.source)
            size = (pixels.shape[0], pixels.shape[1])
        whole = expression is not None and must_stay_whole(expression)
        geometry = self.augmentation.draw(size, rng, whole=whole)
        if target is not None and not _visible(objects, geometry):
            geometry = self.augmentation.draw(size, rng, whole=True)  # the sentence must not speak of nothing
        if pixels is None:
            pixels = read_annotated(record, at_least=geometry.resized)
        image = geometry.image(pixels)
        if self.color:
            image = jitter_color(image, self.color, rng)

        rows, part_rows = _largest(objects, parts, geometry, self.max_instances)
        kept, object_level = self._level([objects[row] for row in rows], geometry)
        new_row = {rows[place]: row for row, place in enumerate(kept)}
        chosen = [parts[row] for row in part_rows]
        kept_parts, part_level = self._level(chosen, geometry)
        parent = np.array([new_row.get(chosen[place].parent, -1) for place in kept_parts], np.int64)

        object_level = object_level._replace(
            negative=record.negative_objects, not_exhaustive=record.not_exhaustive_objects
        )
        part_level = part_level._replace(negative=record.negative_parts, not_exhaustive=record.not_exhaustive_parts)
        if geometry.flip and self.left_right:
            object_level = _mirror(object_level, self._mirror_objects)
            part_level = _mirror(part_level, self._mirror_parts)
            expression = None if expression is None else swap_sides(expression)
        return Sample(image, object_level, part_level, parent, str(record.file), expression)

    def _level(self, instances: Sequence[Instance], geometry: Geometry) -> tuple[list[int], LevelSample]:
        """The instances of which enough is visible: their places in the list, and what is seen of them."""
        boxes = geometry.boxes(_boxes(instances))
        masks: list[NDArray[np.bool_] | None] = []
        kept: list[int] = []
        for place, instance in enumerate(instances):
            x0, y0, x1, y1 = boxes[place]
            area = (x1 - x0) * (y1 - y0)
            mask = None
            if instance.segmentation is not None and area > 0:
                mask = geometry.mask(instance.segmentation)
                area = float(np.count_nonzero(mask))
                if area and self.boxes_from_masks:
                    boxes[place] = box_around(mask)
            if area > 0 and area >= self.min_area:
                kept.append(place)
                masks.append(mask)
        stacked = None
        if any(mask is not None for mask in masks):
            nothing = np.zeros(geometry.size, bool)
            stacked = np.stack([nothing if mask is None else mask for mask in masks])
        labels = np.array([instances[place].label for place in kept], np.int64)
        return kept, LevelSample(labels, boxes[kept], stacked)


def means_one_object(expression: Expression, record: ImageRecord) -> bool:
    """Whether an expression means one object that is no crowd, and nothing else."""
    return len(expression.objects) == 1 and not expression.parts and not record.objects[expression.objects[0]].crowd


def single_targets(record: ImageRecord) -> dict[int, list[str]]:
    """Row of each object that is meant alone -> the sentences that mean it, in file order; crowds are left out."""
    told: dict[int, list[str]] = {}
    for expression in record.expressions:
        if means_one_object(expression, record):
            told.setdefault(expression.objects[0], []).append(expression.text)
    return {row: told[row] for row in sorted(told)}


def _choose_expression(record: ImageRecord, rng: np.random.Generator) -> tuple[str | None, int | None]:
    """One sentence and the object that it means."""
    told = single_targets(record)
    if not told:
        return None, None
    target = list(told)[int(rng.integers(len(told)))]
    sentences = told[target]
    return sentences[int(rng.integers(len(sentences)))], target


def must_stay_whole(expression: str) -> bool:
    """Whether a crop may change what an expression means: it counts from one side."""
    return _ORDINAL.search(expression) is not None


def read_annotated(record: ImageRecord, *, at_least: Size | None = None) -> NDArray[np.uint8]:
    """(., ., 3) the image, at least at the resolution (height, width); None = as it is.

    Raises:
        FileNotFoundError, ValueError: for an image that cannot be read or is not of the annotated size.
    """
    pixels = read_image(record.source, at_least=at_least)
    size = (pixels.shape[0], pixels.shape[1])
    if not any(size == (-(-record.height // n), -(-record.width // n)) for n in (1, 2, 4, 8)):
        raise ValueError(
            f"image file '{record.file}' is {size} (height, width), but the annotations say "
            f"{(record.height, record.width)}; they belong to another version of the image"
        )
    return pixels


def _boxes(instances: Sequence[Instance]) -> NDArray[np.float64]:
    return np.array([instance.box for instance in instances], np.float64).reshape(-1, 4)


def _areas(instances: Sequence[Instance], geometry: Geometry) -> NDArray[np.float64]:
    boxes = geometry.boxes(_boxes(instances))
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _visible(instances: Sequence[Instance], geometry: Geometry) -> bool:
    return all(
        area >= 1 and (i.segmentation is None or geometry.mask(i.segmentation).any())
        for i, area in zip(instances, _areas(instances, geometry), strict=True)
    )


def _largest(
    objects: Sequence[Instance], parts: Sequence[Instance], geometry: Geometry, limit: int
) -> tuple[list[int], list[int]]:
    """Rows of objects and of parts that are targets, in file order, at most `limit`: no crowds, the largest first.

    An object goes with its parts; a part of unknown parent stands for itself.
    """
    rows = [row for row, instance in enumerate(objects) if not instance.crowd]
    part_rows = [row for row, instance in enumerate(parts) if not instance.crowd]
    if len(rows) + len(part_rows) <= limit:
        return rows, part_rows
    area, part_area = _areas(objects, geometry), _areas(parts, geometry)
    families: dict[int, list[int]] = {row: [] for row in rows}
    alone: list[int] = []
    for row in sorted(part_rows, key=lambda row: -part_area[row]):
        families.get(parts[row].parent, alone).append(row)
    order: list[tuple[float, list[int], list[int]]]
    order = [(area[row], [row], families[row]) for row in rows] + [(part_area[row], [], [row]) for row in alone]
    kept: list[int] = []
    kept_parts: list[int] = []
    for _, family, members in sorted(order, key=lambda entry: -entry[0]):
        kept += family[: limit - len(kept) - len(kept_parts)]
        kept_parts += members[: limit - len(kept) - len(kept_parts)]
    return sorted(kept), sorted(kept_parts)


def box_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """xyxy around a mask (h, w) that is not empty, in its pixels."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _mirror(level: LevelSample, mirror: NDArray[np.int64]) -> LevelSample:
    return level._replace(
        labels=mirror[level.labels],
        negative=None if level.negative is None else frozenset(int(mirror[label]) for label in level.negative),
        not_exhaustive=frozenset(int(mirror[label]) for label in level.not_exhaustive),
    )


def to_tensor(array: NDArray[np.generic]) -> Tensor:
    """A tensor of its own memory: a flipped array has negative strides, which torch does not take."""
    return torch.from_numpy(np.ascontiguousarray(array))
