"""Polygons and run lengths to masks.

N instances, H x W the image, h x w the crop that a sample shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

RLE = dict[str, Any]  # {"size": [H, W], "counts": bytes}


def encode_segmentation(segmentation: Any, size: tuple[int, int], *, what: str) -> RLE:
    """Polygons, uncompressed or compressed run lengths -> compressed run lengths (counts as bytes).

    Raises:
        ValueError: when there is none, it is malformed, or it is not of the image's size (height, width).
    """
    height, width = (int(side) for side in size)
    if segmentation is None or (not isinstance(segmentation, Mapping) and len(segmentation) == 0):
        raise ValueError(f"{what} has no segmentation; score boxes only, or write masks")
    if isinstance(segmentation, Mapping):
        found = tuple(int(side) for side in segmentation["size"])
        if (height, width) != (0, 0) and found != (height, width):
            raise ValueError(f"{what} has a mask of size {found}, but the image is {(height, width)} (height, width)")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            return rle.frPyObjects({"size": list(found), "counts": counts}, *found)  # type: ignore[no-any-return, unused-ignore]
        if isinstance(counts, str):
            counts = counts.encode("ascii")
        return {"size": list(found), "counts": counts}
    if height < 1 or width < 1:
        raise ValueError(f"{what} has polygons, but the file does not say how large its image is")
    polygons = [list(polygon) for polygon in segmentation if len(polygon) >= 6]
    if not polygons:
        raise ValueError(f"{what} has only polygons of less than three points")
    return rle.merge(rle.frPyObjects(polygons, height, width))  # type: ignore[no-any-return, unused-ignore]


def decode(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) bool mask of polygons (pixels of the image) or COCO run lengths.

    Raises:
        ValueError: when there is none, it is malformed, or it is not of the size (height, width).
    """
    return rle.decode(encode_segmentation(segmentation, (height, width), what="the instance")).astype(bool)
