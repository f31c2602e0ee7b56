"""Answers token by token with the key-value cache on, keeping the state that predicted each token.

That state is what the token table at the end reads, so it is taken there: one (B, h) a step, whatever the model.
B conversations, S steps, h width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from mglmm.chat import Chat, ChatBatch


class Spoken(NamedTuple):
    """One answer."""

    ids: tuple[int, ...]  # without the token that ends it
    states: Tensor  # (number of ids, h), the state that predicted each
    whole: bool  # it came to its end; False: it was cut off


@torch.no_grad()
def generate(
    lmm: Any,
    chat: ChatBatch,
    *,
    stop: Sequence[int],
    pad: int,
    max_tokens: int = 512,
    temperature: float = 0.0,
    on_token: Callable[[int], None] | None = None,
) -> list[Spoken]:
    """Go on with every conversation of a batch, padded on the left.

    Args:
        lmm: an image-text-to-text model, in evaluation mode.
        stop: ids that end an answer.
        pad: id that fills the rows of answers that ended.
        max_tokens: of an answer.
        temperature: 0 = the most likely token each time.
        on_token: told each id as it comes, of a batch of one.

    Raises:
        ValueError: for a batch padded on the right, or `on_token` with several conversations.
    """
    mask = chat.inputs["attention_mask"]
    if not bool(mask[:, -1].all()):
        raise ValueError("to go on generating, conversations are padded on the left: chat.encode(..., side='left')")
    if on_token is not None and len(mask) > 1:
        raise ValueError("text is streamed for one conversation at a time")
    streamer = None if on_token is None else _Streamer(on_token)
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    one_each = {"num_beams": 1, "num_return_sequences": 1}  # whatever a checkpoint says: each state has its token
    start = mask.shape[1]
    with states_read_by(lmm.get_output_embeddings()) as read:
        ids = lmm.generate(
            **chat.inputs, max_new_tokens=max_tokens, eos_token_id=list(stop), pad_token_id=pad, use_cache=True,
            streamer=streamer, **one_each, **sampling,
        )  # fmt: skip
    new = ids[:, start:]
    states = torch.stack(read[: new.shape[1]], 1)  # (B, S, h)
    answers = []
    for row, told in enumerate(new.tolist()):
        end = next((i for i, token in enumerate(told) if token in stop), None)
        length = len(told) if end is None else end
        answers.append(Spoken(tuple(told[:length]), states[row, :length], end is not None))
    return answers


@contextmanager
def states_read_by(head: Any) -> Iterator[list[Tensor]]:
    """Inside, the list grows by the last state (B, h) that the token table reads in each pass."""
    read: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, inputs: read.append(inputs[0][:, -1].detach()))
    try:
        yield read
    finally:
        handle.remove()


class TextStream:
    """Ids to pieces of text that are final, for `on_token`.

    Args:
        chat: whose tokenizer it is.
        tell: told each piece.
    """

    def __init__(self, chat: Chat, tell: Callable[[str], None]) -> None:
        self.chat, self.tell = chat, tell
        self._ids: list[int] = []
        self._told = 0

    def __call__(self, token: int) -> None:
        """One more token; half a character waits for its other half."""
        self._ids.append(token)
        text = self.chat.text_of(self._ids)
        if not text.endswith("�") and len(text) > self._told:
            self.tell(text[self._told :])
            self._told = len(text)


class _Streamer:
    """What transformers asks of a streamer: first it is given the prompt, then each new token."""

    def __init__(self, on_token: Callable[[int], None]) -> None:
        self._on_token = on_token
        self._prompt = True

    def put(self, value: Tensor) -> None:
        if self._prompt:
            self._prompt = False
            return
        for token in value.flatten().tolist():
            self._on_token(int(token))

    def end(self) -> None:
        """Nothing is kept back."""
