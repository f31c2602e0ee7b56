"""A model against annotated data sets: predictions to a file, the file to numbers."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import gather_object
from fvcore.common.config import CfgNode as CN
from torch import nn

from partglee.basics.files import whole_file
from partglee.data.build import build_test_loader
from partglee.data.catalog import DataSets, get_dataset
from partglee.data.expression_views import kept_rows
from partglee.data.loader import TestLoader
from partglee.engine.answers import Pictures, Questions, write_answers, writer_of
from partglee.engine.logging import LOGGER
from partglee.evaluation import format_table
from partglee.evaluation.protocols import ScoringOptions, protocol_of

LEFT_OUT = "images left out"  # of the results, behind issues/
_SHOWN = 5


class EvaluationFailed(ValueError):
    """The predictions of a data set could not be made; raised in all processes alike, so that a run can go on."""


def evaluate(
    cfg: CN,
    model: nn.Module,
    accelerator: Accelerator,
    *,
    answerer: Callable[[CN, Any], Any],
    folder: Path,
    pictures: int = 0,
    data: DataSets | None = None,
) -> tuple[dict[str, float], Pictures]:
    """Evaluate on every data set of `DATASETS.TEST`; every process takes a share of the images.

    Args:
        cfg: `DATASETS` and `DATALOADER.NUM_WORKERS` are read.
        model: unwrapped; its mode is left as it was.
        answerer: (cfg, model) -> what writes its answers, see `partglee.engine.answerers`.
        folder: gets `NAME.jsonl`, the predictions, one image (or expression) a line, or `NAME/` with part maps; what
            the protocol of the data set says.
        pictures: of predictions, in all.
        data: what the run has read.

    Returns:
        `data set/metric` -> number (`data set/part/mask/AP50`), empty on all processes but the first; and
        `data set/file name` -> picture, of this process.

    Raises:
        EvaluationFailed: in all processes, when one of them cannot write its predictions, such as for an image that
            cannot be read (`TEST.LENIENT` leaves it out, with its annotations).
        ValueError: for a data set that is missing, or whose questions the model does not answer.
    """
    results: dict[str, float] = {}
    drawn: Pictures = {}
    each = math.ceil(pictures / max(len(cfg.DATASETS.TEST), 1)) if accelerator.is_main_process else 0
    with _evaluated(model):
        answers = answerer(cfg, model)
        for name in cfg.DATASETS.TEST:
            scored, shown = _evaluate_one(cfg, answers, accelerator, name, folder=folder, pictures=each, data=data)
            results.update({f"{name}/{key}": value for key, value in scored.items()})
            drawn.update({f"{name}/{key}": value for key, value in shown.items()})
    return results, drawn


def check_answers(cfg: CN, model: nn.Module, *, answerer: Callable[[CN, Any], Any], data: DataSets) -> None:
    """Whether the model answers what `DATASETS.TEST` will ask; known before the first step.

    Args:
        answerer: as for `evaluate`.
        data: what the run has read.

    Raises:
        ValueError: for a data set whose questions it does not answer.
    """
    with _evaluated(model):
        answers = answerer(cfg, model)
    for name in cfg.DATASETS.TEST:
        writer_of(protocol_of(get_dataset(name), data.records(name)).reads, answers, name)


@contextmanager
def _evaluated(model: nn.Module) -> Iterator[None]:
    """In evaluation mode inside, as before afterwards."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def _evaluate_one(
    cfg: CN, answers: Any, accelerator: Accelerator, name: str, *, folder: Path, pictures: int, data: DataSets | None
) -> tuple[dict[str, float], Pictures]:
    spec, count = get_dataset(name), accelerator.num_processes
    loader = build_test_loader(cfg, name, rank=accelerator.process_index, world_size=count, data=data)
    protocol = protocol_of(spec, loader.records)
    file = protocol.reads.place(folder, name)
    share = _share(file, accelerator.process_index, count)
    drawn, error = {}, None
    try:
        drawn = write_answers(protocol.reads, answers, Questions(spec, loader), share, pictures=pictures)
    except (OSError, ValueError) as raised:
        error = raised
    left_out = _over_processes(name, loader, error, count)
    records, rows = loader.records, list(loader.rows)
    if left_out:
        LOGGER.warning(f"{name}: {_told(left_out)}; left out with their annotations")
        records, place = kept_rows(records, left_out)
        rows = [place[row] for row in rows if row in place]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        options = ScoringOptions(spec=spec, rows=rows, by_label=True)
        results = protocol.score(share, records, options)
    if left_out and results:
        results[f"issues/{LEFT_OUT}"] = float(len(left_out))
    for note in notes:
        if issubclass(note.category, UserWarning):  # of the evaluators, not of libraries to their developers
            LOGGER.info(f"{share.name}: {note.message}")
    if share != file:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _join(file, count)
    if accelerator.is_main_process:
        LOGGER.info(format_table(results, title=f"{name} -> {file}"))
    return results, drawn


def _over_processes(name: str, loader: TestLoader, error: Exception | None, count: int) -> dict[int, str]:
    """Rows that any process left out -> why.

    Raises:
        EvaluationFailed: in all processes, when one has an error or nothing is left.
    """
    told = [(str(error) if error else "", loader.left_out)]
    if count > 1:
        told = gather_object(told)
    failed = [message for message, _ in told if message]
    if failed:
        raise EvaluationFailed(f"data set {name!r}: {failed[0]}") from error
    left_out = {row: why for _, rows in told for row, why in rows.items()}
    if len(left_out) == len(loader.records) > 0:
        raise EvaluationFailed(f"data set {name!r}: {_told(left_out)}; nothing is left to score")
    return dict(sorted(left_out.items()))


def _told(left_out: dict[int, str]) -> str:
    more = f" and {len(left_out) - _SHOWN} more" if len(left_out) > _SHOWN else ""
    return f"{len(left_out)} images cannot be evaluated: {'; '.join(list(left_out.values())[:_SHOWN])}{more}"


def _share(file: Path, process: int, num_processes: int) -> Path:
    """What one process writes of `file`; all write into the same folder."""
    return file if num_processes == 1 or not file.suffix else file.with_suffix(f".{process}{file.suffix}")


def _join(file: Path, num_processes: int) -> None:
    """The shares of all processes, one file."""
    shares = [_share(file, i, num_processes) for i in range(num_processes)]
    with whole_file(file) as beside:
        beside.write_text("".join(share.read_text(encoding="utf-8") for share in shares), encoding="utf-8")
    for share in shares:
        share.unlink()
