"""Masks of regions: arrays to run lengths and back, overlaps without decoding. N, M masks, H x W the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.annotate.sample import RunLengths
from partglee.basics.masks import encode as encode


def decode(mask: RunLengths) -> NDArray[np.bool_]:
    """Run lengths of ours to (H, W)."""
    found: NDArray[np.bool_] = rle.decode(_bytes(mask)).astype(bool)
    return found


def areas(masks: Sequence[RunLengths]) -> NDArray[np.float64]:
    """(N,) pixels."""
    return np.asarray(rle.area([_bytes(mask) for mask in masks]), np.float64).reshape(-1)


def intersections(masks: Sequence[RunLengths], others: Sequence[RunLengths]) -> NDArray[np.float64]:
    """(N, M) pixels that masks share, exact."""
    if not masks or not others:
        return np.zeros((len(masks), len(others)))
    # With `iscrowd` of the second, pycocotools divides by the area of the first alone.
    shares = rle.iou([_bytes(mask) for mask in masks], [_bytes(mask) for mask in others], [1] * len(others))
    inside: NDArray[np.float64] = np.rint(np.asarray(shares) * areas(masks)[:, None])
    return inside


def ious(masks: Sequence[RunLengths], others: Sequence[RunLengths]) -> NDArray[np.float64]:
    """(N, M) intersection over union; 0 for two empty masks."""
    inter = intersections(masks, others)
    union = areas(masks)[:, None] + areas(others)[None] - inter
    overlap: NDArray[np.float64] = inter / np.maximum(union, 1.0)
    return overlap


def union(masks: Sequence[RunLengths]) -> RunLengths:
    """All pixels of any."""
    merged = rle.merge([_bytes(mask) for mask in masks])
    return {"size": [int(side) for side in merged["size"]], "counts": merged["counts"].decode("ascii")}


def box_of(mask: RunLengths) -> tuple[float, float, float, float]:
    """xyxy around its pixels; zeros for an empty one."""
    x, y, w, h = (float(value) for value in rle.toBbox(_bytes(mask)))
    return x, y, x + w, y + h


def _bytes(mask: RunLengths) -> dict[str, Any]:
    return {"size": list(mask["size"]), "counts": str(mask["counts"]).encode("ascii")}
