"""Masks -> instances: run lengths, boxes, connected regions. H, W: size of the image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]
from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]

from partglee.data.segmentation import decode, usable_polygons

Mask = NDArray[np.bool_]

_EIGHT = np.ones((3, 3), dtype=bool)  # pixels that touch at a corner are connected


@dataclass(frozen=True, slots=True)
class Region:
    """One instance as the file will hold it."""

    name: str  # "object" or "object:part"
    box: tuple[float, float, float, float]  # xywh pixels
    area: float  # pixels
    segmentation: Any  # polygons, or run lengths with `counts` as text
    parts: tuple[Region, ...] = ()
    crowd: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)  # further fields of the annotation


def region_from_mask(name: str, mask: Mask, parts: tuple[Region, ...] = ()) -> Region:
    """An instance of a mask (H, W) that is not empty."""
    if not mask.any():
        raise ValueError(f"the mask of {name!r} is empty; leave the instance out")
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    x, y, w, h = (float(value) for value in rle.toBbox(encoded))
    segmentation = {"size": [int(s) for s in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
    return Region(name, (x, y, w, h), float(rle.area(encoded)), segmentation, parts)


def draw_polygons(polygons: Any, height: int, width: int, *, what: str = "an instance") -> Mask:
    """Polygons -> (H, W) mask by COCO's rule; those that cannot be drawn are left out.

    Raises:
        ValueError: for something that is no list of lists of numbers, said of `what`.
    """
    usable, _ = usable_polygons(polygons, (height, width), what=what)
    if not usable:
        return np.zeros((height, width), dtype=bool)
    return decode(usable, height, width)


def split_components(mask: Mask, min_area: int) -> list[Mask]:
    """Every connected region of at least `min_area` pixels, largest first."""
    labels, areas = _components(mask)
    order = np.argsort(-areas, kind="stable")
    return [labels == index + 1 for index in order if areas[index] >= min_area]


def split_pair(mask: Mask, min_area: int, min_share: float = 0.25) -> list[Mask]:
    """The two things of a pair, or one when they touch or one is hidden.

    The two largest connected regions are the pair when the second has at least `min_share` of the area of the first.
    Smaller regions (straps, what shows beside an occluder) join the one whose centre is nearer; below `min_area`
    pixels they are dropped.
    """
    labels, areas = _components(mask)
    order = [int(i) for i in np.argsort(-areas, kind="stable") if areas[i] >= min_area]
    if not order:
        return []
    seeds = order[:2] if len(order) > 1 and areas[order[1]] >= min_share * areas[order[0]] else order[:1]
    centres = np.array(ndimage.center_of_mass(mask, labels, [i + 1 for i in order]))
    distances = np.linalg.norm(centres[:, None] - centres[None, : len(seeds)], axis=-1)
    owner = distances.argmin(axis=1)
    owner[: len(seeds)] = np.arange(len(seeds))
    return [
        np.isin(labels, [index + 1 for index, home in zip(order, owner, strict=True) if home == seed])
        for seed in range(len(seeds))
    ]


def drop_specks(mask: Mask, min_area: int) -> Mask:
    """The mask without connected regions of less than `min_area` pixels."""
    labels, areas = _components(mask)
    keep = np.concatenate([[False], areas >= min_area])
    kept: Mask = keep[labels]
    return kept


def _components(mask: Mask) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    labels, count = ndimage.label(mask, structure=_EIGHT)
    return labels, np.bincount(labels.ravel(), minlength=count + 1)[1:]
