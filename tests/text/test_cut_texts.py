"""A text that is longer than what is read of it is told, once."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import pytest

from partglee.text.backend import TextBackend
from partglee.text.clip import ClipBackend


def told_of(backend: TextBackend, texts: Sequence[str], **options: int) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        backend.tokenize(texts, **options)
    return [str(entry.message) for entry in caught]


@pytest.fixture(scope="module")
def backend() -> ClipBackend:
    return ClipBackend()


def test_a_text_over_77_tokens_is_told_once(backend: ClipBackend) -> None:
    long = "the red car beside the wall " * 20
    assert told_of(backend, ["car", "word " * 75]) == []  # 75 words, begin and end of text
    (message,) = told_of(backend, ["car", long])
    assert "77 tokens" in message and "the red car beside" in message
    assert told_of(backend, [long], context_length=77) == []
    (message,) = told_of(backend, ["a b c d e f"], context_length=5)
    assert "5 tokens" in message and told_of(backend, ["a b c"], context_length=5) == []


def test_texts_without_number_do_not_flood() -> None:
    backend = ClipBackend()
    messages = told_of(backend, [f"{number} " + "word " * 80 for number in range(100)])
    assert len(messages) == 10 and "further ones" in messages[-1]
