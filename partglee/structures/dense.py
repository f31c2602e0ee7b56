"""What a dense detector says of the images of a batch, as a lesson for the memory (knowledge distillation).

B images, T names that the detector knows.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class DenseScores(NamedTuple):
    """Scores of a detector that predicts at every place of a few grids."""

    columns: Tensor  # (T,) long, where its names are among the object names of the batch
    maps: tuple[Tensor, ...]  # fine to coarse, (B, T, h, w) in 0..1; each covers the whole canvas
