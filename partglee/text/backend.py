"""What a source of token states offers.

N texts, T tokens, W text width.
"""

from __future__ import annotations

import hashlib
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

_MOST_TOLD = 10


class NameList(Protocol):
    """What a backend of fixed names says of them.

    Attributes:
        names: R, as written.
        plain_rows: {plain form of a name: its row}.
        embeddings: (R, W).
    """

    names: tuple[str, ...]
    plain_rows: dict[str, int]
    embeddings: Tensor

    def knows(self, name: str) -> bool:
        """Whether a name can be read, as written or in plain form."""


class TextBackend(nn.Module):
    """Texts to token states: a tower, or anything that can stand for one. `TextEncoder` pools and projects the states;
    models that read words (referring segmentation) take them as they are.

    Attributes:
        width: W.
        projected: the states have the model's width already, so that no projection is learned.
        context_length: longest text, begin and end included; what referring expressions are padded to.
    """

    width: int
    projected: bool = False
    context_length: int

    @abstractmethod
    def tokenize(self, texts: Sequence[str], *, context_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids (N, T) long and their mask (N, T) bool, True = valid, begin and end of text included.

        Args:
            context_length: T, longer texts are cut; None = the longest of these texts, at most the backend's own.

        Raises:
            ValueError: for texts that the backend cannot read.
        """

    def tell_cut(self, texts: Sequence[str], limit: int) -> None:
        """Warn of texts that `tokenize` cuts after `limit` tokens: each once, and of no more than the first ten."""
        told: set[str] = self.__dict__.setdefault("_told_cut", set())
        for text in texts:
            if len(told) < _MOST_TOLD and text not in told:
                told.add(text)
                last = " (further ones are not told)" if len(told) == _MOST_TOLD else ""
                warnings.warn(
                    f"a text has more than {limit} tokens, what comes after them is not read: {text:.60}...{last}",
                    stacklevel=3,
                )

    @abstractmethod
    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, T) ids and mask -> (N, T, W) states."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that stand for the states of all texts: the key of caches on disk."""

    def part_texts(self, prompts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """What to read for parts with these prompts (Cp) and own names (Cp)."""
        return tuple(prompts)

    def only_names(self) -> NameList | None:
        """The names that can be read and no others; None = any text can."""
        return None


def mean_of_valid(states: Tensor, mask: Tensor) -> Tensor:
    """(N, T, W) states and their (N, T) mask -> (N, W), the mean over each text's valid tokens."""
    weight = mask.unsqueeze(-1).to(states.dtype)
    return (states * weight).sum(1) / weight.sum(1)


def fingerprint_of(description: str, weights: Mapping[str, Tensor]) -> str:
    """Hash of a description and of weights by name."""
    digest = hashlib.sha256(description.encode())
    for name, value in weights.items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
