"""The words that carry masks: `<p> phrase </p> [SEG]`, added to any tokenizer, and the rows that embed them.

V rows of a token table, h width of the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

SEG, OPEN, CLOSE = "[SEG]", "<p>", "</p>"
MARKS = (SEG, OPEN, CLOSE)
GAP = f"{CLOSE}{SEG}{OPEN}"  # stands for an answer while a conversation is rendered; no text of ours has it


@dataclass(frozen=True, slots=True)
class MarkIds:
    """What the marks are called in one tokenizer."""

    seg: int
    open: int
    close: int

    @property
    def all(self) -> tuple[int, int, int]:
        """In the order of `MARKS`."""
        return self.seg, self.open, self.close


def add_marks(tokenizer: Any) -> MarkIds:
    """Give a tokenizer the marks that it lacks; one that has them stays as it is."""
    tokenizer.add_tokens([mark for mark in MARKS if tokenizer.convert_tokens_to_ids(mark) in _nothing(tokenizer)],
                         special_tokens=True)  # fmt: skip
    return mark_ids(tokenizer)


def mark_ids(tokenizer: Any) -> MarkIds:
    """Ids of the marks.

    Raises:
        ValueError: for a tokenizer without one of them, or one that takes it apart.
    """
    ids = [tokenizer.convert_tokens_to_ids(mark) for mark in MARKS]
    for mark, number in zip(MARKS, ids, strict=True):
        if number in _nothing(tokenizer) or tokenizer(mark, add_special_tokens=False)["input_ids"] != [number]:
            raise ValueError(
                f"the tokenizer has no token {mark!r}; `mglmm.tokens.add_marks(tokenizer)` adds it, and "
                "`grow_tables(model, tokenizer)` gives the model rows for it"
            )
    return MarkIds(*ids)


def grow_tables(model: Any, tokenizer: Any) -> None:
    """Make the model's token tables hold every token of its tokenizer; larger ones stay. New rows are the mean of the
    old ones, so that a fresh token is no outlier among the logits. Tied tables stay tied.

    Args:
        model: an image-text-to-text model of transformers.
    """
    table: nn.Embedding = model.get_input_embeddings()
    have = int(table.weight.shape[0])
    if len(tokenizer) <= have:
        return
    head: nn.Linear = model.get_output_embeddings()
    tied = head.weight.data_ptr() == table.weight.data_ptr()
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for grown in {id(t): t for t in (model.get_input_embeddings(), model.get_output_embeddings())}.values():
            grown.weight[have:] = grown.weight[:have].float().mean(0).to(grown.weight.dtype)
            if getattr(grown, "bias", None) is not None:
                grown.bias[have:] = grown.bias[:have].float().mean().to(grown.bias.dtype)
    now = model.get_output_embeddings().weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()
    if now != tied:
        raise ValueError(f"{type(model).__name__} ties its token tables in a way that resizing breaks")


def token_tables(model: Any) -> Mapping[str, nn.Module]:
    """The distinct token tables: "input", and "output" where it is one of its own."""
    table, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head.weight.data_ptr() == table.weight.data_ptr()
    return {"input": table} if tied else {"input": table, "output": head}


def _nothing(tokenizer: Any) -> tuple[Any, ...]:
    """Ids that say that a token is unknown."""
    return (None, tokenizer.unk_token_id) if tokenizer.unk_token_id is not None else (None,)
