"""A model against annotated data sets: predictions to a file, the file to numbers."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.basics.files import whole_file
from partglee.data.build import build_test_loader
from partglee.data.catalog import DataSets, get_dataset
from partglee.data.records import ImageRecord
from partglee.engine.evaluate_maps import evaluate_expressions, evaluate_part_maps
from partglee.engine.logging import LOGGER
from partglee.engine.predictor import Predictor
from partglee.evaluation import dataset_evaluator, format_table, score_file
from partglee.evaluation.instances import InstanceEvaluator
from partglee.modeling import PartGLEE
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Prediction, Vocabulary

_PRECISIONS = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}


def evaluate(
    cfg: CN,
    model: PartGLEE,
    accelerator: Accelerator,
    *,
    folder: Path,
    pictures: int = 0,
    data: DataSets | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Evaluate on every data set of `DATASETS.TEST`; every process takes a share of the images.

    Args:
        model: unwrapped; its mode is left as it was.
        folder: gets `NAME.jsonl`, the predictions, one image (or expression) a line, or `NAME/` with part maps.
        pictures: of predictions, in all.
        data: what the run has read.

    Returns:
        `data set/metric` -> number (`data set/part/mask/AP50`), empty on all processes but the first; and
        `data set/file name` -> picture, of this process.

    Raises:
        ValueError: for a data set that is missing, or whose evaluator the loop does not know.
    """
    results: dict[str, float] = {}
    drawn: dict[str, Any] = {}
    was_training = model.training
    try:
        for name in cfg.DATASETS.TEST:
            each = math.ceil(pictures / len(cfg.DATASETS.TEST)) if accelerator.is_main_process else 0
            file = folder / f"{name}.jsonl"
            found, shown = evaluate_dataset(cfg, model, accelerator, name, file=file, pictures=each, data=data)
            results.update({f"{name}/{key}": value for key, value in found.items()})
            drawn.update({f"{name}/{key}": value for key, value in shown.items()})
    finally:
        model.train(was_training)
    return results, drawn


def evaluate_dataset(
    cfg: CN,
    model: PartGLEE,
    accelerator: Accelerator,
    name: str,
    *,
    file: Path,
    pictures: int = 0,
    data: DataSets | None = None,
) -> tuple[dict[str, float], dict[str, Any]]:
    """One data set; see `evaluate`."""
    spec = get_dataset(name)
    rank, world_size = accelerator.process_index, accelerator.num_processes
    loader = build_test_loader(cfg, name, rank=rank, world_size=world_size, data=data)
    predictor = Predictor(
        model=model,
        short_side=cfg.INPUT.TEST.SHORT_SIDE,
        max_side=cfg.INPUT.TEST.MAX_SIDE,
        score_threshold=cfg.TEST.SCORE_THRESHOLD,
        precision=_PRECISIONS[cfg.SOLVER.PRECISION],
    )
    if spec.evaluator == "semantic_parts":
        file = file.with_suffix("")
        results = evaluate_part_maps(predictor, spec, loader, folder=file, queries=cfg.TEST.PART_QUERIES)
        return _told(results, name, file, accelerator), {}
    share = _share(file, accelerator.process_index, accelerator.num_processes)
    if spec.evaluator in ("referring", "refcoco_boxes"):
        results = evaluate_expressions(predictor, loader, file=share)
        _join_shares(file, accelerator)
        return _told(results, name, file, accelerator), {}
    vocabulary = loader.records.vocabulary
    evaluator = dataset_evaluator(spec, loader.records)
    options = PostprocessOptions(
        multi_label=MultiLabel(
            object_queries=cfg.TEST.OBJECT_QUERIES,
            part_queries=cfg.TEST.PART_QUERIES,
            detections=cfg.TEST.DETECTIONS,
            part_overlap=cfg.TEST.PART_OVERLAP if cfg.TEST.PART_OVERLAP < 1 else None,
        ),
        masks="segm" in evaluator.kinds,
    )
    drawn: dict[str, Any] = {}
    with whole_file(share) as beside, beside.open("w", encoding="utf-8") as lines:
        for record, pixels in loader:
            prediction = next(predictor.stream([pixels], vocabulary, options))
            lines.write(_line(record, prediction, vocabulary) + "\n")
            if len(drawn) < pictures:
                drawn[record.file.name or str(record.image_id)] = _picture(predictor, pixels, vocabulary)
    results = score(share, evaluator)
    _join_shares(file, accelerator)
    return _told(results, name, file, accelerator), drawn


def _told(results: dict[str, float], name: str, file: Path, accelerator: Accelerator) -> dict[str, float]:
    if accelerator.is_main_process:
        LOGGER.info(format_table(results, title=f"{name} -> {file}"))
    return results


def _join_shares(file: Path, accelerator: Accelerator) -> None:
    if accelerator.num_processes > 1:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _join(file, accelerator.num_processes)


def score(file: Path, evaluator: InstanceEvaluator) -> dict[str, float]:
    """Numbers of a predictions file; what is only worth a note goes to the log."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        results = score_file(file, evaluator) if file.stat().st_size else evaluator.evaluate()
    for note in notes:
        LOGGER.info(f"{file.name}: {note.message}")
    return results


def _line(record: ImageRecord, prediction: Prediction, vocabulary: Vocabulary) -> str:
    """As `Prediction.to_json`, with the image's id, and with the object that a part's name belongs to.

    The object of the name need not be that of the parent, and a part may have no parent.
    """
    height, width = prediction.image_size
    results = prediction.to_coco(image_id=record.image_id)
    for row in results:
        owners = vocabulary.part_owner[row["category_id"]] if row["level"] == "part" else ()
        if len(owners) == 1:
            row["object"] = vocabulary.object_names[owners[0]]
    name = record.file.as_posix()
    return json.dumps(
        {"file_name": name, "image_id": record.image_id, "height": height, "width": width, "results": results}
    )


def _picture(predictor: Predictor, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> NDArray[np.uint8]:
    """(H, W, 3): what a user of these weights would see, the best objects of it."""
    found = predictor(pixels, vocabulary, max_objects=8, max_parts_per_object=8)
    return np.asarray(found.draw(scale=1.0).convert("RGB"))


def _share(file: Path, process: int, num_processes: int) -> Path:
    """What one process writes of `file`."""
    return file if num_processes == 1 else file.with_suffix(f".{process}.jsonl")


def _join(file: Path, num_processes: int) -> None:
    """The shares of all processes, one file."""
    shares = [_share(file, i, num_processes) for i in range(num_processes)]
    with whole_file(file) as beside:
        beside.write_text("".join(share.read_text(encoding="utf-8") for share in shares), encoding="utf-8")
    for share in shares:
        share.unlink()
