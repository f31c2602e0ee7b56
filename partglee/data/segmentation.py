"""Masks as files have them: polygons, run lengths, and label maps (grey PNG files whose pixels are labels).

H x W the image, R masks, C characters, V numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

RLE = dict[str, Any]  # {"size": [H, W], "counts": bytes}
_CHARACTERS = bytes(range(48, 112))
_MORE = 48 + 32  # characters from here on have another one after them
_LONGEST = 8  # characters of a number: 40 bits


def encode_segmentation(segmentation: Any, size: tuple[int, int], *, what: str) -> RLE:
    """Polygons, uncompressed or compressed run lengths -> compressed run lengths (counts as bytes).

    Raises:
        ValueError: when there is none, it is malformed, or it is not of the image's size (height, width).
    """
    height, width = (int(side) for side in size)
    if segmentation is None or (not isinstance(segmentation, Mapping) and len(segmentation) == 0):
        raise ValueError(f"{what} has no segmentation; score boxes only, or write masks")
    if isinstance(segmentation, Mapping):
        said = tuple(int(side) for side in segmentation["size"])
        if (height, width) != (0, 0) and said != (height, width):
            raise ValueError(f"{what} has a mask of size {said}, but the image is {(height, width)} (height, width)")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            return rle.frPyObjects({"size": list(said), "counts": counts}, *said)  # type: ignore[no-any-return, unused-ignore]
        if isinstance(counts, str):
            counts = counts.encode("ascii")
        return {"size": list(said), "counts": counts}
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


# -- run lengths -----------------------------------------------------------------------------------------------------
# Compressed, a number is written in groups of five bits, lowest first, as characters from "0" on; 32 in a character's
# value says that more follow, 16 in the last one that the number is negative. From the fourth on, numbers are relative
# to the last but one. The COCO tools do not look whether run lengths say what they must: characters that are none of
# the format and runs that are too short or too long give some mask, and so some number.


def run_list(counts: Any) -> NDArray[np.int64]:
    """(V,) run lengths of one mask, from text or from a list of numbers.

    Raises:
        ValueError, TypeError, OverflowError: when they are neither, or cannot be read.
    """
    if isinstance(counts, list):
        return np.array(counts, dtype=np.int64)
    if not isinstance(counts, str):
        raise ValueError(f"counts are {type(counts).__name__}, not text or a list")
    text = counts.encode("utf-8")
    if wrong := _unreadable(text):
        raise ValueError(wrong)
    return _runs([text])[0]


def damaged_run_lengths(counts: Sequence[bytes], pixels: Sequence[int]) -> dict[int, str]:
    """Masks that are damaged, and how.

    Args:
        counts: R compressed run lengths.
        pixels: R numbers of pixels that each must cover.

    Returns:
        {position: what is wrong}.
    """
    damaged: dict[int, str] = {}
    if not all(counts) or _unreadable(b"".join(counts)) or any(entry[-1] >= _MORE for entry in counts):
        damaged = {i: what for i, entry in enumerate(counts) if (what := _unreadable(entry))}
    sound = [i for i in range(len(counts)) if i not in damaged]
    if not sound:
        return damaged
    runs, starts = _runs([counts[i] for i in sound])
    totals = np.add.reduceat(runs, starts)
    negative = np.minimum.reduceat(runs, starts) < 0
    expected = np.array([pixels[i] for i in sound], np.int64)
    for place in np.flatnonzero(negative | (totals != expected)).tolist():
        damaged[sound[place]] = (
            "one of its run lengths is negative"
            if negative[place]
            else f"its run lengths cover {totals[place]} pixels, the image has {expected[place]}"
        )
    return damaged


def _unreadable(entry: bytes) -> str | None:
    if not entry:
        return "its run lengths are empty"
    if entry.translate(None, _CHARACTERS):
        return "its run lengths hold a character that is none of the format"
    if entry[-1] >= _MORE:
        return "its run lengths end inside a number"
    end = np.flatnonzero(np.frombuffer(entry, np.uint8) < _MORE)
    if np.diff(end, prepend=-1).max() > _LONGEST:
        return "its run lengths hold a number that no image needs"
    return None


def _runs(counts: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """(V,) run lengths, and where those of each of the R masks start."""
    codes = np.frombuffer(b"".join(counts), np.uint8) - np.uint8(48)  # (C,)
    end = np.flatnonzero(codes < 32)  # (V,) last character of each number
    length = np.diff(end, prepend=-1)
    runs = (((codes[end] & 31).astype(np.int64)) ^ 16) - 16
    for k in range(1, int(length.max())):
        longer = np.flatnonzero(length > k)
        runs[longer] = (runs[longer] << 5) | (codes[end[longer] - k] & 31)
    sizes = np.fromiter(map(len, counts), np.int64, len(counts))
    starts = np.searchsorted(end, np.append(0, np.cumsum(sizes)[:-1]))
    own = runs[starts].copy()  # the first number of a mask stands alone
    runs[starts] = 0
    borders = np.append(starts, len(runs))
    for parity in (0, 1):  # a mask's odd and even numbers are two sums each
        chain = runs[parity::2]
        np.cumsum(chain, out=chain)
        at = (borders - parity + 1) // 2  # where each mask begins in the chain
        before = np.where(at[:-1] > 0, chain[np.maximum(at[:-1] - 1, 0)] if len(chain) else 0, 0)
        chain -= np.repeat(before, np.diff(at))
    runs[starts] = own
    return runs, starts


def wrong_run_list(counts: Sequence[Any], pixels: int) -> str | None:
    """What is wrong with uncompressed run lengths, None when nothing is."""
    if not all(isinstance(run, (int, np.integer)) and run >= 0 for run in counts):
        return "its run lengths must be whole numbers of at least 0"
    if sum(counts) != pixels:
        return f"its run lengths cover {sum(counts)} pixels, the image has {pixels}"
    return None


# -- label maps ------------------------------------------------------------------------------------------------------


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
