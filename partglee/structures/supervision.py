"""What the annotations of a batch do *not* say, so that the criterion does not punish what nobody looked for.

B images, C names of one level.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LevelSupervision(NamedTuple):
    """One level. The defaults mean: everything is annotated.

    A query that is matched to an annotation is always pulled to its name. It is pushed away from the other names in
    `negatives`; so is an unmatched query where the background is labelled. Federated data (LVIS): `negatives` holds the
    names that were looked for exhaustively, found or not.
    """

    negatives: Tensor | None = None  # (B, C) bool, names whose absence is meaningful; None = all
    background: tuple[bool, ...] | None = None  # B: what is not annotated is nothing; None = see HierarchicalCriterion


class Supervision(NamedTuple):
    """Both levels."""

    objects: LevelSupervision = LevelSupervision()
    parts: LevelSupervision = LevelSupervision()
