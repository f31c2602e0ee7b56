"""Masks as annotations and predictions have them, and the one gate to pycocotools: polygons and run lengths.

H x W the image, P polygons, R masks, C characters, V numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

RLE = dict[str, Any]  # {"size": [H, W], "counts": bytes}
MASKS_AT_ONCE = 250  # pycocotools 2.0.11 fails under numpy 2 for more than 255 (it puts the number into a uint8)
_CHARACTERS = bytes(range(48, 112))
_MORE = 48 + 32  # characters from here on have another one after them
_LONGEST = 8  # characters of a number: 40 bits


def encode_segmentation(segmentation: Any, size: tuple[int, int], *, what: str) -> RLE:
    """Polygons, uncompressed or compressed run lengths -> compressed run lengths (counts as bytes).

    The one gate to pycocotools, which reads and writes beside its memory when numbers are not what it expects. Polygons
    that `polygon_faults` names are left out beside good ones; what lies partly outside of the image is cut off.

    Args:
        size: height and width of the image; (0, 0) = unknown: then run lengths say it, and polygons have no mask.

    Raises:
        ValueError: when there is none, it is malformed, or it is not of the image's size.
    """
    height, width = (int(side) for side in size)
    if segmentation is None or (isinstance(segmentation, (list, tuple)) and len(segmentation) == 0):
        raise ValueError(f"{what} has no segmentation; score boxes only, or write masks")
    if isinstance(segmentation, Mapping):
        return _encode_runs(segmentation, (height, width), what)
    if height < 1 or width < 1:
        raise ValueError(f"{what} has polygons, but the file does not say how large its image is")
    if height * width > MAX_PIXELS:
        raise ValueError(f"{what}: an image of {height} x {width} pixels is too large for masks; cut it into tiles")
    polygons, fault = usable_polygons(segmentation, (height, width), what=what)
    if not polygons:
        raise ValueError(f"{what} has only polygons {fault}")
    return rle.merge(rle.frPyObjects(polygons, height, width))  # type: ignore[no-any-return, unused-ignore]


def decode(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """(H, W) bool mask of polygons (pixels of the image) or COCO run lengths.

    Raises:
        ValueError: when there is none, it is malformed, or it is not of the size (height, width).
    """
    return rle.decode(encode_segmentation(segmentation, (height, width), what="the instance")).astype(bool)


def encode(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """(H, W) bool to run lengths {"size", "counts"} whose counts are text, as JSON takes them."""
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}


def is_finite(value: Any) -> bool:
    """Whether something is a number that is neither NaN nor infinite."""
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):  # None or text; a whole number beyond all floats
        return False


# -- polygons --------------------------------------------------------------------------------------------------------

FEW, NOT_FINITE, FAR, LONG, FLAT = range(1, 6)
POLYGON_FAULTS = {
    FEW: "of less than three points, or with an odd number of numbers",
    NOT_FINITE: "with numbers that are not finite",
    FAR: "that reach more than one image side outside of the image",
    LONG: "whose outline is longer than any image needs",
    FLAT: "without area",
}
MAX_PIXELS = 1 << 28  # of a mask: 256 MB when it is decoded
_MAX_OUTLINE = 1 << 21  # pixels; pycocotools takes about 100 bytes for each
_FURTHEST = 1 << 17  # where the image's size is unknown


def polygon_faults(
    coordinates: NDArray[np.floating[Any]], starts: NDArray[np.int64], lengths: NDArray[np.int64], sizes: NDArray[Any]
) -> NDArray[np.int8]:
    """(P,) what is wrong with each polygon (`POLYGON_FAULTS`), 0 for nothing.

    Args:
        coordinates: x, y, x, y, ... of all polygons.
        starts, lengths: (P,) first number of each, and how many.
        sizes: (P, 2) height and width of their images, 0 where unknown.
    """
    faults = np.where((lengths >= 6) & (lengths % 2 == 0), 0, FEW).astype(np.int8)
    rows = np.flatnonzero(faults == 0)
    if not len(rows):
        return faults
    points = lengths[rows] // 2
    first = np.concatenate([[0], np.cumsum(points)[:-1]])
    owner = np.repeat(np.arange(len(rows)), points)
    place = np.arange(len(owner)) - first[owner]
    at = starts[rows][owner] + 2 * place
    following = starts[rows][owner] + 2 * ((place + 1) % points[owner])
    # Relative to the polygon's first point: float32 coordinates of a thin polygon would cancel otherwise.
    x0, y0 = (coordinates[starts[rows] + axis].astype(np.float64)[owner] for axis in (0, 1))
    with np.errstate(invalid="ignore", over="ignore"):
        x, y = coordinates[at].astype(np.float64), coordinates[at + 1].astype(np.float64)
        next_x, next_y = coordinates[following] - x0, coordinates[following + 1] - y0
        finite = np.logical_and.reduceat(np.isfinite(x) & np.isfinite(y), first)
        high = np.where(sizes[rows] > 0, 2 * sizes[rows], _FURTHEST)  # (height, width)
        low = np.where(sizes[rows] > 0, -sizes[rows], -_FURTHEST)
        near = np.logical_and.reduceat(
            (y >= low[owner, 0]) & (y <= high[owner, 0]) & (x >= low[owner, 1]) & (x <= high[owner, 1]), first
        )
        x, y = x - x0, y - y0
        outline = np.add.reduceat(np.maximum(abs(next_x - x), abs(next_y - y)), first)
        # Triangles with the first point, each by itself: the halves of an hourglass would cancel.
        area = np.add.reduceat(abs(x * next_y - y * next_x), first)
    known = (sizes[rows] > 0).all(1)
    longest = np.where(known, np.minimum(8 * sizes[rows].astype(np.float64).prod(1) + 4096, _MAX_OUTLINE), _MAX_OUTLINE)
    faults[rows] = np.select([~finite, ~near, outline > longest, ~(area > 0)], [NOT_FINITE, FAR, LONG, FLAT], default=0)
    return faults


def usable_polygons(
    polygons: Any, size: tuple[int, int], *, what: str, anywhere: bool = False
) -> tuple[list[list[float]], str]:
    """Polygons that can be drawn, and what is wrong with the first other one ("" for nothing).

    Args:
        size: height and width of the image, (0, 0) = unknown.
        anywhere: they come from an image through a crop, so that they may lie far outside of what is drawn.

    Raises:
        ValueError: for something that is no list of lists of numbers.
    """
    if not isinstance(polygons, (list, tuple)) or not all(isinstance(p, (list, tuple, np.ndarray)) for p in polygons):
        raise ValueError(f"{what} has a segmentation that is neither polygons nor run lengths: {polygons!s:.60}")
    usable: list[list[float]] = []
    fault = ""
    for polygon in polygons:
        if not all(isinstance(v, (int, float, np.integer, np.floating)) and not isinstance(v, bool) for v in polygon):
            raise ValueError(f"{what} has a polygon that is no flat list of numbers: {polygon!s:.60}")
        numbers = np.array([v if is_finite(v) else math.nan for v in polygon], np.float64)
        sides = (
            np.zeros((1, 2), np.int64) if anywhere else np.array([[min(int(side), 1 << 31) for side in size]], np.int64)
        )
        wrong = int(polygon_faults(numbers, np.zeros(1, np.int64), np.array([len(numbers)]), sides)[0])
        if wrong:
            fault = fault or POLYGON_FAULTS[wrong]
        else:
            usable.append(numbers.tolist())
    return usable, fault


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
    sizes = np.fromiter(map(len, counts), np.int64, len(counts))
    return _runs_of(np.frombuffer(b"".join(counts), np.uint8), sizes)


def _runs_of(text: NDArray[np.uint8], sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
    """The same of (C,) characters, of which each mask has so many."""
    codes = text - np.uint8(48)
    end = np.flatnonzero(codes < 32)  # (V,) last character of each number
    length = np.diff(end, prepend=-1)
    runs = (((codes[end] & 31).astype(np.int64)) ^ 16) - 16
    for k in range(1, int(length.max())):
        longer = np.flatnonzero(length > k)
        runs[longer] = (runs[longer] << 5) | (codes[end[longer] - k] & 31)
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


def run_length_areas(text: NDArray[np.uint8], sizes: NDArray[np.int64], pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R,) pixels that each mask has, -1 for one that `damaged_run_lengths` names.

    Args:
        text: compressed run lengths of all masks, one after the other.
        sizes: (R,) characters of each.
        pixels: (R,) numbers of pixels that each must cover, set or not.
    """
    if not len(sizes):
        return np.zeros(0, np.int64)
    ends = np.cumsum(sizes)
    if (sizes <= 0).any() or text.min() < 48 or text.max() >= 112 or (text[ends - 1] >= _MORE).any() or _too_long(text):
        whole = text.tobytes()
        counts = [whole[end - size : end] for end, size in zip(ends.tolist(), sizes.tolist(), strict=True)]
        damaged = damaged_run_lengths(counts, pixels.tolist())
        sound = np.array([row for row in range(len(counts)) if row not in damaged], np.int64)
        areas = np.full(len(sizes), -1, np.int64)
        if len(sound):
            kept = np.frombuffer(b"".join(counts[row] for row in sound.tolist()), np.uint8)
            areas[sound] = run_length_areas(kept, sizes[sound], pixels[sound])
        return areas
    runs, starts = _runs_of(text, sizes)
    totals, least = np.add.reduceat(runs, starts), np.minimum.reduceat(runs, starts)
    place = np.arange(len(runs)) - np.repeat(starts, np.diff(np.append(starts, len(runs))))
    areas = np.add.reduceat(runs * (place & 1), starts)  # runs of set pixels are every second
    return np.where((totals == pixels) & (least >= 0), areas, -1)


