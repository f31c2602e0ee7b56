"""Other ways to write a word, and the known names that dictionaries have for it. Files: `tools/make_word_files.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from partglee.text.table import plain_name

FOLDER = Path(__file__).parent / "word_lists"
PART_OF = 9
_ARTICLES = ("a ", "an ", "the ")


class Meaning(NamedTuple):
    """What a dictionary says of a noun."""

    name: str  # a known name, in plain form
    steps: int  # 0: the same thing; more: a kind of it, so many steps away; PART_OF: a part of it


def forms(word: str) -> tuple[str, ...]:
    """Plain forms of a word, as it is first: without article, its hyphens as spaces or as nothing, its last word in the
    singular, two words as one ("light bulbs" -> "light bulbs", "light bulb", "lightbulbs", "lightbulb")."""
    plain = plain_name(word)
    plain = next((plain[len(article) :] for article in _ARTICLES if plain.startswith(article)), plain)
    spelled = [plain, plain.replace("-", " "), plain.replace("-", "")]
    if plain.replace("-", " ").count(" ") == 1:
        spelled.append(plain.replace("-", "").replace(" ", ""))
    return tuple(dict.fromkeys(form for text in spelled for form in (text, *_singular(text))))


def _singular(text: str) -> Iterator[str]:
    first, space, last = text.rpartition(" ")
    if last in plurals():
        yield first + space + plurals()[last]
    elif last.endswith("men"):
        yield f"{first}{space}{last[:-2]}an"
    elif last.endswith("ies") and len(last) > 4:
        yield f"{first}{space}{last[:-3]}y"
    elif re.search("(s|x|z|ch|sh)es$", last):
        yield f"{first}{space}{last[:-2]}"
        yield f"{first}{space}{last[:-1]}"
    elif re.search("[^sui]s$", last) and len(last) > 3:
        yield f"{first}{space}{last[:-1]}"
    elif last.endswith("oes"):
        yield f"{first}{space}{last[:-2]}"


@cache
def plurals() -> dict[str, str]:
    """Irregular plurals -> singulars."""
    lines = (FOLDER / "plurals.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines)


@cache
def meanings() -> dict[str, tuple[Meaning, ...]]:
    """Nouns -> what WordNet says they are, the nearest first."""
    table: dict[str, list[Meaning]] = {}
    for line in (FOLDER / "synonyms.txt").read_text(encoding="utf-8").splitlines():
        name, steps, words = line.split("\t")
        meaning = Meaning(name, int(steps))
        for word in words.split(","):
            table.setdefault(word, []).append(meaning)
    return {word: tuple(sorted(told, key=lambda one: one.steps)) for word, told in table.items()}
