"""Where a mask is announced: the states that predict `[SEG]`, found by token id and by nothing else.

B rows of a batch, T tokens with image tokens expanded, h width, N marks in all rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Places(NamedTuple):
    """N states, row by row and from left to right."""

    row: Tensor  # (N,) long, row of the batch
    column: Tensor  # (N,) long, the token before `[SEG]`


def states_that_predict(token: int, ids: Tensor, *, answer: Tensor | None = None) -> Places:
    """Where the state that predicts a token stands: one before each of its places.

    Image tokens are in `ids` as often as the model sees them, so there is no offset to know; padding on either side
    moves nothing, because neither it nor an image is that token.

    Args:
        ids: (B, T).
        answer: (B, T) bool, tokens that the model says; others do not count, such as a `[SEG]` in a question.
            None = all.

    Raises:
        ValueError: for a mark that opens a row: nothing is before it.
    """
    hit = ids == token
    if answer is not None:
        hit = hit & answer
    if bool(hit[:, 0].any()):
        first = int(hit[:, 0].nonzero()[0, 0])
        raise ValueError(f"row {first} begins with token {token}, whose mask is read from the token before it")
    row, column = hit.nonzero(as_tuple=True)
    return Places(row, column - 1)


def counts(places: Places, num_rows: int) -> Tensor:
    """(B,) marks of each row."""
    return torch.bincount(places.row, minlength=num_rows)


def take(states: Tensor, places: Places) -> Tensor:
    """(B, T, h) -> (N, h)."""
    return states[places.row, places.column]