def _too_long(text: NDArray[np.uint8]) -> bool:
    return bool(np.diff(np.flatnonzero(text < _MORE), prepend=-1).max(initial=0) > _LONGEST)


def wrong_run_list(counts: Sequence[Any], pixels: int) -> str | None:
    """What is wrong with uncompressed run lengths, None when nothing is."""
    if not all(isinstance(run, (int, np.integer)) and not isinstance(run, bool) and run >= 0 for run in counts):
        return "its run lengths must be whole numbers of at least 0"
    if (covered := sum(map(int, counts))) != pixels:
        return f"its run lengths cover {covered if covered < 1 << 62 else 'far more'} pixels, the image has {pixels}"
    return None


def run_length_fault(segmentation: Mapping[str, Any]) -> str | None:
    """What is wrong with run lengths, None when they cover the size that they say exactly."""
    try:
        mask = read_runs(segmentation)
    except ValueError as error:
        return str(error)
    return damaged_run_lengths([mask["counts"]], [mask["size"][0] * mask["size"][1]]).get(0)


def read_runs(segmentation: Mapping[str, Any]) -> RLE:
    """Run lengths, compressed. Those that are so already are not looked at: `damaged_run_lengths` takes many at once.

    Raises:
        ValueError: for a size or counts of another kind, and for a list that does not cover the size exactly.
    """
    said, counts = segmentation.get("size"), segmentation.get("counts")
    if type(counts) is str and type(said) is list and len(said) == 2 and {type(side) for side in said} == {int}:
        height, width = said  # the usual case, of which there can be a million
        if height >= 1 and width >= 1 and height * width <= MAX_PIXELS:
            return {"size": [height, width], "counts": counts.encode()}
    if not isinstance(said, (list, tuple)) or len(said) != 2 or not all(_is_side(side) for side in said):
        raise ValueError(f"its run lengths need a size of two whole numbers, height and width, got {said!s:.40}")
    height, width = int(said[0]), int(said[1])
    if height * width > MAX_PIXELS:
        raise ValueError(f"its run lengths say a size of {height} x {width}, more than a mask may have")
    if isinstance(counts, list):
        if fault := wrong_run_list(counts, height * width):
            raise ValueError(fault)
        return rle.frPyObjects({"size": [height, width], "counts": counts}, height, width)  # type: ignore[no-any-return, unused-ignore]
    if not isinstance(counts, (str, bytes)):
        raise ValueError(f"its run lengths are {type(counts).__name__}, not text or a list")
    return {"size": [height, width], "counts": counts.encode() if isinstance(counts, str) else counts}


def _is_side(value: Any) -> bool:
    return is_finite(value) and not isinstance(value, bool) and value >= 1 and int(value) == value


def _encode_runs(segmentation: Mapping[str, Any], size: tuple[int, int], what: str) -> RLE:
    try:
        mask = read_runs(segmentation)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    height, width = mask["size"]
    if size != (0, 0) and (height, width) != size:
        raise ValueError(f"{what} has a mask of size {(height, width)}, but the image is {size} (height, width)")
    if fault := damaged_run_lengths([mask["counts"]], [height * width]).get(0):
        raise ValueError(f"{what}: {fault}")
    return mask
