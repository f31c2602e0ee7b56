"""Grounded captions (GCG, MGSC) from predictions files: words, and masks with their phrases.

Every number twice: "reference" follows the published tools with their quirks, "strict" what their papers say.

| | reference | strict |
|---|---|---|
| AP50 | all scores 1, so the order of the file decides | by confidence |
| mIoU | over matched pairs alone | over annotated phrases, unmatched ones count 0 |
| recall | ends at the first best pair whose phrases differ | goes on with the next pair |
| images without an answer | left out | count 0 |

Of a conversation the last answer is scored. Masks with a label that no answer announces, such as those of GCG whose
phrase does not stand in the caption, are annotated phrases like the others; their label is the phrase.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from mglmm.data.loader import masks_of
from mglmm.data.record import Record
from mglmm.evaluation.predictions import Pair, Predicted
from mglmm.metrics import cider_d, matched_ious, phrase_recall_hits
from mglmm.metrics.java import java_scores
from mglmm.metrics.meteor import meteor, tokenised, words_of
from partglee.evaluation.average_precision import average_precision

Similarity = Callable[[str, str], float]
"""Two phrases -> how alike they are, in [0, 1]."""


def word_similarity(one: str, other: str) -> float:
    """Cosine of the words' counts. The published tools take the mean states of a BERT; hand in such a function for
    their numbers."""
    a, b = Counter(words_of(one)), Counter(words_of(other))
    norm = float(np.sqrt(sum(v * v for v in a.values()) * sum(v * v for v in b.values())))
    return sum(a[word] * b[word] for word in a) / norm if norm else 0.0


def grounded_captions(
    pairs: Iterable[Pair], *, similarity: Similarity = word_similarity, java: bool = False
) -> dict[str, float]:
    """METEOR, CIDEr, AP50, mIoU and recall, in percent.

    Args:
        pairs: in the order of the predictions file.
        java: also METEOR's jar, and SPICE where its parser is (`mglmm.metrics.java`).

    Returns:
        `METEOR`, `CIDEr`, and `reference/...`, `strict/...` of AP50, mIoU, recall; `unanswered` and `teacher forced`
        are counts.

    Raises:
        ValueError: for no record.
    """
    listed = list(pairs)
    if not listed:
        raise ValueError("no record is asked about")
    references = [[tokenised(pair.record.turns[-1].text)] for pair in listed]
    texts = [tokenised(pair.said.text) if pair.said else "" for pair in listed]
    results = {
        "METEOR": 100 * meteor(references, texts),
        "CIDEr": 100 * float(np.mean(cider_d(references, texts))),
        **(java_scores(references, texts) if java else {}),
        "unanswered": float(sum(pair.said is None for pair in listed)),
        "teacher forced": float(sum(pair.said is not None and pair.said.teacher_forced for pair in listed)),
    }
    for style in ("reference", "strict"):
        used = [pair for pair in listed if pair.said is not None] if style == "reference" else listed
        results |= {f"{style}/{name}": value for name, value in _masks(used, style, similarity).items()}
    return results


def _masks(pairs: Sequence[Pair], style: str, similarity: Similarity) -> dict[str, float]:
    strict = style == "strict"
    hits: list[tuple[float, bool]] = []
    ious: list[float] = []
    positives = found = phrases = 0
    for pair in pairs:
        record, said = pair
        names = phrases_of(record)
        iou = overlaps(record, said)
        spoken = said.phrases if said is not None else ()
        scores = [one.score if strict else 1.0 for one in spoken]
        hits += list(zip(scores, _true_positives(iou, scores), strict=True))
        positives += len(names)
        matched = matched_ious(iou)
        if strict:
            ious.append(sum(matched) / len(names) if names else float(not spoken))
        else:
            ious.append(float(np.mean(matched)) if matched else 0.0)
        alike = np.array([[similarity(name, one.text) for one in spoken] for name in names]).reshape(iou.T.shape)
        found += phrase_recall_hits(iou.T, alike, stop_at_first_miss=not strict)
        phrases += len(names)
    order = sorted(range(len(hits)), key=lambda row: -hits[row][0])  # stable: equal scores keep the file's order
    true = np.array([hits[row][1] for row in order], bool)
    return {
        "AP50": 100 * average_precision(true, positives) if positives else float("nan"),
        "mIoU": 100 * float(np.mean(ious)) if ious else float("nan"),
        "recall": 100 * found / phrases if phrases else float("nan"),
    }


def overlaps(record: Record, said: Predicted | None) -> NDArray[np.float64]:
    """(D, G) IoU of what was said and what is annotated; 0 for two empty masks."""
    rows = [*record.announced(last=True), *_beside(record)]
    truth = masks_of(record, rows).reshape(-1, record.size[0] * record.size[1]).astype(np.float64)
    masks = said.masks(record.size) if said is not None else np.zeros((0, *record.size), bool)
    shown = masks.reshape(-1, record.size[0] * record.size[1]).astype(np.float64)
    both = shown @ truth.T
    either = shown.sum(1)[:, None] + truth.sum(1)[None] - both
    shares: NDArray[np.float64] = both / np.maximum(either, 1)
    return shares


def phrases_of(record: Record) -> list[str]:
    """Phrases of the last answer, in order, then those that have a mask but no place in it."""
    last = record.turns[-1]
    announced = [last.text[span.start : span.end] for span in sorted(last.spans)]
    return [*announced, *(record.masks[row].label for row in _beside(record))]


def _beside(record: Record) -> list[int]:
    return [row for row in record.unsaid() if record.masks[row].label]


def _true_positives(iou: NDArray[np.float64], scores: Sequence[float], threshold: float = 0.5) -> list[bool]:
    """COCO's matching: best score first, each takes the free annotation of largest IoU from the threshold on."""
    true = [False] * len(scores)
    free = np.ones(iou.shape[1], bool)
    for row in sorted(range(len(scores)), key=lambda row: -scores[row]):
        open_ious = np.where(free, iou[row], -1.0)
        if open_ious.size and open_ious.max() >= threshold:
            free[int(open_ious.argmax())] = False
            true[row] = True
    return true
