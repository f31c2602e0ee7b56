"""METEOR without Java: exact word matches alone, weighed and penalised as METEOR 1.5 does (English task weights).

The jar also matches stems, synonyms and paraphrases, so it gives the same or more; sentences that share their words
exactly get the same number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from mglmm.metrics.captions import check_sentences, meteor_score

_WORD = re.compile(r"[a-z0-9]+(?:'[a-z]+)?")
_ALONE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han, kana
_FUNCTION = (
    "a about after all also an and any are as at back be because been but by can could do first for from get good "
    "had has have he her him his how i if in into is it its just like me more my new no not now of on one only or "
    "other our out over people said she so some than that the their them then there these they this time to two up "
    "us use was we well were what when which who will with would you your "
)
FUNCTION_WORDS = frozenset(_FUNCTION.split())


class Counts(NamedTuple):
    """Of one sentence against one reference: (content words, function words) each."""

    matched: tuple[int, int]
    hypothesis: tuple[int, int]
    reference: tuple[int, int]
    chunks: int


def words_of(text: str) -> list[str]:
    """Lower-case words of any script, without punctuation; each Chinese or Japanese character is one, as such text has
    no spaces. Letters are the same however their accents are coded (NFC)."""
    lower = unicodedata.normalize("NFC", text.lower())
    return (_WORD if lower.isascii() else _any_word()).findall(lower)


@cache
def _any_word() -> re.Pattern[str]:
    """Words as those of English are made; signs that combine with letters (vowels of Hindi) belong to them."""
    marks = "".join(sign for sign in map(chr, range(0x300, 0x1F000)) if unicodedata.category(sign)[0] == "M")
    letter = rf"[^\W\d_{_ALONE}]"
    return re.compile(
        rf"(?=\w)[{_ALONE}]|[^\W_{_ALONE}](?:[^\W_{_ALONE}]|[{marks}])*(?:'{letter}(?:{letter}|[{marks}])*)?"
    )


def tokenised(text: str) -> str:
    """Words with a space between them, as `cider_d` takes them."""
    return " ".join(words_of(text))


def meteor_counts(hypothesis: str, reference: str) -> Counts:
    """What matches: the longest runs of equal words first, so that there are few chunks (the fewest of all but in rare
    cases, and no simple way finds these)."""
    said, true = words_of(hypothesis), words_of(reference)
    runs = _runs(said, true)
    matched = [said[start + i] for start, _, length in runs for i in range(length)]
    runs.sort()
    chunks = sum(place == 0 or _end(runs[place - 1]) != (start, other) for place, (start, other, _) in enumerate(runs))
    if chunks == 1 and len(matched) == len(said) == len(true):
        chunks = 0  # the same sentence is not fragmented
    return Counts(_kinds(matched), _kinds(said), _kinds(true), chunks)


def meteor(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> float:
    """METEOR of a corpus, from counts summed over sentences; of several references the best counts.

    Args:
        references: for each image, its sentences.

    Raises:
        TypeError, ValueError: for something else than lists of sentences and a sentence for each.
    """
    check_sentences(references, hypotheses)
    total = Counts((0, 0), (0, 0), (0, 0), 0)
    for sentences, hypothesis in zip(references, hypotheses, strict=True):
        best = max((meteor_counts(hypothesis, one) for one in sentences), key=_score)
        total = Counts(
            _sum(total.matched, best.matched), _sum(total.hypothesis, best.hypothesis),
            _sum(total.reference, best.reference), total.chunks + best.chunks,
        )  # fmt: skip
    return _score(total)


def _score(counts: Counts) -> float:
    return meteor_score(
        matched=counts.matched, hypothesis=counts.hypothesis, reference=counts.reference, chunks=counts.chunks
    )


def _runs(said: list[str], true: list[str]) -> list[tuple[int, int, int]]:
    """(start in said, start in true, length) of matches that do not overlap, longest first."""
    free_said, free_true = [True] * len(said), [True] * len(true)
    found: list[tuple[int, int, int]] = []
    while True:
        best = (0, 0, 0)
        for i in range(len(said)):
            for j in range(len(true)):
                length = 0
                while i + length < len(said) and j + length < len(true) and said[i + length] == true[j + length]:
                    if not (free_said[i + length] and free_true[j + length]):
                        break
                    length += 1
                best = max(best, (length, -i, -j))
        length, i, j = best[0], -best[1], -best[2]
        if not length:
            return found
        found.append((i, j, length))
        for k in range(length):
            free_said[i + k] = free_true[j + k] = False


def _end(run: tuple[int, int, int]) -> tuple[int, int]:
    start, other, length = run
    return start + length, other + length


def _kinds(words: Sequence[str]) -> tuple[int, int]:
    function = sum(word in FUNCTION_WORDS for word in words)
    return len(words) - function, function


def _sum(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]
