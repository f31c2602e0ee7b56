"""The words of grounded captions (GCG, MGSC): CIDEr-D, and METEOR from its match counts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

Grams = Counter[tuple[str, ...]]


def cider_d(references: Sequence[Sequence[str]], hypotheses: Sequence[str], *, sigma: float = 6.0) -> list[float]:
    """CIDEr-D of each image (tokens are separated by spaces; tokenise before).

    The length penalty uses the number of bigrams, as the reference code does. With one image every idf is 0, so
    is the score.

    Args:
        references: for each image, its sentences.
        hypotheses: one sentence for each image.

    Raises:
        TypeError, ValueError: for something else than lists of sentences and a sentence for each; for `sigma` not
            above 0.
    """
    check_sentences(references, hypotheses)
    if not sigma > 0:
        raise ValueError(f"sigma must be above 0, got {sigma}; the published one is 6")
    frequency: Grams = Counter()
    for sentences in references:
        frequency.update({gram for sentence in sentences for gram in _grams(sentence)})
    log_images = math.log(len(references))
    scores = []
    for sentences, hypothesis in zip(references, hypotheses, strict=True):
        own = _vector(hypothesis, frequency, log_images)
        pairs = [_similarity(own, _vector(sentence, frequency, log_images), sigma) for sentence in sentences]
        scores.append(10 * sum(pairs) / len(sentences))
    return scores


def check_sentences(references: Sequence[Sequence[str]], hypotheses: Sequence[str]) -> None:
    """That there is a list of sentences and a sentence for each image.

    Raises:
        TypeError: for a sentence in place of a list, whose letters would be read as sentences; for what is no text.
        ValueError: for no image, another number of sentences than of lists, or an empty list.
    """
    for name, given in (("references", references), ("hypotheses", hypotheses)):
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError(f"{name} must be a list with an entry for each image, got {given!r:.60}")
    if not references or len(references) != len(hypotheses):
        raise ValueError(
            f"expected references and a sentence for each of one image or more, got those of {len(references)} and "
            f"{len(hypotheses)} sentences"
        )
    for place, (sentences, hypothesis) in enumerate(zip(references, hypotheses, strict=True)):
        if isinstance(sentences, str) or not isinstance(sentences, Sequence):
            raise TypeError(
                f"references of image {place} must be a list of sentences, got {sentences!r:.60}; write [..]"
            )
        if not sentences:
            raise ValueError(f"image {place} has no reference; leave it out, or give it one sentence or more")
        for sentence in (*sentences, hypothesis):
            if not isinstance(sentence, str):
                raise TypeError(f"image {place}: a sentence must be text, got {sentence!r:.60}")


class _Vector(NamedTuple):
    weights: list[dict[tuple[str, ...], float]]  # one for each gram length
    norms: list[float]
    bigrams: int


def _grams(sentence: str) -> Grams:
    words = sentence.split()
    return Counter(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))


def _vector(sentence: str, frequency: Grams, log_images: float) -> _Vector:
    weights: list[dict[tuple[str, ...], float]] = [{} for _ in range(4)]
    grams = _grams(sentence)
    for gram, count in grams.items():
        weights[len(gram) - 1][gram] = count * (log_images - math.log(max(1, frequency[gram])))
    norms = [math.sqrt(sum(value**2 for value in entry.values())) for entry in weights]
    return _Vector(weights, norms, sum(count for gram, count in grams.items() if len(gram) == 2))


def _similarity(own: _Vector, other: _Vector, sigma: float) -> float:
    total = 0.0
    for a, b, norm_a, norm_b in zip(own.weights, other.weights, own.norms, other.norms, strict=True):
        product = sum(min(value, b.get(gram, 0.0)) * b.get(gram, 0.0) for gram, value in a.items())
        total += product / (norm_a * norm_b or 1.0)
    return total / 4 * math.exp(-((own.bigrams - other.bigrams) ** 2) / (2 * sigma**2))


def meteor_score(
    *,
    matched: tuple[int, int],
    hypothesis: tuple[int, int],
    reference: tuple[int, int],
    chunks: int,
) -> float:
    """METEOR 1.5 (English task weights) from its counts; the alignment itself is METEOR's own (Java) job.

    Args:
        matched, hypothesis, reference: numbers of (content words, function words).
        chunks: runs of matched words that are adjacent and in order in both sentences.

    Raises:
        ValueError: for negative counts, more matched words than there are, or more chunks than matched words.
    """
    for place, kind in enumerate(("content", "function")):
        if not 0 <= matched[place] <= min(hypothesis[place], reference[place]):
            raise ValueError(
                f"{matched[place]} {kind} words match, of {hypothesis[place]} of the hypothesis and {reference[place]} "
                "of the reference; give (content words, function words) of each"
            )
    if not 0 <= chunks <= sum(matched):
        raise ValueError(f"{sum(matched)} matched words cannot be {chunks} chunks")
    alpha, beta, gamma, delta = 0.85, 0.2, 0.6, 0.75

    def weigh(counts: tuple[int, int]) -> float:
        return delta * counts[0] + (1 - delta) * counts[1]

    if not sum(matched):
        return 0.0
    precision, recall = weigh(matched) / weigh(hypothesis), weigh(matched) / weigh(reference)
    mean = precision * recall / (alpha * precision + (1 - alpha) * recall)
    return float(mean * (1 - gamma * (chunks / sum(matched)) ** beta))
