"""Objects with masks + a map of part labels -> parts with parents. What Pascal-Part-116 and ADE20K-Part-234 share.

H, W: size of the image.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.data.prepare.command import write_named
from partglee.data.prepare.files import AnnotatedImage, without_objects
from partglee.data.prepare.regions import Mask, Region, drop_specks, region_from_mask, split_components
from partglee.structures.vocabulary_files import read_builtin, split_objects

MIN_AREA = 20  # pixels; a smaller piece of an object or of a part without a parent is noise at the borders


class PartLabel(NamedTuple):
    """What a label of a part map means."""

    owner: str  # object name
    name: str  # "dog's head"


@cache
def part_labels(vocabulary: str) -> tuple[PartLabel, ...]:
    """Labels 0, 1, ... of a built-in vocabulary."""
    objects: Any = read_builtin(vocabulary).objects
    return tuple(PartLabel(name, f"{name}'s {part}") for name, parts in objects.items() for part in parts)


def with_parts(
    objects: Sequence[tuple[str, Mask]], part_map: NDArray[np.int64], found: Sequence[int], labels: Sequence[PartLabel]
) -> tuple[tuple[Region, ...], tuple[Region, ...]]:
    """Give each part of the map to the objects of its kind that it lies in.

    A part is all that an object has of one label. Where two objects of one kind share pixels, both get them. Outlines
    of parts and of objects were drawn apart: what a connected piece has outside of all objects of its kind goes to the
    one that holds most of the piece.

    Args:
        objects: (name, (H, W)), none empty.
        part_map: (H, W) labels.
        found: labels that the map has.

    Returns:
        The objects with their parts, and the pieces that touch no object of their kind, of at least `MIN_AREA` pixels
        and one for each label.
    """
    parts: list[list[Region]] = [[] for _ in objects]
    loose: list[Region] = []
    for label in found:
        rows = [row for row, (name, _) in enumerate(objects) if name == labels[label].owner]
        shares, rest = _shares(part_map == label, [objects[row][1] for row in rows])
        for row, share in zip(rows, shares, strict=True):
            if share.any():
                parts[row].append(region_from_mask(labels[label].name, share))
        rest = drop_specks(rest, MIN_AREA)
        if rest.any():
            loose.append(region_from_mask(labels[label].name, rest))
    regions = (region_from_mask(name, mask, tuple(own)) for (name, mask), own in zip(objects, parts, strict=True))
    return tuple(regions), tuple(loose)


def _shares(part: Mask, masks: Sequence[Mask]) -> tuple[list[Mask], Mask]:
    """What each object gets of a part, and what none gets."""
    shares = [part & mask for mask in masks]
    rest = part & ~np.logical_or.reduce(shares) if shares else part
    if not shares or not rest.any():
        return shares, rest
    lost = np.zeros_like(part)
    for piece in split_components(part, 1):
        outside = piece & rest
        held = [int((piece & mask).sum()) for mask in masks]
        if max(held):
            shares[held.index(max(held))] |= outside
        else:
            lost |= outside
    return shares, lost


def map_categories(objects: Sequence[str], labels: Sequence[PartLabel]) -> list[dict[str, Any]]:
    """COCO categories: the objects in the order given, then those labels that belong to one of them; ids from 1."""
    levels = [(name, "object") for name in objects]
    levels += [(label.name, "part") for label in labels if label.owner in objects]
    return [{"id": number, "name": name, "level": level} for number, (name, level) in enumerate(levels, start=1)]


def write_maps(
    images: Sequence[AnnotatedImage],
    prefix: Path,
    split: str,
    *,
    vocabulary: str,
    objects: Sequence[str],
    notes: Mapping[str, int],
    arguments: argparse.Namespace,
) -> Iterator[str]:
    """`PREFIX_joint_SPLIT.json`, and of the training split the base objects alone; lines as of `write_named`."""
    labels = part_labels(vocabulary)
    file = prefix.with_name(f"{prefix.name}_joint_{split}.json")
    categories = map_categories(objects, labels)
    yield from write_named(images, file, categories, f"{vocabulary}, objects and parts", notes, arguments)
    if split == "train":
        base = [name for name in objects if name in split_objects(vocabulary, "base")]
        left = without_objects(images, split_objects(vocabulary, "novel"))
        file = prefix.with_name(f"{prefix.name}_base_train.json")
        categories = map_categories(base, labels)
        yield from write_named(left, file, categories, f"{vocabulary}, base objects and parts", notes, arguments)
