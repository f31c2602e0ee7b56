"""Evaluation inside a run: every data set of `DATASETS.TEST` is asked, its answers go to a file, the file is scored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from accelerate.utils import gather_object
from fvcore.common.config import CfgNode as CN
from tqdm import tqdm

from mglmm.data.loader import SourceRecords, pixels_of
from mglmm.data.record import Record
from mglmm.evaluation import PROTOCOLS, metric_names, questions, score, table, write_predictions
from mglmm.evaluation.asking import ask
from mglmm.segcap import SegCap
from partglee.data.catalog import DataSets, get_dataset
from partglee.data.records import Records
from partglee.data.spec import DatasetSpec
from partglee.engine.evaluate import EvaluationFailed
from partglee.engine.logging import LOGGER

Lines = list[tuple[str, dict[str, Any]]]


def evaluate_run(
    cfg: CN, model: Any, accelerator: Accelerator, *, folder: Path, pictures: int, data: DataSets
) -> tuple[dict[str, float], dict[str, Any]]:
    """Generated answers to the questions of `DATASETS.TEST`, scored as each source says.

    Args:
        cfg: `TEST.MAX_RECORDS` of each data set are asked, 0 = all.
        model: unwrapped, on its device; its mode is left as it was.
        folder: gets `NAME.jsonl`.
        pictures: of answers, in all.

    Returns:
        `data set/metric` -> number, empty on all processes but the first; `data set/record` -> (H, W, 3) picture.

    Raises:
        EvaluationFailed: in all processes, for a record that one of them cannot read.
    """
    results: dict[str, float] = {}
    drawn: dict[str, Any] = {}
    was_training = model.training
    each = math.ceil(pictures / max(len(cfg.DATASETS.TEST), 1)) if accelerator.is_main_process else 0
    try:
        talk = SegCap(model, cfg)
        for name in cfg.DATASETS.TEST:
            spec, records = get_dataset(name), data.records(name)
            source = source_of(name, records).source
            asked = list(questions(source, most=cfg.TEST.MAX_RECORDS or None))
            own = asked[accelerator.process_index :: accelerator.num_processes]
            lines, shown, error = _answers(talk, own, source.images, each, name)
            lines = _of_all(lines, error, name, accelerator)
            drawn |= {f"{name}/{key}": picture for key, picture in shown.items()}
            if accelerator.is_main_process:
                file = folder / f"{name}.jsonl"
                write_predictions(sorted(lines, key=_order(asked)), file)
                scored = score(spec.options["protocol"], file, asked)
                LOGGER.info(table(f"{name} -> {file}", scored))
                results |= {f"{name}/{key}": value for key, value in scored.items()}
    finally:
        model.train(was_training)
    return results, drawn


def metrics_of(spec: DatasetSpec, records: Records) -> Sequence[str]:
    """What the evaluation of a data set gives of which more is better: `TEST.BEST` is one of them.

    Raises:
        ValueError: for a data set that is none of conversations, or one without a protocol.
    """
    source_of(spec.name, records)
    protocol = spec.options.get("protocol", "")
    if protocol not in PROTOCOLS:
        raise ValueError(
            f"data set {spec.name!r} says no protocol; register it with protocol= one of {', '.join(PROTOCOLS)}"
        )
    return metric_names(protocol)


def source_of(name: str, records: Records) -> SourceRecords:
    """The records, where they are conversations; ValueError otherwise."""
    if not isinstance(records, SourceRecords):
        raise ValueError(
            f"data set {name!r} is none of conversations; register it with mglmm.data.loader.register_source and a way "
            "to make records of it (mglmm.data.library_source)"
        )
    return records


def _answers(
    talk: SegCap, asked: Sequence[Record], images: Path | None, pictures: int, title: str
) -> tuple[Lines, dict[str, Any], Exception | None]:
    lines: Lines = []
    shown: dict[str, Any] = {}
    try:
        for record in tqdm(asked, title, unit=" answers", disable=None):
            answer = ask(talk, record, pixels_of(record, images))
            lines.append((record.name, answer.to_dict()))
            if len(shown) < pictures:
                shown[record.name] = np.asarray(answer.draw())
    except (OSError, ValueError) as error:
        return lines, shown, error
    return lines, shown, None


def _of_all(lines: Lines, error: Exception | None, name: str, accelerator: Accelerator) -> Lines:
    told = [(str(error) if error else "", lines)]
    if accelerator.num_processes > 1:
        told = gather_object(told)
    if failed := [message for message, _ in told if message]:
        raise EvaluationFailed(f"data set {name!r}: {failed[0]}") from error
    return [line for _, some in told for line in some]


def _order(asked: Sequence[Record]) -> Any:
    place = {record.name: row for row, record in enumerate(asked)}
    return lambda line: place[line[0]]
