"""Answers token by token with the key-value cache on, keeping the state that predicted each token.

That state is what the token table at the end reads, so it is taken there: one (B, h) a step, whatever the model.
B conversations, S steps, h width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
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
    seed: int | None = None,
    on_token: Callable[[int], None] | None = None,
) -> list[Spoken]:
    """Go on with every conversation of a batch, padded on the left.

    Args:
        lmm: an image-text-to-text model, in evaluation mode.
        stop: ids that end an answer.
        pad: id that fills the rows of answers that ended.
        max_tokens: of an answer.
        temperature: 0 = the most likely token each time.
        seed: of what is drawn where the temperature is above 0, the same answers for the same one; None = PyTorch's
            random numbers go on.
        on_token: told each id as it comes, of a batch of one.

    Raises:
        ValueError: for a batch padded on the right, `on_token` with several conversations, or what `check_options`
            refuses.
    """
    check_options(max_tokens=max_tokens, temperature=temperature, seed=seed)
    mask = chat.inputs["attention_mask"]
    if not bool(mask[:, -1].all()):
        raise ValueError("to go on generating, conversations are padded on the left: chat.encode(..., side='left')")
    if on_token is not None and len(mask) > 1:
        raise ValueError("text is streamed for one conversation at a time")
    streamer = None if on_token is None else _Streamer(on_token)
    sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
    one_each = {"num_beams": 1, "num_return_sequences": 1}  # whatever a checkpoint says: each state has its token
    start = mask.shape[1]
    with states_read_by(lmm.get_output_embeddings()) as read, _random_numbers(seed, mask.device):
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


def check_options(*, max_tokens: int | None, temperature: float, seed: int | None) -> None:
    """How an answer is asked for.

    Args:
        max_tokens: None = what the configuration says.

    Raises:
        ValueError: for a limit that is no whole number from 1 on, a temperature below 0 or none, or a seed that is no
            whole number from 0 on.
    """
    if max_tokens is not None and not (_is(max_tokens, Integral) and max_tokens >= 1):
        raise ValueError(
            f"max_tokens must be a whole number, at least 1, got {max_tokens!r}; None = what the configuration says"
        )
    if not (_is(temperature, Real) and 0 <= temperature < math.inf):
        raise ValueError(f"temperature must be 0 (the most likely token each time) or more, got {temperature!r}")
    if seed is not None and not (_is(seed, Integral) and 0 <= seed < 1 << 63):
        raise ValueError(f"seed must be a whole number, at least 0, or None, got {seed!r}")


def _is(value: object, kind: type) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


@contextmanager
def _random_numbers(seed: int | None, device: torch.device) -> Iterator[None]:
    """Inside, PyTorch's random numbers are those of the seed; afterwards they go on as if nothing had been drawn."""
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(int(seed))
        yield


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
    """Ids to pieces of text that are final, for `on_token`; together they are the answer's text.

    Args:
        chat: whose tokenizer it is.
        tell: told each piece.
    """

    def __init__(self, chat: Chat, tell: Callable[[str], None]) -> None:
        self.chat, self.tell = chat, tell
        self._ids: list[int] = []
        self._told = 0

    def __call__(self, token: int) -> None:
        """One more token; half a character waits for its other half, and what may yet spell a mark for the rest."""
        self._ids.append(token)
        text = self.chat.text_of(self._ids)
        if not text.endswith("�"):
            self._tell(text[: len(text) - self.chat.unfinished(text)])

    def end(self) -> None:
        """No token comes any more: what waited is told as it is."""
        self._tell(self.chat.text_of(self._ids))

    def _tell(self, text: str) -> None:
        if len(text) > self._told:
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
