#!/usr/bin/env python
"""Box AP50 of names that were held out of training, and of the others, beside what a shift of their scores brings.

    python tools/score_held_out.py predictions/NAME.jsonl unseen.json --names airplane train --shifts 0 0.35 0.75

The photos are those that `tools/hold_out_names.py` put into `--unseen`, the predictions what `partglee train
--eval-only` wrote of them with all names asked for. Scored twice: every name of every box counts, as there, and one
name for each box, the best after the shift, as `Predictor` gives. A shift is added to the logits of the scores of
held-out names.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json, read_json_lines
from partglee.basics.names import name_key

Rows = list[dict[str, Any]]
THRESHOLD = 0.2  # that of `partglee-tiny`
_LEAST = 1e-9


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("predictions", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("--names", nargs="+", required=True, help="objects that were left out of training")
    parser.add_argument("--shifts", nargs="+", type=float, default=[0.0])
    given = parser.parse_args(arguments)
    try:
        truth = read_json(given.annotations, "annotations")
        lines = [line for _, _, line in read_json_lines(given.predictions, "predictions")]
    except ValueError as error:
        parser.error(str(error))
    wanted = {name_key(name) for name in given.names}
    ids = {name_key(row["name"]): row["id"] for row in truth["categories"]}
    unseen = {ids[name] for name in wanted if name in ids}
    seen = set(ids.values()) - unseen
    rows = [
        {"image_id": row["image_id"], "category_id": ids[name_key(row["name"])], "bbox": row["bbox"],
         "score": row["score"]}
        for line in lines for row in line["results"] if row["level"] == "object"
    ]  # fmt: skip
    print("| shift | every name: unseen | seen | one name a box: unseen | seen | "
          f"rows above {THRESHOLD} | of unseen names |\n|---|---|---|---|---|---|---|")  # fmt: skip
    for shift in given.shifts:
        every = shifted(rows, unseen, shift)
        one = best_of_each_box(every)
        above = [row["category_id"] in unseen for row in one if row["score"] > THRESHOLD]
        scores = [ap50(truth, found, names) for found in (every, one) for names in (unseen, seen)]
        print(f"| {shift:g} | {' | '.join(f'{score:.1f}' for score in scores)} | {len(above)} | {sum(above)} |")
    return 0


def shifted(rows: Rows, names: Collection[int], shift: float) -> Rows:
    """With `shift` added to the logits of the scores of these names."""
    out = []
    for row in rows:
        score = min(max(row["score"], _LEAST), 1 - _LEAST)
        by = shift if row["category_id"] in names else 0.0
        out.append({**row, "score": 1 / (1 + (1 - score) / score * math.exp(-by))})
    return out


def best_of_each_box(rows: Rows) -> Rows:
    """Of rows with the same box, the best."""
    best: dict[Any, dict[str, Any]] = {}
    for row in rows:
        key = row["image_id"], *(round(number, 2) for number in row["bbox"])
        if key not in best or row["score"] > best[key]["score"]:
            best[key] = row
    return list(best.values())


def ap50(truth: dict[str, Any], rows: Rows, names: Collection[int]) -> float:
    """Mean over the annotated ones of these names, in percent; the best 100 rows of a photo and name count."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {**truth, "annotations": [{"iscrowd": 0, **row} for row in truth["annotations"]]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(rows), "bbox")
        evaluation.params.catIds = sorted(names)
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][0, :, :, 0, 2]  # overlap 0.5, recall, name, any size, 100 rows
    return 100 * float(np.mean([column.mean() for column in precision.T if column.max() > -1] or [math.nan]))


if __name__ == "__main__":
    raise SystemExit(main())
