"""What the text side hands to the model.

B images, Co object names, Cp part names, T tokens, W text width, E projected width.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class TextTokens(NamedTuple):
    """A tokenised vocabulary or a batch of referring expressions, before the text encoder.

    Rows 0..num_objects-1 are object names (or one expression for each image), the rest part names.
    """

    ids: Tensor  # (Co + Cp, T) long; for a name table: row numbers, T = 1
    mask: Tensor  # (Co + Cp, T) bool, True = valid
    num_objects: int
    expressions: bool = False  # True: row i is active for image i only, and its tokens join the object decoder


class TextEmbeddings(NamedTuple):
    """An encoded vocabulary (PartGLEE section 3.3)."""

    objects: Tensor  # (Co, E), one pooled vector per name
    parts: Tensor  # (Cp, E)
    tokens: Tensor | None = None  # (B or 1, T, E) for early fusion; 1 row = shared by all images; None = no fusion
    token_mask: Tensor | None = None  # (B or 1, T) bool, True = valid; goes with `tokens`
    active: Tensor | None = None  # (B, Co) bool, names scored in each image; None = all
    expressions: bool = False  # True: `tokens` (B, T, E) also take part in the object decoder's self-attention
    selection: Tensor | None = None  # (Cs, E), names by which object queries are selected; None = `objects`
    object_shift: Tensor | None = None  # (Co,) added to the logits of each name in inference; None = nothing
    distill: tuple[Tensor, Tensor] | None = None  # student and frozen teacher states of the valid tokens, (M, W) each
