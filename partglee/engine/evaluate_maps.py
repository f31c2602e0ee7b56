"""Evaluation on data sets whose predictions are no detections: part maps (OV-PARTS) and referring expressions."""

from __future__ import annotations

import json
from pathlib import Path

from partglee.basics.files import whole_file
from partglee.data.loader import TestLoader
from partglee.data.spec import DatasetSpec
from partglee.engine.predictor import Predictor
from partglee.evaluation.base import Results
from partglee.evaluation.expression_files import score_expressions
from partglee.evaluation.part_map_files import part_map_evaluator, part_map_name, score_part_maps, write_part_map
from partglee.modeling.part_maps import part_map


def evaluate_part_maps(
    predictor: Predictor, spec: DatasetSpec, loader: TestLoader, *, folder: Path, queries: int = 100
) -> Results:
    """One map for each sample of this process, into `folder`, and their scores.

    Nothing of the annotated object enters the network: it only says which part names may appear (Oracle-Obj).
    """
    names = loader.records.vocabulary
    evaluator = part_map_evaluator(spec, loader.records)
    by_object = evaluator.mode == "oracle_obj"
    last = None
    for record, pixels in loader:
        if not record.objects:
            continue
        if last != record.file:  # samples of one image follow each other
            output, frame = predictor.raw(pixels, names)
            last = record.file
        columns = None
        if by_object:
            columns = names.part_columns(names.object_names[record.objects[0].label])
            if not columns:
                continue
        labels = part_map(output, 0, frame, columns=columns, queries=queries)
        write_part_map(labels.numpy(), folder / part_map_name(record, by_object=by_object))
    return score_part_maps(folder, loader.records, evaluator, rows=loader.rows)


def evaluate_expressions(predictor: Predictor, loader: TestLoader, *, file: Path) -> Results:
    """One line for each sentence of this process, into `file`, and their scores."""
    with whole_file(file) as beside, beside.open("w", encoding="utf-8") as lines:
        for record, pixels in loader:
            for place, expression in enumerate(record.expressions):
                found = json.loads(predictor.ground(pixels, expression.text).to_json())
                where = {"image_id": record.image_id, "expression": place, "text": expression.text}
                lines.write(json.dumps({**found, "file_name": record.file.as_posix(), **where}) + "\n")
    return score_expressions(file, loader.records, rows=loader.rows)
