"""Whether compressed COCO run lengths say what they must: numbers that decode, and as many pixels as the image has.

The COCO tools do not look: characters that are none of the format and runs that are too short or too long give some
mask, and so some number. R masks, C characters, V numbers.

A number is written in groups of five bits, lowest first, as characters from "0" on; 32 in a character's value says
that more follow, 16 in the last one that the number is negative. From the fourth on, numbers are relative to the last
but one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_CHARACTERS = bytes(range(48, 112))
_MORE = 48 + 32  # characters from here on have another one after them
_LONGEST = 8  # characters of a number: 40 bits


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
