"""What the model says to one expression, as the user gets it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from partglee.structures import MaskAnswer


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer(MaskAnswer):
    """One mask for everything that an expression means, or the word that it means nothing (`no_target_score` is the
    classifier's)."""

    minimap: Tensor  # (P, P) in [0, 1], that a region belongs to the target
