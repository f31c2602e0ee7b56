"""Which masks of SA-1B are objects, which are parts, and of what. N masks of one image, H x W its size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

STEP = 8  # masks are compared at 1/8 of their size: every eighth pixel of every eighth row
OVERLAP = 0.5


class Hierarchy(NamedTuple):
    """Levels of the N masks."""

    is_part: NDArray[np.bool_]  # (N,)
    parent: NDArray[np.int64]  # (N,) row of the mask that a part lies in, an object or another part; -1 for none


def hierarchy(masks: NDArray[np.bool_], areas: Sequence[float] | NDArray[np.floating[Any]]) -> Hierarchy:
    """PartGLEE's rule for the levels, and ours for the parents.

    A mask is a part if some mask of larger area overlaps it by 0.5, where overlap is the largest of IoU and the two
    shares of the intersection in the masks. That larger mask may itself be a part. The parent of a part is the smallest
    larger mask that holds half of it or more. Of masks of equal area the first counts as larger.

    Args:
        masks: (N, h, w) at the size of the comparison, see `shrink`.
        areas: (N,) pixels at full size.
    """
    if not len(masks):
        return Hierarchy(np.zeros(0, bool), np.zeros(0, np.int64))
    order = np.argsort(-np.asarray(areas, np.float64), kind="stable")
    flat = masks.reshape(len(masks), -1)[order].astype(np.float32)
    inter = np.triu(flat @ flat.T, k=1)  # [larger, smaller] pixels, exact below 2**24
    pixels = flat.sum(1)
    # The largest of IoU and both shares is the share of the mask with fewer pixels. A mask that vanishes at this size
    # has no overlap with anything and counts as an object.
    overlap = (inter > 0) & (inter >= OVERLAP * np.minimum(pixels[:, None], pixels[None]))
    holds = (inter > 0) & (inter >= OVERLAP * pixels[None])
    smallest = len(order) - 1 - holds[::-1].argmax(0)  # the last row that holds the mask
    is_part = np.zeros(len(order), bool)
    parent = np.full(len(order), -1, np.int64)
    is_part[order] = overlap.any(0)
    parent[order] = np.where(holds.any(0) & overlap.any(0), order[smallest], -1)
    return Hierarchy(is_part, parent)


def shrink(segmentation: dict[str, Any]) -> NDArray[np.bool_]:
    """(H // 8, W // 8) of a compressed run-length mask, by the nearest pixel."""
    height, width = segmentation["size"]
    small = rle.decode(segmentation)[::STEP, ::STEP][: height // STEP, : width // STEP]
    return small.astype(bool)  # type: ignore[no-any-return, unused-ignore]
