"""Masks as files have them: polygons, run lengths, and label maps (grey PNG files whose pixels are labels).

N instances, H x W the image, h x w the crop that a sample shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
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


def read_label_map(file: Path) -> NDArray[np.int64]:
    """(H, W) labels as they are stored; the ignore value is not interpreted.

    Raises:
        ValueError: for a file that is missing, damaged, or in colour.
    """
    try:
        with Image.open(file) as image:
            mode = image.mode
            labels: NDArray[Any] = np.asarray(image)
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ValueError(f"{file} is not a readable label map ({error}); download it again") from error
    if labels.ndim != 2 or mode not in ("L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(f"{file} must be a grey PNG of 8 or 16 bits whose pixels are labels, got mode {mode}")
    return labels.astype(np.int64)


def label_files(folder: Path) -> list[Path]:
    """PNG files of a folder, sorted, without what macOS leaves in archives (`._name.png`).

    Raises:
        ValueError: when there are none.
    """
    files = sorted(file for file in folder.rglob("*.png") if not file.name.startswith("._"))
    if not files:
        raise ValueError(f"no label maps (.png) in {folder}; is the folder of raw data the right one?")
    return files


def labels_in(labels: NDArray[np.int64], count: int, ignore: int, file: Path) -> list[int]:
    """Labels 0 .. count - 1 that a map has; ValueError for any other value than these and `ignore`."""
    found = [int(value) for value in np.unique(labels) if value != ignore]
    if wrong := [value for value in found if not 0 <= value < count]:
        raise ValueError(f"{file} has labels {wrong[:5]}, but should have 0 to {count - 1} and {ignore} for none")
    return found
