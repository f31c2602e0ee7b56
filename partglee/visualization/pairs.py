"""Annotated beside predicted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.structures import Prediction
from partglee.visualization.draw import draw_prediction

_GAP = 8  # pixels between the two


def side_by_side(pixels: NDArray[np.uint8], annotated: Prediction, predicted: Prediction) -> Image.Image:
    """Annotations without scores at the left, predictions with scores at the right.

    Args:
        pixels: (H, W, 3) uint8 RGB, the size of both.
    """
    left = draw_prediction(annotated, pixels, scores=False, scale=None)
    right = draw_prediction(predicted, pixels, scale=None)
    both = Image.new("RGB", (left.width + _GAP + right.width, max(left.height, right.height)), (255, 255, 255))
    both.paste(left.convert("RGB"), (0, 0))
    both.paste(right.convert("RGB"), (left.width + _GAP, 0))
    return both
