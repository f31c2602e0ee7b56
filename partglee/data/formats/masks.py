"""Masks between tools: polygons, crops of pixels with a place, run lengths of the whole image.

H, W: size of the image; h, w: size of a crop.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.prepare.regions import Region
from partglee.data.segmentation import decode, usable_polygons

Box = tuple[float, float, float, float]
_ROUND = 64  # points of a circle or an ellipse


def outlines(polygons: Sequence[Sequence[float]], size: tuple[int, int], notes: Counter[str]) -> tuple[Any, Box] | None:
    """(polygons that can be drawn, box xywh around them); None, with a note, when there is none.

    Raises:
        ValueError: for something that is no list of lists of numbers.
    """
    usable, fault = usable_polygons([list(polygon) for polygon in polygons], size, what="the shape")
    if fault:
        notes[f"polygons {fault} (left out)"] += 1
    if not usable:
        return None
    points = np.array([value for polygon in usable for value in polygon], np.float64).reshape(-1, 2)
    (x0, y0), (x1, y1) = points.min(0).tolist(), points.max(0).tolist()
    return usable, (x0, y0, x1 - x0, y1 - y0)


def pixels(crop: NDArray[np.bool_], left: int, top: int, size: tuple[int, int]) -> tuple[Any, Box] | None:
    """(run lengths of the whole image, box xywh) of a crop (h, w) at a place; None for one without a pixel inside.

    Raises:
        ValueError: when the size of the image is not known.
    """
    if 0 in size:
        raise ValueError("a mask needs the size of its image, which the file does not say")
    whole = np.zeros(size, np.uint8, order="F")
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + crop.shape[0], size[0]), min(left + crop.shape[1], size[1])
    if y0 < y1 and x0 < x1:
        whole[y0:y1, x0:x1] = crop[y0 - top : y1 - top, x0 - left : x1 - left]
    if not whole.any():
        return None
    encoded = rle.encode(whole)
    x, y, w, h = (float(value) for value in rle.toBbox(encoded))
    return {"size": list(size), "counts": encoded["counts"].decode("ascii")}, (x, y, w, h)


def crop_of(region: Region, size: tuple[int, int]) -> tuple[NDArray[np.bool_], int, int] | None:
    """((h, w) mask, left, top) of a region's segmentation, as small as it may be; None without a pixel."""
    mask = decode(region.segmentation, *size)
    y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(y):
        return None
    top, left = int(y[0]), int(x[0])
    return mask[top : y[-1] + 1, left : x[-1] + 1], left, top


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float = 0.0) -> list[float]:
    """A polygon of 64 points, x, y, x, y, ..., turned clockwise around its centre."""
    angle = np.linspace(0, 2 * math.pi, _ROUND, endpoint=False)
    return _turned(rx * np.cos(angle), ry * np.sin(angle), (cx, cy), degrees)


def rectangle(x: float, y: float, w: float, h: float, degrees: float, pivot: tuple[float, float]) -> list[float]:
    """The corners of a box (xywh) that is turned clockwise around a point."""
    corners = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]) - pivot
    return _turned(corners[:, 0], corners[:, 1], pivot, degrees)


def _turned(x: NDArray[Any], y: NDArray[Any], centre: tuple[float, float], degrees: float) -> list[float]:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    points = np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], axis=1)
    return points.ravel().tolist()  # type: ignore[no-any-return]


def run_pixels(runs: Sequence[int], height: int, width: int, first: bool = False) -> NDArray[np.bool_]:
    """(height, width) mask of run lengths by rows, beginning with unset pixels.

    Raises:
        ValueError: when they do not cover the mask exactly.
    """
    lengths = np.array(runs, np.int64)
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != height * width:
        raise ValueError(f"its run lengths do not cover {width} x {height} pixels exactly")
    values = (np.arange(len(lengths)) % 2).astype(bool) ^ first
    return np.repeat(values, lengths).reshape(height, width)


def pixel_runs(mask: NDArray[np.bool_]) -> list[int]:
    """The run lengths of a mask by rows, beginning with unset pixels (0 when the first one is set)."""
    flat = mask.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    runs = np.diff([0, *borders.tolist(), flat.size]).tolist()
    return [0, *runs] if flat.size and flat[0] else runs
