"""Colours: a hue for each object, around it its parts, told apart from it and from each other."""

from __future__ import annotations

import colorsys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from partglee.structures import Prediction

Color = tuple[int, int, int]  # RGB, 0..255
Floats = NDArray[np.float64]

# Bright on photographs, neighbours far apart, the first eight told apart with the usual colour-vision deficiencies.
OBJECT_COLORS: tuple[Color, ...] = (
    (0, 158, 255), (255, 140, 0), (0, 190, 110), (236, 72, 153), (250, 204, 21),
    (139, 92, 246), (20, 200, 200), (239, 68, 68), (132, 204, 22), (217, 119, 87),
)  # fmt: skip
UNKNOWN_OBJECT: Color = (170, 170, 170)  # parts whose object is not known

_HUE_RANGE = 0.12  # turns to either side of an object's hue in which its parts lie
_MANY = 48  # shades of one object before they repeat


def row_colors(prediction: Prediction) -> list[Color]:
    """A colour for each row. Parts of one name under one object share one; no part has the colour of its object."""
    colors = [UNKNOWN_OBJECT] * len(prediction)
    groups = [(row, prediction.parts_of(row)) for row in prediction.objects()]
    for i, (row, _) in enumerate(groups):
        colors[row] = object_color(i)
    groups.append((-1, prediction.parts_without_object()))
    for owner, parts in groups:
        base = UNKNOWN_OBJECT if owner < 0 else colors[owner]
        number: dict[str, int] = {}
        for row in parts:
            colors[row] = shade(base, number.setdefault(prediction.names[row], len(number)))
    return colors


def object_color(number: int) -> Color:
    """The colour of the `number`-th object, the best being the first; behind `OBJECT_COLORS` hues go on in golden
    sections of the circle, lighter and darker in turn, so that no two of the first hundred are equal."""
    if number < len(OBJECT_COLORS):
        return OBJECT_COLORS[number]
    step = number - len(OBJECT_COLORS)
    return _rgb((0.07 + step * 0.618033988749895) % 1, (0.38, 0.72, 0.55)[step % 3], (0.95, 0.75)[step % 2])


def shade(color: Color, number: int) -> Color:
    """The `number`-th of the colours around an object's own; the first ones are the farthest from it and each other."""
    return _shades(color)[number % _MANY]


@lru_cache(maxsize=256)
def _shades(color: Color) -> tuple[Color, ...]:
    """Colours near a hue, each as far as can be from the object's and from those before it, by CIE Lab."""
    hue, _, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in color))
    strengths = (1.0, 0.65) if saturation > 0.1 else (0.0, 0.18)
    found = [
        _rgb((hue + shift) % 1, lightness, strength)
        for shift in np.linspace(-_HUE_RANGE, _HUE_RANGE, 7)
        for lightness in np.linspace(0.34, 0.92, 10)
        for strength in strengths
    ]
    places = _lab(np.array(found, dtype=float))
    nearest = np.linalg.norm(places - _lab(np.array([color], dtype=float)), axis=1)
    chosen = []
    for _ in range(_MANY):
        row = int(nearest.argmax())
        chosen.append(found[row])
        nearest = np.minimum(nearest, np.linalg.norm(places - places[row], axis=1))
    return tuple(chosen)


def _rgb(hue: float, lightness: float, saturation: float) -> Color:
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, saturation)
    return round(red * 255), round(green * 255), round(blue * 255)


def _lab(colors: Floats) -> Floats:
    """(N, 3) sRGB in 0..255 -> (N, 3) CIE Lab, in which distances are what eyes see."""
    x = colors / 255
    linear = np.where(x > 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)
    xyz = linear @ np.array([[0.4124, 0.2126, 0.0193], [0.3576, 0.7152, 0.1192], [0.1805, 0.0722, 0.9505]])
    xyz /= np.array([0.9505, 1.0, 1.089])  # white of daylight
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab: Floats = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return lab


def text_color(background: Color) -> Color:
    """Black or white, whichever reads better on a background."""
    linear = [(channel / 255) ** 2.2 for channel in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)
