"""Masks that a sentence means, united: RES, GRES, ReasonSeg, from predictions files. Captions without masks too.

Of a conversation the last answer is scored, since its question alone is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mglmm.data.loader import true_masks
from mglmm.data.record import Said as Turn
from mglmm.evaluation.predictions import Pair, united
from mglmm.metrics import cider_d, lisa_meters
from mglmm.metrics.java import java_scores
from mglmm.metrics.meteor import meteor, tokenised
from partglee.evaluation import ReferringEvaluator


def referring(pairs: Iterable[Pair]) -> dict[str, float]:
    """RES and GRES: the numbers of `partglee.evaluation.ReferringEvaluator`, with exact integers at the size of the
    image; and the same as LISA-like code prints them (`lisa/...`).

    "No target" is an answer without masks; a record that nobody answered is a miss.

    Raises:
        ValueError: for no record.
    """
    evaluator = ReferringEvaluator()
    counts = []
    for number, (record, said) in enumerate(pairs):
        truth = united(true_masks(record, last=True))
        if said is None:
            evaluator.process_missing((number, 0), truth)
            counts.append((0, int(truth.sum())))
            continue
        shown = said.union(record.size)
        evaluator.process((number, 0), shown, truth, says_no_target=said.no_target)
        counts.append((int((shown & truth).sum()), int((shown | truth).sum())))
    if not counts:
        raise ValueError("no record is asked about")
    results = {name: float(value) for name, value in evaluator.evaluate().items() if isinstance(value, (int, float))}
    printed = lisa_meters(counts)
    return results | {f"lisa/{name}": 100 * float(printed[name]) for name in ("gIoU", "cIoU")}


def reasoning(pairs: Iterable[Pair], ignored: Mapping[str, NDArray[np.bool_]] | None = None) -> dict[str, float]:
    """ReasonSeg: `gIoU` and `cIoU` from exact integers, the same as LISA's meters print them (`lisa/...`), and as MGLMM
    counts, with what is to be ignored as background (`mglmm/...`); in percent.

    Args:
        ignored: record's name -> (H, W) pixels that count for nobody; of others those that the record says.

    Raises:
        ValueError: for no record, or pixels of another size than the record's.
    """
    native: list[tuple[int, int]] = []
    background: list[tuple[int, int]] = []
    for record, said in pairs:
        truth = united(true_masks(record, last=True))
        shown = said.union(record.size) if said is not None else np.zeros(record.size, bool)
        background.append(intersection_union(shown, truth))
        left_out = (ignored or {}).get(record.name, record.ignored_pixels())
        if left_out is not None and left_out.shape != record.size:
            raise ValueError(f"record {record.name!r} is of size {record.size}, what is ignored of {left_out.shape}")
        native.append(intersection_union(shown, truth, left_out))
    if not native:
        raise ValueError("no record is asked about")
    shares = [inter / union if union else 1.0 for inter, union in native]
    total = sum(union for _, union in native)
    results = {
        "gIoU": 100 * float(np.mean(shares)),
        "cIoU": 100 * sum(inter for inter, _ in native) / total if total else float("nan"),
    }
    for style, counts in (("lisa", native), ("mglmm", background)):
        printed = lisa_meters(counts)
        results |= {f"{style}/{name}": 100 * float(printed[name]) for name in ("gIoU", "cIoU")}
    return results


def intersection_union(
    shown: NDArray[np.bool_], truth: NDArray[np.bool_], ignored: NDArray[np.bool_] | None = None
) -> tuple[int, int]:
    """Pixels of both, and of either; ignored ones left out."""
    counts = np.ones(truth.shape, bool) if ignored is None else ~ignored
    return int((shown & truth & counts).sum()), int(((shown | truth) & counts).sum())


def captions(pairs: Sequence[Pair], *, java: bool = False) -> dict[str, float]:
    """CIDEr-D and METEOR of plain captions, in percent. Captions of one image (task `caption`) are each other's
    references, and the first answer about it counts; other texts, such as captions of regions, share references only
    where the same question is asked about the image.

    Args:
        java: also METEOR's jar, and SPICE where its parser is (`mglmm.metrics.java`).

    Raises:
        ValueError: for no record.
    """
    of_question: dict[tuple[str, ...], list[str]] = {}
    said: dict[tuple[str, ...], str] = {}
    for record, predicted in pairs:
        # A caption's question is drawn anew for each record, so its words do not tell captions of an image apart
        asked = () if record.task == "caption" else tuple(_question(turn) for turn in record.turns[:-1])
        key = (record.image, *asked)
        of_question.setdefault(key, []).append(tokenised(record.turns[-1].text))
        if predicted is not None:
            said.setdefault(key, tokenised(predicted.text))
    references = list(of_question.values())
    texts = [said.get(key, "") for key in of_question]
    if not references:
        raise ValueError("no record is asked about")
    return {
        "CIDEr": 100 * float(np.mean(cider_d(references, texts))),
        "METEOR": 100 * meteor(references, texts),
        **(java_scores(references, texts) if java else {}),
        "unanswered": float(sum(key not in said for key in of_question)),
    }


def _question(turn: Turn) -> str:
    return turn.text or f"{turn.wording}: {turn.about}"
