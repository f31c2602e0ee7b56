"""The colour of a thing as a word, measured from its pixels; None where people would not agree.

N pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COLORS = ("black", "white", "grey", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink")
MIN_SHARE = 0.5  # of the pixels that must have the colour ...
MIN_LEAD = 1.6  # ... and how many times as many as the next one

# Hue in degrees from which on a word holds; the words of the gaps between them are not agreed on.
_HUES = (
    (0, 12, "red"), (18, 42, "orange"), (48, 68, "yellow"), (78, 160, "green"), (195, 252, "blue"),
    (262, 290, "purple"), (300, 338, "pink"), (346, 361, "red"),
)  # fmt: skip


def name_colors(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(N,) place in `COLORS` of each of (N, 3) RGB pixels, -1 where no word is certain."""
    rgb = pixels.astype(np.float64) / 255
    value, low = rgb.max(1), rgb.min(1)
    spread = value - low
    saturation = np.where(value > 0, spread / np.maximum(value, 1e-9), 0)
    red, green, blue = rgb.T
    safe = np.where(spread > 0, spread, 1)
    hue = np.select(
        [spread == 0, value == red, value == green],
        [0 * value, (green - blue) / safe % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    hue = hue * 60 % 360
    named = np.full(len(rgb), -1)
    for begin, end, word in _HUES:
        named[(hue >= begin) & (hue < end)] = COLORS.index(word)
    dark = value < 0.6
    named[dark & np.isin(named, [COLORS.index("orange"), COLORS.index("yellow")])] = COLORS.index("brown")
    named[(saturation < 0.3) & (saturation >= 0.15)] = -1
    pale = saturation < 0.15
    named[pale] = COLORS.index("grey")
    named[pale & ((value >= 0.3) & (value < 0.38) | (value >= 0.72) & (value < 0.8))] = -1
    named[pale & (value >= 0.8)] = COLORS.index("white")
    named[value < 0.3] = -1
    named[(value < 0.3) & pale | (value < 0.2)] = COLORS.index("black")
    return named


def color_of(pixels: NDArray[np.uint8]) -> str | None:
    """The colour that most of (N, 3) RGB pixels have, when it is clear; None for N = 0."""
    named = name_colors(pixels)
    counts = np.bincount(named[named >= 0], minlength=len(COLORS))
    order = np.argsort(-counts, kind="stable")
    best, second = counts[order[0]], counts[order[1]]
    if best == 0 or best < MIN_SHARE * len(pixels) or best < MIN_LEAD * second:
        return None
    return COLORS[int(order[0])]
