"""Predictions for referring expressions: a file with one line for each expression, and the numbers of it.

A line has `image_id`, `expression` (its place among the expressions of its image) and `results` in the form of
`Prediction.to_json`: the rows together are the answer, none means that nothing is meant. `no_target` says so by itself,
whatever the rows hold. `instances`, where it is there, are the single boxes of an answer that `results` has united.
Lines of earlier versions with `object` and `sentence` (row of the object that is meant alone, and the place among the
sentences for it) are read too; of those the best row is the answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.files import read_json_lines
from partglee.data.records import Expression, ImageRecord, Records
from partglee.data.segmentation import damaged_run_lengths, decode, wrong_run_list
from partglee.evaluation.base import Results
from partglee.evaluation.issues import InputIssues, wrong_box
from partglee.evaluation.referring import PartExpressionEvaluator, ReferringEvaluator, ReferringRules
from partglee.evaluation.referring_boxes import GeneralizedBoxEvaluator, GroundingBoxEvaluator

Key = tuple[int, int]  # image id, place of the expression


class Answer(NamedTuple):
    """What a line says. N boxes."""

    boxes: NDArray[np.float64]  # (N, 4) xyxy pixels, of single instances where the line has them
    scores: NDArray[np.float64]  # (N,)
    mask: NDArray[np.bool_] | None  # (H, W) union of the rows; None where no row has one
    no_target: bool


class Asked(NamedTuple):
    """One expression with the answer to it."""

    key: Key
    record: ImageRecord
    expression: Expression
    answer: Answer | None  # None: the file has no line for it


def score_expressions(
    file: Path,
    records: Records,
    *,
    rows: Sequence[int] | None = None,
    rules: ReferringRules | None = None,
    strict: bool = True,
) -> Results:
    """Masks (`mask/gIoU`, `mask/cIoU`, `mask/N-acc`, `mask/Pr@X`, ...) and boxes (`box/P@0.5`) of every expression.

    An expression without a line is a miss, and is counted. Boxes are scored where one thing is meant: the best of the
    answer counts.

    Args:
        rows: images of this process; None = all.
        rules: of the mask metrics.

    Raises:
        PredictionError: for an unknown or repeated expression, a score that is no finite number, or a mask that cannot
            be read, when strict.
        ValueError: for a line of another kind, or records without expressions.
    """
    masks = ReferringEvaluator(rules=rules, strict=strict)
    boxes = GroundingBoxEvaluator(strict=strict)
    for asked in read_answers(file, records, masks.issues, rows=rows, size=masks.rules.size):
        _process_mask(masks, asked, true_mask(asked.expression, asked.record))
        targets = asked.record.targets(asked.expression)
        if len(targets) == 1:
            found = (asked.answer.boxes, asked.answer.scores) if asked.answer else (np.zeros((0, 4)), np.zeros(0))
            boxes.process(asked.key, *found, np.array(targets[0].box))
    results = {f"box/{key}": value for key, value in boxes.evaluate().items()}
    return {**results, **{f"mask/{key}": value for key, value in masks.evaluate().items()}}


def score_generalized_boxes(
    file: Path,
    records: Records,
    evaluator: GeneralizedBoxEvaluator,
    *,
    rows: Sequence[int] | None = None,
) -> Results:
    """GREC: boxes of every expression, with several targets or none; see `score_expressions`."""
    for asked in read_answers(file, records, evaluator.issues, rows=rows):
        truth = np.array([target.box for target in asked.record.targets(asked.expression)], np.float64).reshape(-1, 4)
        if asked.answer is None:
            evaluator.process_missing(asked.key, truth)
            continue
        said = slice(0) if asked.answer.no_target else slice(None)
        evaluator.process(asked.key, asked.answer.boxes[said], asked.answer.scores[said], truth)
    return evaluator.evaluate()


def score_part_expressions(
    file: Path,
    records: Records,
    *,
    rows: Sequence[int] | None = None,
    rules: ReferringRules | None = None,
    strict: bool = True,
) -> Results:
    """RefCOCOm: masks of expressions of parts and of objects, apart and pooled; see `score_expressions`."""
    names = records.vocabulary.part_names
    evaluator = PartExpressionEvaluator(part_names=names, rules=rules, strict=strict)
    for asked in read_answers(file, records, evaluator.issues, rows=rows, size=evaluator.rules.size):
        said, truth = asked.expression, true_mask(asked.expression, asked.record)
        if truth is None or said.no_target:
            continue
        _process_mask(evaluator, asked, truth)
        part = names[asked.record.parts[said.parts[0]].label] if said.of_parts else ""
        evaluator.add_kind(asked.key, part=part, pixels=int(truth.sum()))
    return evaluator.evaluate()


def _process_mask(evaluator: ReferringEvaluator, asked: Asked, truth: NDArray[np.bool_] | None) -> None:
    if truth is None:
        return
    if asked.answer is None:
        evaluator.process_missing(asked.key, truth)
        return
    mask = np.zeros(truth.shape, bool) if asked.answer.mask is None else asked.answer.mask
    evaluator.process(asked.key, mask, truth, says_no_target=asked.answer.no_target)


def true_mask(expression: Expression, record: ImageRecord) -> NDArray[np.bool_] | None:
    """(H, W) union of what an expression means, all False where that is nothing; None where a target has only a box."""
    union = np.zeros((record.height, record.width), bool)
    for instance in record.targets(expression):
        if instance.segmentation is None:
            return None
        union |= decode(instance.segmentation, record.height, record.width)
    return union


# -- lines -----------------------------------------------------------------------------------------------------------


def read_answers(
    file: Path,
    records: Records,
    issues: InputIssues,
    *,
    rows: Sequence[int] | None = None,
    size: tuple[int, int] | None = None,
) -> Iterator[Asked]:
    """Every expression of the records with what the file says to it.

    Args:
        issues: gets what is wrong; how many expressions have no line, at the end.
        rows: images of this process; None = all.
        size: (height, width) that masks may have beside that of their image.

    Raises:
        PredictionError, ValueError: see `score_expressions`.
    """
    wanted = range(len(records)) if rows is None else rows
    images = [replace(records[row], pixels=None) for row in wanted]  # pictures would fill the memory
    if images and not any(record.expressions for record in images):
        raise ValueError(
            "the data set has no referring expressions; choose an evaluator of detections or another data set"
        )
    answers = _read(file, {record.image_id: record for record in images}, issues, size)
    for record in images:
        for place, expression in enumerate(record.expressions):
            key = record.image_id, place
            yield Asked(key, record, expression, answers.get(key))
    without = sum(len(record.expressions) for record in images) - len(answers)
    if without:
        issues.add("image without prediction", f"{without} expressions have no line", count=without)


def place_of(entry: dict[str, Any], record: ImageRecord | None) -> int:
    """The expression that a line answers; -1 where the image has none such.

    Raises:
        KeyError, TypeError, ValueError: when the line does not say.
    """
    if _is_by_place(entry):
        place = int(entry["expression"])
        return place if record is not None and 0 <= place < len(record.expressions) else -1
    row, sentence = int(entry["object"]), int(entry["sentence"])
    alone = [] if record is None else [
        place for place, said in enumerate(record.expressions) if said.objects == (row,) and not said.parts
    ]  # fmt: skip
    return alone[sentence] if 0 <= sentence < len(alone) else -1


def _is_by_place(entry: dict[str, Any]) -> bool:
    """`expression` with the text itself is of earlier versions."""
    return "expression" in entry and not isinstance(entry["expression"], str)


def _read(
    file: Path, images: dict[int, ImageRecord], issues: InputIssues, size: tuple[int, int] | None
) -> dict[Key, Answer]:
    answers: dict[Key, Answer] = {}
    for number, line, entry in read_json_lines(file, "answers"):
        where = f"line {number} of '{file}'"
        try:
            image_id = int(entry["image_id"])
            key = (image_id, place_of(entry, images.get(image_id)))
            rows = _scored(entry["results"]), _scored(entry.get("instances") or [])
            flag = entry.get("no_target")
            if not isinstance(flag, (bool, type(None))):
                raise ValueError(f"no_target must be true or false, got {flag!r}")
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{where} is no answer to an expression ({error!r}): {line[:60]!r}") from error
        if key[1] < 0:
            told = {name: entry[name] for name in ("image_id", "expression", "object", "sentence") if name in entry}
            issues.add("unknown image", f"{where}: no expression {told}")
        elif key in answers:
            issues.add("image given twice", f"{where}: expression {key}; the first one is kept")
        else:
            united, single = (_finite(some, where, issues) for some in rows)
            if not _is_by_place(entry):
                united = [max(united, key=lambda row: float(row["score"]))] if united else []
            said = not united if flag is None else flag
            answers[key] = _answer(united, single, said, images[image_id], where, issues, size)
    return answers


def _scored(rows: Any) -> list[tuple[dict[str, Any], float]]:
    return [(row, float(row["score"])) for row in rows]


def _finite(rows: list[tuple[dict[str, Any], float]], where: str, issues: InputIssues) -> list[dict[str, Any]]:
    """The rows whose score is a finite number."""
    if wrong := sum(not math.isfinite(score) for _, score in rows):
        issues.add("score not finite", f"{where}: {wrong} of {len(rows)} results", count=wrong)
    return [row for row, score in rows if math.isfinite(score)]


def _answer(
    united: Sequence[dict[str, Any]],
    single: Sequence[dict[str, Any]],
    no_target: bool,
    record: ImageRecord,
    where: str,
    issues: InputIssues,
    size: tuple[int, int] | None,
) -> Answer:
    boxes: list[list[float]] = []
    scores: list[float] = []
    for row in single or united:
        if wrong := wrong_box(row.get("bbox")):
            issues.add(wrong[0], f"{where}: {wrong[1]}")
        else:
            x, y, w, h = row["bbox"]
            boxes.append([x, y, x + w, y + h])
            scores.append(float(row["score"]))
    masks = [mask for row in united if (mask := _mask_of(row, record, where, issues, size)) is not None]
    if len({mask.shape for mask in masks}) > 1:
        issues.add("mask of the wrong size", f"{where}: rows of one answer have masks of different sizes")
        masks = masks[:1]
    union = np.any(masks, axis=0) if masks else None
    return Answer(np.array(boxes, np.float64).reshape(-1, 4), np.array(scores, np.float64), union, no_target)


def _mask_of(
    row: dict[str, Any], record: ImageRecord, where: str, issues: InputIssues, size: tuple[int, int] | None
) -> NDArray[np.bool_] | None:
    if (mask := row.get("segmentation")) is None:
        return None
    own = (record.height, record.width)
    if size is not None and isinstance(mask, dict) and mask.get("size") == list(size):
        own = size
    if wrong := _wrong_mask(mask, own):
        issues.add(wrong[0], f"{where}: {wrong[1]}")
        return None
    return decode(mask, *own)


def _wrong_mask(mask: Any, size: tuple[int, int]) -> tuple[str, str] | None:
    """The kind of issue and what is wrong with the run lengths of a mask; None when nothing is."""
    shape, counts = (mask.get("size"), mask.get("counts")) if isinstance(mask, dict) else (None, None)
    if not isinstance(shape, list) or not isinstance(counts, (str, list)):
        return "mask unreadable", f"segmentation must be run lengths with size and counts, got {mask!s:.60}"
    if tuple(shape) != size:
        return "mask of the wrong size", f"{shape}, the image is {size} (height, width)"
    pixels = size[0] * size[1]
    if isinstance(counts, list):
        damage = wrong_run_list(counts, pixels)
    else:
        damage = damaged_run_lengths([counts.encode()], [pixels]).get(0)
    return None if damage is None else ("mask unreadable", damage)
