"""Masks as files have them: polygons and run lengths (`partglee.basics.masks`), and label maps, grey PNG files whose
pixels are labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.basics.masks import (
    FAR,
    FEW,
    FLAT,
    LONG,
    MAX_PIXELS,
    NOT_FINITE,
    POLYGON_FAULTS,
    RLE,
    damaged_run_lengths,
    decode,
    encode_segmentation,
    is_finite,
    polygon_faults,
    read_runs,
    run_length_fault,
    run_list,
    usable_polygons,
    wrong_run_list,
)
from partglee.data.images import DAMAGE, check_png, open_image

_MAX_LABELS = 60_000_000  # pixels of a label map, which takes 8 bytes for each and more while it is read

__all__ = [
    "FAR",
    "FEW",
    "FLAT",
    "LONG",
    "MAX_PIXELS",
    "NOT_FINITE",
    "POLYGON_FAULTS",
    "RLE",
    "damaged_run_lengths",
    "decode",
    "encode_segmentation",
    "is_finite",
    "label_files",
    "labels_in",
    "polygon_faults",
    "read_label_map",
    "read_runs",
    "run_length_fault",
    "run_list",
    "usable_polygons",
    "wrong_run_list",
]

# -- label maps ------------------------------------------------------------------------------------------------------


def read_label_map(file: Path) -> NDArray[np.int64]:
    """(H, W) labels as they are stored; the ignore value is not interpreted.

    Raises:
        ValueError: for a file that is missing, damaged, in colour, or of more than 60 million pixels.
    """
    if not file.is_file():
        raise ValueError(f"{file} is not a readable label map (there is no such file); write or download it again")
    try:
        with open_image(file, max_pixels=_MAX_LABELS, what=f"label map {file}") as image:
            mode = image.mode
            check_png(file)
            image.load()
            labels: NDArray[Any] = np.asarray(image)
    except (*DAMAGE, ValueError) as error:
        raise ValueError(f"{file} is not a readable label map ({error}); write or download it again") from error
    if labels.ndim != 2 or mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise ValueError(
            f"{file} must be a grey PNG of 8 or 16 bits whose pixels are labels, got mode {mode}; write one number a "
            "pixel, no colours"
        )
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
    values = [int(value) for value in np.unique(labels) if value != ignore]
    if wrong := [value for value in values if not 0 <= value < count]:
        raise ValueError(f"{file} has labels {wrong[:5]}, but should have 0 to {count - 1} and {ignore} for none")
    return values
