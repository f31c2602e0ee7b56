"""Sentences that mean a part: whose, and which ("left arm of the man in red" -> "the man in red", "left arm")."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from partglee.basics.names import name_key
from partglee.structures import Vocabulary
from partglee.text.word_forms import forms


class PartPhrase(NamedTuple):
    """A sentence that means parts of an object."""

    owner: str  # what the sentence says of the object
    part: str  # one of the part names that were asked for, as they have it


PhraseParser = Callable[[str, Sequence[str]], PartPhrase | None]
"""(sentence, part names) -> whose part it means and which; None = it means an object. Such as `split_phrase`."""

_BEFORE_OWNER = re.compile(r"\s+(?:of|on|from|belonging to)\s+")
_OWNERS = re.compile(r"(?<=\w)(?:'s|s')\s+")
_ARTICLE = re.compile(r"^(?:the|a|an|both|all|two)\s+")
# "man with the hat": what comes last is told of the object, not asked for.
_TELLS = {
    "with", "without", "in", "wearing", "holding", "has", "having", "and", "or", "by", "at", "near", "behind", "under",
    "over", "to", "is", "are", "whose", "no",
}  # fmt: skip


def split_phrase(text: str, part_names: Sequence[str]) -> PartPhrase | None:
    """Take a sentence apart by rule.

    Tried in this order: "PART of OWNER" (also on, from, belonging to), "OWNER's PART", "OWNER PART". A part is found as
    written, in singular or plural, with words before it ("hairy left arm": "left arm", else "arm"); the longest name
    counts. Whatever else the sentence says stays with its owner.
    """
    said = " ".join(re.sub(r"[^\w'\s-]", " ", text.lower()).split())
    names = {form: name for name in reversed(part_names) for form in forms(name_key(name))}
    for match in _BEFORE_OWNER.finditer(said):
        part = _part_at_end(said[: match.start()], names)
        if part is not None:
            return PartPhrase(said[match.end() :], part[1])
    for match in reversed(list(_OWNERS.finditer(said))):
        part = _part_at_end(said[match.end() :], names)
        if part is not None:
            return PartPhrase(said[: match.start()], part[1])
    part = _part_at_end(said, names)
    if part is None or not part[0] or _TELLS & set(part[0].split()):
        return None
    return PartPhrase(part[0], part[1])


def part_columns(phrase: PartPhrase, vocabulary: Vocabulary) -> tuple[list[int], list[int]]:
    """Columns of a vocabulary that a phrase means, and those that they compete with, both in order.

    Where the owner is called by an object of the vocabulary ("the red car"), its parts alone count; else those of all
    objects that have such a part. They compete with all parts of the same objects.
    """
    same = [c for c, name in enumerate(vocabulary.part_names) if name_key(name) == name_key(phrase.part)]
    words = {form for word in _spans(phrase.owner) for form in forms(word)}
    named = {row for row, name in enumerate(vocabulary.object_names) if name_key(name) in words}
    meant = [c for c in same if named & set(vocabulary.part_owner[c])] or same
    owners = {row for c in meant for row in vocabulary.part_owner[c] if not named or row in named or meant is same}
    rivals = [c for c, of in enumerate(vocabulary.part_owner) if owners & set(of)]
    return meant, rivals


def _part_at_end(text: str, names: dict[str, str]) -> tuple[str, str] | None:
    """What comes before a part's name at the end of a text, and the name; the longest that fits."""
    words = _ARTICLE.sub("", text).split()
    for first in range(len(words)):
        for form in forms(" ".join(words[first:])):
            if form in names:
                return " ".join(words[:first]), names[form]
    return None


def _spans(text: str) -> Iterable[str]:
    """One to three words in a row."""
    words = text.split()
    for length in (1, 2, 3):
        for first in range(len(words) - length + 1):
            yield " ".join(words[first : first + length])
