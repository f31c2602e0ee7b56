"""Shapes as annotation tools list them, and the hierarchy that they mean. H, W: height and width of an image."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.annotations.values import text_of
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.regions import Region
from partglee.data.segmentation import MAX_PIXELS, is_finite

DEEPEST = 16  # levels of parts of parts, as in `annotations.categories.objects_above`
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError)


@dataclass(frozen=True, slots=True)
class Shape:
    """One instance of a tool's file."""

    name: str
    box: tuple[float, float, float, float]  # xywh pixels
    segmentation: Any = None  # polygons, or run lengths with `counts` as text; None where there is only a box
    key: Hashable = None  # what other shapes of the image link to
    parent: Hashable = None  # key of the shape that this one is a part of
    part: bool | None = None  # None: not said; then it is one when it has a parent
    crowd: bool = False
    score: float | None = None


class Row(NamedTuple):
    """One region of an image in a flat list."""

    region: Region
    parent: int  # row, -1 without
    part: bool


def nested(file_name: str, size: tuple[int, int], shapes: Sequence[Shape], notes: Counter[str]) -> AnnotatedImage:
    """The shapes of one image as objects with their parts.

    Args:
        size: (H, W); (0, 0) = unknown.
        notes: counts what was handled: links that lead nowhere or in a circle, objects with a parent.
    """
    row_of: dict[Hashable, int] = {}
    for row, shape in enumerate(shapes):
        if shape.key is not None:
            row_of.setdefault(shape.key, row)
    parent = [-1 if shape.parent is None else row_of.get(shape.parent, -1) for shape in shapes]
    for row, shape in enumerate(shapes):
        if shape.parent is not None and (parent[row] < 0 or parent[row] == row):
            notes["links to nothing (the parent is unknown)"] += 1
            parent[row] = -1
        elif parent[row] >= 0 and shape.part is False:
            notes["objects inside of objects (the link is left out)"] += 1
            parent[row] = -1
    depth = [_depth(parent, row, notes) for row in range(len(shapes))]
    children: dict[int, list[int]] = defaultdict(list)
    for row, above in enumerate(parent):
        children[above].append(row)
    regions: dict[int, Region] = {}
    for row in sorted(range(len(shapes)), key=lambda row: -depth[row]):
        regions[row] = _region(shapes[row], tuple(regions[child] for child in children[row]))
    is_part = [shape.parent is not None if shape.part is None else shape.part for shape in shapes]
    return AnnotatedImage(
        file_name, *size, objects=tuple(regions[row] for row in children[-1] if not is_part[row]),
        loose=tuple(regions[row] for row in children[-1] if is_part[row]),
    )  # fmt: skip


def _depth(parent: list[int], row: int, notes: Counter[str]) -> int:
    """Steps to the top; a link that never gets there is cut."""
    above, steps = parent[row], 0
    while above >= 0 and steps < DEEPEST:
        above, steps = parent[above], steps + 1
    if above >= 0:
        notes["links in a circle, or of more than 16 levels (the parent is unknown)"] += 1
        parent[row], steps = -1, 0
    return steps


def _region(shape: Shape, parts: tuple[Region, ...]) -> Region:
    extra = {} if shape.score is None else {"score": shape.score}
    return Region(shape.name, shape.box, area_of(shape.segmentation, shape.box), shape.segmentation, parts, shape.crowd,
                  extra)  # fmt: skip


def rows(image: AnnotatedImage) -> list[Row]:
    """Objects and parts of an image in a flat list, each part behind what it belongs to."""
    flat: list[Row] = []

    def add(region: Region, parent: int, part: bool) -> None:
        flat.append(Row(region, parent, part))
        row = len(flat) - 1
        for below in region.parts:
            add(below, row, True)

    for region in image.objects:
        add(region, -1, False)
    for region in image.loose:
        add(region, -1, True)
    return flat


def linked_by_group(shapes: Sequence[Shape], groups: Sequence[Hashable]) -> list[Shape]:
    """Shapes that a tool's group holds together, where nothing else says what belongs to what.

    In a group of several names the shape that is said to be an object, or else the one with the largest box, is the
    object, and the others are its parts. Shapes with a parent or a level of their own keep it.

    Args:
        groups: of each shape; None = it is in no group.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for row, group in enumerate(groups):
        if group is not None:
            members[group].append(row)
    linked = list(shapes)
    for listed in members.values():
        if len({shapes[row].name for row in listed}) < 2:
            continue
        free = [row for row in listed if shapes[row].parent is None and shapes[row].part is None]
        said = [row for row in listed if shapes[row].part is False]
        if not free or len(said) > 1:
            continue
        top = said[0] if said else max(free, key=lambda row: shapes[row].box[2] * shapes[row].box[3])
        key = ("group", top) if shapes[top].key is None else shapes[top].key
        linked[top] = replace(linked[top], key=key)
        for row in free:
            if row != top:
                linked[row] = replace(linked[row], parent=key)
    return linked


# -- values ----------------------------------------------------------------------------------------------------------


@contextmanager
def told(where: str) -> Iterator[None]:
    """Whatever is wrong with one entry of a file, said with its place."""
    try:
        yield
    except _DAMAGE as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"{where}: {reason:.300}") from error


def name_of(value: Any) -> str:
    """A label; ValueError when it is no text, or blank."""
    name = text_of(value, "a label").strip()
    if not name:
        raise ValueError("its label is blank; give it a name")
    return name


def number(value: Any, what: str) -> float:
    """A finite number, also as text."""
    try:
        found = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        found = float("nan")
    if not is_finite(found) or abs(found) > 1e9:
        raise ValueError(f"{what} must be a number, got {value!r:.40}")
    return found


def side(value: Any, what: str) -> int:
    """A height or width in pixels; 0 where it is not said."""
    if value is None or value == "":
        return 0
    pixels = number(value, what)
    if pixels != int(pixels) or pixels < 0 or pixels > 1 << 24:
        raise ValueError(f"{what} must be a number of pixels, got {value!r:.40}")
    return int(pixels)


def size_of(height: Any, width: Any) -> tuple[int, int]:
    """(H, W); (0, 0) when one is not known.

    Raises:
        ValueError: for what is no number of pixels, or too many for a mask.
    """
    found = side(height, "height"), side(width, "width")
    if found[0] * found[1] > MAX_PIXELS:
        raise ValueError(f"an image of {found[0]} x {found[1]} pixels is too large for masks")
    return (0, 0) if 0 in found else found


def needs_size(image: AnnotatedImage) -> tuple[int, int]:
    """(H, W) of an image for formats that cannot do without; ValueError when it is unknown."""
    if image.height < 1 or image.width < 1:
        raise ValueError(
            f"image {image.file_name!r}: the source does not say its size; name the folder of the images (--images DIR)"
        )
    return image.height, image.width


def area_of(segmentation: Any, box: tuple[float, float, float, float]) -> float:
    """Pixels of run lengths, polygons (by the shoelace formula) or, without either, the box."""
    if isinstance(segmentation, dict):
        return float(rle.area({"size": segmentation["size"], "counts": segmentation["counts"].encode()}))
    if not segmentation:
        return box[2] * box[3]
    total = 0.0
    for polygon in segmentation:
        x, y = np.array(polygon, np.float64).reshape(-1, 2).T
        x, y = x - x[0], y - y[0]
        total += abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2
    return total
