"""Vocabularies of clients, and the names that a model knows."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from partglee.basics.names import humanise, name_key
from partglee.engine import Predictor
from partglee.serve.limits import Limits
from partglee.serve.refusals import Refusal, shown
from partglee.structures import Vocabulary, known_parts
from partglee.structures.vocabulary_input import split_text
from partglee.text.words import Resolved

_FILES = (".yaml", ".yml", ".json")
_EXAMPLE = "'car: wheel, door; person'"


def read_vocabulary(text: str, limits: Limits) -> Vocabulary:
    """A client's vocabulary: "car: wheel, door; person", JSON ({object: [parts]} or [objects]), a built-in name.

    Never a file: `Vocabulary.parse` would open one.

    Raises:
        Refusal: for anything else, or too many names.
    """
    most = (limits.objects + limits.parts) * (limits.letters + 8)
    if len(text) > most:
        raise Refusal(
            413, "vocabulary_too_long", f"a vocabulary may have {most:,} letters, got {len(text):,}; shorten it"
        )
    try:
        vocabulary = _read(text.strip())
    except (ValueError, TypeError) as error:
        raise Refusal(422, "vocabulary_unreadable", str(error)) from error
    _check(vocabulary, limits)
    return vocabulary


def _read(text: str) -> Vocabulary:
    if not text:
        raise ValueError(f"the vocabulary is empty; write for example {_EXAMPLE}")
    if text[0] in "{[":
        return Vocabulary(_json(text))
    if text.lower().endswith(_FILES) or "://" in text:
        raise ValueError(
            f"a server opens no files or addresses, got {shown(text)}; send the names themselves: {_EXAMPLE}"
        )
    if text in Vocabulary.list_builtin():
        return Vocabulary.builtin(text)
    return Vocabulary(split_text(text))


def _json(text: str) -> Mapping[str, Sequence[str]] | Sequence[str]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the vocabulary begins like JSON and is none ({error}); check brackets and quotes") from error
    if isinstance(content, Mapping):
        for name, parts in content.items():
            if parts is not None and not isinstance(parts, list):
                raise ValueError(f"parts of {shown(name)} must be a list of names, got {shown(parts)}")
    return content


def _check(vocabulary: Vocabulary, limits: Limits) -> None:
    for what, names, most in (
        ("objects", vocabulary.object_names, limits.objects),
        ("parts", vocabulary.part_names, limits.parts),
    ):
        if len(names) > most:
            raise Refusal(
                422, "too_many_names",
                f"a vocabulary may name {most} {what}, got {len(names)}; ask for fewer, or in several requests",
            )  # fmt: skip
        if long := [name for name in names if len(name) > limits.letters]:
            raise Refusal(
                422, "name_too_long",
                f"a name may have {limits.letters} letters, got {shown(long[0])} with {len(long[0])}; names are "
                f"separated by ',' and ';' as in {_EXAMPLE}",
            )  # fmt: skip


class KnownNames:
    """What a model can be asked for: reading names, and completing them.

    Args:
        predictor: of the model.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self._lock = threading.Lock()  # readers of words are filled as they are used
        table = predictor.model.text_encoder.backend.only_names()
        self.closed = table is not None
        own: dict[str, dict[str, None]] = {}
        if table is not None:
            for name in table.names:
                owner, _, part = name.partition(":")
                parts = own.setdefault(humanise(owner), {})
                if part:
                    parts.setdefault(humanise(part))
        else:
            for source in Vocabulary.list_builtin():
                for name, parts_of in Vocabulary.builtin(source).to_dict().items():
                    own.setdefault(humanise(name), {}).update(dict.fromkeys(map(humanise, parts_of)))
        self._parts = {name: tuple(parts) for name, parts in own.items()}

    def read(self, vocabulary: Vocabulary, *, strict: bool) -> Resolved:
        """How the model reads it.

        Raises:
            Refusal: when it knows nothing of it, or with `strict` not all.
        """
        with self._lock:
            try:
                return self.predictor.words(vocabulary, strict=strict)
            except ValueError as error:
                told = str(error).replace("without --strict", "without strict")
                raise Refusal(
                    422, "names_unknown", f"{told}. The page completes known names, /v1/vocabulary lists them"
                ) from error

    def complete(self, prefix: str, *, of: str | None, limit: int) -> list[str]:
        """Names that begin with `prefix`, then those with a word that does, then those that contain it.

        Args:
            of: an object, whose parts are asked for; None = objects.
        """
        wanted = name_key(prefix)
        ranked: list[tuple[int, int, str]] = []
        for place, name in enumerate(self.parts_of(of) if of else self._parts):
            key = name_key(name)
            at = key.find(wanted)
            if at >= 0:
                ranked.append((0 if at == 0 else 1 if key[at - 1] == " " else 2, place, name))
        return [name for _, _, name in sorted(ranked)[:limit]]

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Those of the model's table first, then those that data sets have and the model knows as names."""
        key = humanise(name).casefold()
        own = next((parts for known, parts in self._parts.items() if known.casefold() == key), ())
        others = known_parts([name])[name]
        known = {one.casefold() for one in self._parts}
        more = [part for part in others if part not in own and (not self.closed or part.casefold() in known)]
        return (*own, *more)

    def to_dict(self) -> dict[str, tuple[str, ...]]:
        """Every known object with its parts."""
        return {name: self.parts_of(name) for name in self._parts}

    def __len__(self) -> int:
        return len(self._parts)


def listed(vocabulary: Vocabulary) -> dict[str, Any]:
    """{object: parts}, for JSON."""
    return {name: list(parts) for name, parts in vocabulary.to_dict().items()}
