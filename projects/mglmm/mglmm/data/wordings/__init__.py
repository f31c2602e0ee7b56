"""Questions and answers as data files, and drawing from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

from mglmm.data.marked import Span
from partglee.basics.files import read_yaml
from partglee.basics.names import nearest

_FOLDER = Path(__file__).parent


class Chance(Protocol):
    """What is asked of a source of random numbers: numpy's generators have it."""

    def integers(self, high: int, /) -> int: ...


class Wordings:
    """Sentences by what is said with them.

    Args:
        entries: key -> sentences, in which `{x}` stands for what they are about and `{a}` for announced phrases.

    Raises:
        ValueError: for an entry of another form.
    """

    def __init__(self, entries: Mapping[str, Sequence[str]], *, source: str = "the wordings") -> None:
        for key, sentences in entries.items():
            if not isinstance(sentences, (list, tuple)) or not sentences:
                raise ValueError(f"{source}: {key} must be a list of sentences, got {sentences!r:.60}")
            if wrong := [one for one in sentences if not isinstance(one, str) or not one.strip()]:
                raise ValueError(f"{source}: {key} holds {wrong[0]!r:.60}, which is no sentence")
        self._entries = {key: tuple(sentences) for key, sentences in entries.items()}
        self.source = source

    def of(self, key: str) -> tuple[str, ...]:
        """All sentences of a key.

        Raises:
            ValueError: for an unknown one.
        """
        if key not in self._entries:
            raise ValueError(f"{self.source} have no {key!r}{nearest(key, self._entries) or ''}")
        return self._entries[key]

    def draw(self, key: str, rng: Chance, about: str = "") -> str:
        """One sentence about something."""
        sentences = self.of(key)
        return sentences[int(rng.integers(len(sentences)))].replace("{x}", about)

    def draw_answer(self, key: str, rng: Chance, phrases: Sequence[str], first_mask: int = 0) -> tuple[str, list[Span]]:
        """One answer that announces phrases one after the other, as plain text with spans; the k-th means mask k."""
        before, found, after = self.draw(key, rng).partition("{a}")
        if not found:
            raise ValueError(f"{self.source}: {key} has no {{a}} for what it announces")
        text, spans = before, []
        for place, phrase in enumerate(phrases):
            if place:
                text += " and " if place == len(phrases) - 1 else ", "
            spans.append(Span(len(text), len(text) + len(phrase), first_mask + place))
            text += phrase
        return text + after, spans


@cache
def english() -> Wordings:
    """Those that come with the project."""
    return read_wordings(_FOLDER / "english.yaml")


def read_wordings(file: str | Path) -> Wordings:
    """A YAML file of lists of sentences."""
    content = read_yaml(file, "wordings")
    if not isinstance(content, Mapping):
        raise ValueError(f"wordings '{file}' must map keys to lists of sentences")
    return Wordings(content, source=f"wordings '{file}'")
