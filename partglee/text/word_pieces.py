"""Vocabularies for a BERT from scratch: the words of a data set's expressions, and letters to spell the others with."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_SHIPPED = Path(__file__).parent / "vocabularies"
_TOKEN = re.compile(r"[^\W_]+|[^\w\s]|_")


def word_list(expressions: Iterable[str], *, most: int = 30522) -> list[str]:
    """WordPieces in the order of a `vocab.txt`: special ones, letters and digits alone and inside a word, then the
    words of the expressions, frequent ones first.

    Raises:
        ValueError: when there is no word at all.
    """
    counts = Counter(word for text in expressions for word in _TOKEN.findall(text.lower()))
    if not counts:
        raise ValueError("no expression has a word; does the data set have expressions?")
    signs = string.ascii_lowercase + string.digits
    pieces = [*SPECIAL, *signs, *(f"##{sign}" for sign in signs)]
    words = sorted(set(counts) - set(pieces), key=lambda word: (-counts[word], word))
    return [*pieces, *words][:most]


def vocabulary_file(name: str | Path) -> Path:
    """The file of a vocabulary that comes with the library by its name (`toy`, `photos`: words of expressions made by
    rule), else the path as it is."""
    shipped = _SHIPPED / f"{name}.txt"
    return shipped if str(name) and not Path(name).suffix and shipped.is_file() else Path(name)
