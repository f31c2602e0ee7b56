"""Pictures of referring expressions: what a sentence means stands out, and nothing where it means nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.structures.prediction import Prediction
from partglee.visualization.draw import draw_prediction
from partglee.visualization.panel import BACKGROUND

_DIMMED = 0.35  # brightness of what is not meant
_GAP = 8  # pixels between panels


class Told(NamedTuple):
    """A sentence and what it means in an image."""

    text: str
    targets: Prediction  # its rows are meant; none = nothing is
    no_target: bool


def draw_expression(told: Told, pixels: NDArray[np.uint8], *, scale: float | None = None) -> Image.Image:
    """One sentence below the (H, W, 3) image, in which all that it does not mean is dark."""
    meant = np.zeros(pixels.shape[:2], bool)
    targets = told.targets
    if targets.masks is not None:
        meant |= np.asarray(targets.masks).any(axis=0) if len(targets) else False
    else:
        for x0, y0, x1, y1 in np.asarray(targets.boxes):
            meant[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = True
    shown = np.where(meant[..., None], pixels, (pixels * _DIMMED).astype(np.uint8))
    caption = f'"{told.text}"{" - no target" if told.no_target else ""}'
    return draw_prediction(targets, shown, scores=False, caption=caption, scale=scale)


def draw_expressions(told: Sequence[Told], pixels: NDArray[np.uint8], *, columns: int = 2) -> Image.Image:
    """The same image once for each sentence, side by side.

    Raises:
        ValueError: for no sentence.
    """
    if not told:
        raise ValueError("there is no expression to draw")
    scale = max(1.0, 480 / max(pixels.shape[:2]))
    panels = [draw_expression(one, pixels, scale=scale) for one in told]
    columns = min(columns, len(panels))
    width, height = max(panel.width for panel in panels), max(panel.height for panel in panels)
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * (width + _GAP) - _GAP, rows * (height + _GAP) - _GAP), BACKGROUND)
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        sheet.paste(panel, (column * (width + _GAP), row * (height + _GAP)))
    return sheet
