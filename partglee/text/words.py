"""Any word: what a name table lacks is read as the nearest name that it has, or left out, and both are told.

R names of the table, W its width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from partglee.structures import Vocabulary
from partglee.text.backend import NameList, TextBackend
from partglee.text.table import plain_name
from partglee.text.word_forms import PART_OF, forms, meanings
from partglee.text.word_space import Floats, Resemblance, SentenceEncoder, WordSpace, sentence_encoder, unit

Why = Literal["known", "spelling", "synonym", "kind", "nearest", "unknown"]
# Nearness from which a word is read as a name and as a part of its object, without and with a sentence encoder: half of
# WordNet's synonyms that are mapped land on the very name they are synonyms of, and of parts nine in ten.
SURE = {False: (0.55, 0.4), True: (0.42, 0.26)}
_NEAR = 3  # names that a message tells
_READINGS_KEPT = 20_000  # then all are forgotten: a server is asked for words without end


class Reading(NamedTuple):
    """How one word is read."""

    word: str  # as it was asked, "object: part" for a part
    text: str | None  # what the table is asked for; None = the word is left out
    why: Why
    near: tuple[str, ...] = ()  # known names, the nearest first

    def __str__(self) -> str:
        if self.text is None:
            return f"{self.word!r} (nearest: {', '.join(map(repr, self.near)) or 'none'})"
        others = [name for name in self.near if name != self.text]
        near = f" (near: {', '.join(map(repr, others))})" if others else ""
        return f"{self.word!r} as {self.text!r}{near}"


@dataclass(frozen=True)
class Resolved:
    """A vocabulary whose prompts the table has."""

    vocabulary: Vocabulary
    readings: tuple[Reading, ...]  # of the words that are not read as they are written

    @property
    def mapped(self) -> tuple[Reading, ...]:
        return tuple(reading for reading in self.readings if reading.text is not None)

    @property
    def left_out(self) -> tuple[Reading, ...]:
        return tuple(reading for reading in self.readings if reading.text is None)

    def told(self) -> tuple[str, ...]:
        """A sentence on what is read as something else, and one on what is left out; none where nothing is."""
        sentences = []
        if self.mapped:
            sentences.append(f"the name table lacks some names, which are read as others: {_listed(self.mapped)}")
        if self.left_out:
            sentences.append(
                f"nothing near enough is known of these names, which are left out: {_listed(self.left_out)}"
            )
        return tuple(sentences)

    def warn(self) -> Vocabulary:
        """The vocabulary, after a warning for each sentence of `told`."""
        for sentence in self.told():
            warnings.warn(sentence, stacklevel=3)
        return self.vocabulary


class WordReader:
    """Reads words by the names of one table.

    Tried in this order: the name as it is; another spelling or the singular of it; a synonym, or what it is a kind of,
    by WordNet; the last word of several ("kitchen chair"); the name that lies nearest. A part is looked for among the
    parts of its object first, then by its own name, then among the parts of other objects.

    Args:
        table: the names; its vectors may be projected.
        encoder: for words that no dictionary maps; None = they are placed by spelling alone.
    """

    def __init__(self, table: NameList, *, encoder: SentenceEncoder | None) -> None:
        self.encoder = encoder
        self.sure, self.sure_part = SURE[encoder is not None]
        self.known = {name: row for row, name in enumerate(table.plain_rows)}  # plain name -> row of `vectors`
        self.vectors: Floats = table.embeddings[list(table.plain_rows.values())].double().cpu().numpy()
        self._read: dict[tuple[str, ...], Reading] = {}  # a vocabulary comes again with every image
        owners: dict[str, dict[str, None]] = {}  # part -> objects that have it
        for name in table.names:
            owner, colon, part = name.partition(":")
            if colon:
                owners.setdefault(plain_name(part), {}).setdefault(plain_name(owner))
        self.owners: Mapping[str, tuple[str, ...]] = {part: tuple(of) for part, of in owners.items()}
        with_owner = {f"{owner} {part}" for part, of in self.owners.items() for owner in of}
        self.own_names = tuple(name for name in self.known if name not in with_owner)
        self._letters = frozenset("".join(self.known))

    def read_object(self, word: str) -> Reading:
        """How an object name is read."""
        return self._once(self._find_object, word)

    def _find_object(self, word: str) -> Reading:
        if plain_name(word) in self.known:
            return Reading(word, word, "known")
        if hit := self._spelled(word, self.known) or self._by_dictionary(word, self.known):
            return Reading(word, hit[0], hit[1])
        if (last := _last_word(word)) and (hit := self._spelled(last, self.known)):
            return Reading(word, hit[0], "kind")
        return self._nearest(word, word)

    def read_part(self, owner: str, word: str, *, owner_as: str) -> Reading:
        """How a part name is read.

        Args:
            owner, word: as they were asked.
            owner_as: what the object is read as.
        """
        return self._once(self._find_part, owner, word, owner_as)

    def _once(self, find: Callable[..., Reading], *asked: str) -> Reading:
        if asked not in self._read:
            if len(self._read) >= _READINGS_KEPT:
                self._read.clear()
            self._read[asked] = find(*asked)
        return self._read[asked]

    def _find_part(self, owner: str, word: str, owner_as: str) -> Reading:
        asked, of = f"{owner}: {word}", plain_name(owner_as)
        if f"{plain_name(owner)} {plain_name(word)}" in self.known:
            return Reading(asked, f"{owner} {word}", "known")
        under = {part: None for part, objects in self.owners.items() if of in objects}
        alone = dict.fromkeys(self.own_names)
        last = _last_word(word)
        for find, known, before in (
            (self._spelled, under, f"{of} "),
            (self._spelled, alone, ""),
            (self._by_dictionary, under, f"{of} "),
            (self._by_synonym, alone, ""),
        ):
            if known and (hit := find(word, known)):
                told = before + hit[0]
                same = plain_name(told) in (plain_name(word), f"{of} {plain_name(word)}")
                return Reading(asked, told, "known" if same else hit[1])
        if hit := self._spelled(word, self.owners) or self._by_synonym(word, self.owners):
            return Reading(asked, f"{self._most_like(of, self.owners[hit[0]])} {hit[0]}", hit[1])
        if last and (hit := self._spelled(last, under)):
            return Reading(asked, f"{of} {hit[0]}", "kind")
        if under and self._is_legible(word):
            likeness = self._parts([plain_name(word)])[0, [self._part_row[part] for part in under]]
            reading = self._best(asked, [f"{of} {part}" for part in under], likeness, self.sure_part)
            if reading.text is not None:
                return reading
        if hit := self._by_dictionary(word, alone) or (self._spelled(last, alone) if last else None):
            return Reading(asked, hit[0], "kind")
        return self._nearest(asked, word)

    # ------------------------------------------------------------------ ways to find a name

    def _spelled(self, word: str, known: Mapping[str, object]) -> tuple[str, Why] | None:
        for form in forms(word):
            if form in known:
                return form, "spelling"
        return None

    def _by_dictionary(self, word: str, known: Mapping[str, object]) -> tuple[str, Why] | None:
        """Of a part the whole thing counts too ("knee": leg), where it is a part as well."""
        parts = known.keys() <= self.owners.keys()
        told = [one for form in forms(word) for one in meanings().get(form, ()) if parts or one.steps < PART_OF]
        for meaning in sorted(told, key=lambda meaning: meaning.steps):
            if meaning.name in known:
                return meaning.name, "kind" if meaning.steps else "synonym"
        return None

    def _by_synonym(self, word: str, known: Mapping[str, object]) -> tuple[str, Why] | None:
        for form in forms(word):
            for name, steps in meanings().get(form, ()):
                if steps == 0 and name in known:
                    return name, "synonym"
        return None

    def _most_like(self, name: str, others: Sequence[str]) -> str:
        there = [other for other in others if other in self.known]
        if name not in self.known or not there:
            return others[0]
        vectors = unit(self.vectors - self.vectors.mean(0))
        likeness = vectors[[self.known[other] for other in there]] @ vectors[self.known[name]]
        return there[int(likeness.argmax())]

    def _nearest(self, asked: str, word: str) -> Reading:
        """Among the names that are no part of an object."""
        if not self._is_legible(word):
            return Reading(asked, None, "unknown")
        rows = [self.known[name] for name in self.own_names]
        return self._best(asked, self.own_names, self._space.nearness([plain_name(word)])[0, rows], self.sure)

    def _is_legible(self, word: str) -> bool:
        """Whether a word is written with the letters of the names, for the most part. In another script neither
        spelling nor the sentence encoder knows it, and yet something lies nearest."""
        written = [sign for sign in plain_name(word) if sign.isalnum()]
        return 2 * sum(sign.isdecimal() or sign in self._letters for sign in written) > len(written)

    @staticmethod
    def _best(asked: str, names: Sequence[str], nearness: Floats, sure: float) -> Reading:
        order = np.argsort(-nearness, kind="stable")[:_NEAR].tolist()
        near = tuple(names[place] for place in order)
        enough = bool(order) and nearness[order[0]] >= sure
        return Reading(asked, near[0] if enough else None, "nearest" if enough else "unknown", near)

    @cached_property
    def _part_row(self) -> dict[str, int]:
        return {part: row for row, part in enumerate(self.owners)}

    @cached_property
    def _parts(self) -> Resemblance:
        """To part names alone, without their objects."""
        return Resemblance(list(self.owners), encoder=self.encoder)

    @cached_property
    def _space(self) -> WordSpace:
        return WordSpace(list(self.known), self.vectors, encoder=self.encoder)


def resolve(vocabulary: Vocabulary, backend: TextBackend, *, strict: bool = False) -> Resolved:
    """The vocabulary with prompts that the backend reads; a tower reads any word, so that nothing changes.

    Names stay as they were asked, in predictions too; only what is read for them changes. A word of which nothing near
    enough is known is left out, an object with its parts.

    Args:
        strict: both are errors instead, all words in one.

    Raises:
        ValueError: when strict and a word is not known, or when no object is left.
    """
    table = backend.only_names()
    if table is None:
        return Resolved(vocabulary, ())
    objects = _read_objects(vocabulary, table)
    parts = _read_parts(vocabulary, table, objects)
    changed = tuple(reading for reading in (*objects, *parts) if reading is not None and reading.why != "known")
    if strict and changed:
        raise ValueError(
            f"the name table lacks {len(changed)} of the names asked for; without --strict these are read as others: "
            f"{_listed(r for r in changed if r.text is not None)}; and these are left out: "
            f"{_listed(r for r in changed if r.text is None)}"
        )
    if all(reading is not None and reading.text is None for reading in objects):
        raise ValueError(
            f"nothing is left of the vocabulary: the name table has nothing near "
            f"{_listed(r for r in objects if r is not None)}. Use names that it has, or a model with a text tower"
        )
    if not changed:
        return Resolved(vocabulary, ())
    texts = [
        [prompt if reading is None else reading.text for prompt, reading in zip(prompts, readings, strict=True)]
        for prompts, readings in ((vocabulary.object_prompts, objects), (vocabulary.part_prompts, parts))
    ]
    return Resolved(vocabulary.reworded(texts[0], texts[1]), changed)


def _read_objects(vocabulary: Vocabulary, table: NameList) -> list[Reading | None]:
    """How each object is read; None = by its prompt, which the table has."""
    return [
        None if table.knows(prompt) else reader_of(table).read_object(name)
        for name, prompt in zip(vocabulary.object_names, vocabulary.object_prompts, strict=True)
    ]


def _read_parts(vocabulary: Vocabulary, table: NameList, objects: Sequence[Reading | None]) -> list[Reading | None]:
    """How each part column is read, under the first of its objects that is not left out; None = by its prompt, which
    the table has, or not at all, with its objects."""
    as_read = [
        prompt if reading is None else reading.text
        for prompt, reading in zip(vocabulary.object_prompts, objects, strict=True)
    ]
    readings: list[Reading | None] = []
    for name, prompt, owners in zip(vocabulary.part_names, vocabulary.part_prompts, vocabulary.part_owner, strict=True):
        there = [(vocabulary.object_names[row], text) for row in owners if (text := as_read[row]) is not None]
        if not there or table.knows(prompt):
            readings.append(None)
        else:
            readings.append(reader_of(table).read_part(there[0][0], name, owner_as=there[0][1]))
    return readings


_READERS: WeakKeyDictionary[NameList, WordReader] = WeakKeyDictionary()


def reader_of(table: NameList) -> WordReader:
    """The reader of a table with the sentence encoder where it is installed; made once for each, and gone with it."""
    if table not in _READERS:
        _READERS[table] = WordReader(table, encoder=sentence_encoder())
    return _READERS[table]


def _last_word(word: str) -> str:
    """Of several; "" of one."""
    first, space, last = plain_name(word).rpartition(" ")
    return last if first and space else ""


def _listed(readings: Iterable[Reading]) -> str:
    return "; ".join(map(str, readings)) or "none"
