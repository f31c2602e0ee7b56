"""Colours: one hue for each object, shades of it for the object's parts."""

from __future__ import annotations

import colorsys

from partglee.structures import Prediction

Color = tuple[int, int, int]  # RGB, 0..255

# Bright on photographs, neighbours far apart, the first eight told apart with the usual colour-vision deficiencies.
OBJECT_COLORS: tuple[Color, ...] = (
    (0, 158, 255), (255, 140, 0), (0, 190, 110), (236, 72, 153), (250, 204, 21),
    (139, 92, 246), (20, 200, 200), (239, 68, 68), (132, 204, 22), (217, 119, 87),
)  # fmt: skip
UNKNOWN_OBJECT: Color = (170, 170, 170)  # parts whose object is not known

# (hue shift in turns, lightness, saturation factor), an order in which neighbours differ.
_SHADES = (
    (0.00, 0.74, 1.00), (0.02, 0.40, 1.00), (-0.035, 0.60, 0.80), (0.04, 0.55, 1.00), (-0.02, 0.84, 1.00),
    (-0.045, 0.44, 0.90), (0.03, 0.68, 0.70), (0.00, 0.31, 1.00), (0.045, 0.80, 0.80), (-0.03, 0.52, 1.00),
)  # fmt: skip


def row_colors(prediction: Prediction) -> list[Color]:
    """A colour for each row. Rows of one object share a hue; parts of one name under one object share a shade."""
    colors = [UNKNOWN_OBJECT] * len(prediction)
    groups = [(row, prediction.parts_of(row)) for row in prediction.objects()]
    for i, (row, _) in enumerate(groups):
        colors[row] = OBJECT_COLORS[i % len(OBJECT_COLORS)]
    groups.append((-1, prediction.parts_without_object()))
    for owner, parts in groups:
        base = UNKNOWN_OBJECT if owner < 0 else colors[owner]
        number: dict[str, int] = {}
        for row in parts:
            colors[row] = shade(base, number.setdefault(prediction.names[row], len(number)))
    return colors


def shade(color: Color, number: int) -> Color:
    """The `number`-th shade of a colour."""
    hue, _, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in color))
    shift, lightness, factor = _SHADES[number % len(_SHADES)]
    rgb = colorsys.hls_to_rgb((hue + shift) % 1, lightness, saturation * factor)
    return (round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255))


def text_color(background: Color) -> Color:
    """Black or white, whichever reads better on a background."""
    linear = [(channel / 255) ** 2.2 for channel in background]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return (0, 0, 0) if luminance > 0.18 else (255, 255, 255)
