"""The run lengths of Label Studio's brush: RGBA bytes by rows, packed bit by bit (the `rle-pack` of thi.ng).

A header says the number of bytes (32 bits), the bits of a byte less one (5), and four widths less one (4 bits each).
Then come blocks: one bit (1: one value repeated; 0: values as they are), two bits for the width to use, the length
less one in that width, and the value or values.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_WIDTHS = (3, 4, 8, 16)
_HEADER = 32 + 5 + 4 * len(_WIDTHS)


def pack(mask: NDArray[np.bool_]) -> list[int]:
    """(H, W) -> bytes."""
    flat = mask.ravel()
    borders = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    starts = [0, *borders.tolist(), flat.size]
    bits = [f"{4 * flat.size:032b}", f"{7:05b}", *(f"{width - 1:04b}" for width in _WIDTHS)]
    for start, end in pairwise(starts):
        value = f"{255 * int(flat[start]):08b}"
        rest = 4 * (end - start)
        while rest:
            length = min(rest, 1 << _WIDTHS[-1])
            which = next(i for i, width in enumerate(_WIDTHS) if length <= 1 << width)
            bits.append(f"1{which:02b}{length - 1:0{_WIDTHS[which]}b}{value}")
            rest -= length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return np.packbits(np.frombuffer(text.encode(), np.uint8) - ord("0")).tolist()  # type: ignore[no-any-return]


def unpack(packed: list[int], height: int, width: int) -> NDArray[np.bool_]:
    """Bytes -> (height, width), where the brush is not transparent.

    Raises:
        ValueError: for bytes of another image size, of another form, or that end too early.
    """
    if not isinstance(packed, list) or not all(type(value) is int and 0 <= value < 256 for value in packed):
        raise ValueError("its `rle` must be a list of bytes (0 to 255)")
    bits = np.unpackbits(np.array(packed, np.uint8))
    text = (bits + ord("0")).tobytes().decode("ascii")
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > len(text):
            raise ValueError("its `rle` ends too early")
        value = int(text[at : at + count], 2)
        at += count
        return value

    total, word = take(32), take(5) + 1
    widths = [take(4) + 1 for _ in _WIDTHS]
    if total != 4 * height * width or word != 8:
        raise ValueError(
            f"its `rle` holds {total} values of {word} bits, not 4 of 8 bits for each of {width} x {height} pixels"
        )
    out = np.zeros(total, np.uint8)
    filled = 0
    while filled < total:
        repeated = take(1)
        length = min(take(widths[take(2)]) + 1, total - filled)
        if repeated:
            out[filled : filled + length] = take(8)
        else:
            if at + 8 * length > len(text):
                raise ValueError("its `rle` ends too early")
            out[filled : filled + length] = np.packbits(bits[at : at + 8 * length])
            at += 8 * length
        filled += length
    return out.reshape(height, width, 4)[..., 3] > 0
