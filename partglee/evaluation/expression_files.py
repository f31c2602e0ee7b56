"""Predictions for referring expressions: a file with one line for each expression, and the numbers of it.

A line has `image_id`, `expression` (its place among the expressions of its image) and `results` in the form of
`Prediction.to_json`; `object` and `sentence` of earlier versions (row of the object that is meant alone, and the place
among the sentences for it) are read in place of `expression`. The best result of a line is its answer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.records import Expression, ImageRecord, Records
from partglee.data.segmentation import damaged_run_lengths, decode, wrong_run_list
from partglee.evaluation.base import Results
from partglee.evaluation.issues import InputIssues, wrong_box
from partglee.evaluation.referring import GroundingBoxEvaluator, ReferringEvaluator, ReferringRules

Key = tuple[int, int]  # image id, place of the expression


def score_expressions(
    file: Path,
    records: Records,
    *,
    rows: Sequence[int] | None = None,
    rules: ReferringRules | None = None,
    strict: bool = True,
) -> Results:
    """Masks (`mask/oIoU`, `mask/mIoU`, `mask/Pr@X`, ...) and boxes (`box/P@0.5`) of every expression.

    An expression without a line is a miss, and is counted. Boxes are scored where one object is meant.

    Args:
        rows: images of this process; None = all.
        rules: of the mask metrics.

    Raises:
        PredictionError: for an unknown or repeated expression, a score that is no finite number, or a mask that cannot
            be read, when strict.
        ValueError: for a line of another kind, or records without expressions.
    """
    images = [records[row] for row in (range(len(records)) if rows is None else rows)]
    if images and not any(record.expressions for record in images):
        raise ValueError(
            "the data set has no referring expressions; choose an evaluator of detections or another data set"
        )
    masks = ReferringEvaluator(rules=rules, strict=strict)
    boxes = GroundingBoxEvaluator(strict=strict)
    answers = _read(file, {record.image_id: record for record in images}, masks.issues)
    without = 0
    for record in images:
        for place, expression in enumerate(record.expressions):
            key = (record.image_id, place)
            truth = true_mask(expression, record)
            box, score, mask = answers.get(key, (np.zeros((0, 4)), np.zeros(0), None))
            without += key not in answers
            empty = np.zeros((record.height, record.width), bool)
            if truth is not None and key not in answers:
                masks.process_missing(key, truth)
            elif truth is not None:
                masks.process(key, empty if mask is None else mask, truth)
            targets = record.targets(expression)
            if len(targets) == 1:
                boxes.process(key, box, score, np.array(targets[0].box))
    if without:
        masks.issues.add("image without prediction", f"{without} expressions have no line", count=without)
    results = {f"box/{key}": value for key, value in boxes.evaluate().items()}
    return {**results, **{f"mask/{key}": value for key, value in masks.evaluate().items()}}


def true_mask(expression: Expression, record: ImageRecord) -> NDArray[np.bool_] | None:
    """(H, W) union of what an expression means, all False where that is nothing; None where a target has only a box."""
    union = np.zeros((record.height, record.width), bool)
    for instance in record.targets(expression):
        if instance.segmentation is None:
            return None
        union |= decode(instance.segmentation, record.height, record.width)
    return union


def place_of(entry: dict[str, Any], record: ImageRecord | None) -> int:
    """The expression that a line answers; -1 where the image has none such.

    Raises:
        KeyError, TypeError, ValueError: when the line does not say.
    """
    if not isinstance(entry.get("expression"), str) and "expression" in entry:
        place = int(entry["expression"])
        return place if record is not None and 0 <= place < len(record.expressions) else -1
    row, sentence = int(entry["object"]), int(entry["sentence"])
    alone = [] if record is None else [
        place for place, said in enumerate(record.expressions) if said.objects == (row,) and not said.parts
    ]  # fmt: skip
    return alone[sentence] if 0 <= sentence < len(alone) else -1


def _read(
    file: Path, images: dict[int, ImageRecord], issues: InputIssues
) -> dict[Key, tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_] | None]]:
    answers: dict[Key, Any] = {}
    with Path(file).open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            where = f"line {number} of '{file}'"
            try:
                entry = json.loads(line)
                image_id = int(entry["image_id"])
                key = (image_id, place_of(entry, images.get(image_id)))
                scores = [float(row["score"]) for row in entry["results"]]
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{where} is no answer to an expression ({error!r}): {line[:60]!r}") from error
            if key[1] < 0:
                told = {name: entry[name] for name in ("image_id", "expression", "object", "sentence") if name in entry}
                issues.add("unknown image", f"{where}: no expression {told}")
            elif key in answers:
                issues.add("image given twice", f"{where}: expression {key}; the first one is kept")
            else:
                if wrong := sum(not math.isfinite(score) for score in scores):
                    issues.add("score not finite", f"{where}: {wrong} of {len(scores)} results", count=wrong)
                found = [row for row, score in zip(entry["results"], scores, strict=True) if math.isfinite(score)]
                best = max(found, key=lambda row: float(row["score"]), default=None)
                answers[key] = (np.zeros((0, 4)), np.zeros(0), None)
                if best is not None:
                    answers[key] = _answer(best, images[key[0]], where, issues)
    return answers


def _answer(
    row: dict[str, Any], record: ImageRecord, where: str, issues: InputIssues
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_] | None]:
    box = np.zeros((0, 4))
    if wrong := wrong_box(row.get("bbox")):
        issues.add(wrong[0], f"{where}: {wrong[1]}")
    else:
        x, y, w, h = row["bbox"]
        box = np.array([[x, y, x + w, y + h]], np.float64)
    mask = None
    if (found := row.get("segmentation")) is not None:
        if wrong := _wrong_mask(found, (record.height, record.width)):
            issues.add(wrong[0], f"{where}: {wrong[1]}")
        else:
            mask = decode(found, record.height, record.width)
    return box, np.full(len(box), row["score"], np.float64), mask


def _wrong_mask(found: Any, size: tuple[int, int]) -> tuple[str, str] | None:
    """The kind of issue and what is wrong with the run lengths of a mask; None when nothing is."""
    shape, counts = (found.get("size"), found.get("counts")) if isinstance(found, dict) else (None, None)
    if not isinstance(shape, list) or not isinstance(counts, (str, list)):
        return "mask unreadable", f"segmentation must be run lengths with size and counts, got {found!s:.60}"
    if tuple(shape) != size:
        return "mask of the wrong size", f"{shape}, the image is {size} (height, width)"
    pixels = size[0] * size[1]
    if isinstance(counts, list):
        damage = wrong_run_list(counts, pixels)
    else:
        damage = damaged_run_lengths([counts.encode()], [pixels]).get(0)
    return None if damage is None else ("mask unreadable", damage)
