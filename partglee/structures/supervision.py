"""What the annotations of a batch do *not* say, so that the criterion does not punish what nobody looked for.

B images, C names of one level, R regions of one image.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class LevelSupervision(NamedTuple):
    """One level. The defaults mean: everything is annotated.

    A query that is matched to an annotation is always pulled to its name. It is pushed away from the other names in
    `negatives`; so is an unmatched query where the background is labelled. Federated data (LVIS): `negatives` holds the
    names that were looked for exhaustively, found or not. Where only some regions of an image were looked at (the main
    person, not the bystanders), `labelled` holds them: an unmatched query is pushed away if its box lies in one.
    """

    negatives: Tensor | None = None  # (B, C) bool, names whose absence is meaningful; None = all
    background: tuple[bool, ...] | None = None  # B: what is not annotated is nothing; None = see HierarchicalCriterion
    labelled: tuple[Tensor | None, ...] | None = None  # B x (R, 4) cxcywh in [0, 1]; None = the whole image


class Supervision(NamedTuple):
    """Both levels."""

    objects: LevelSupervision = LevelSupervision()
    parts: LevelSupervision = LevelSupervision()
