"""What happens around the steps and is told of them: logs, and evaluation while training."""

from __future__ import annotations

import datetime
import math
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from partglee.basics.processes import gather
from partglee.basics.signals import patience
from partglee.checkpoint import read_metadata, write_weights
from partglee.engine.evaluate import EvaluationFailed
from partglee.engine.logging import LOGGER, MetricsFile
from partglee.engine.trainer import Hook, Trainer

AVERAGED = "ema/"
_COUNTS = ("issues/", "num_")


class LogMetrics(Hook):
    """A line on the console, one in `metrics.jsonl` and points in TensorBoard, every `period` steps.

    Losses and times are means over the steps since the last line, and over the processes.

    Args:
        metrics: None = no file.
        board: a TensorBoard `SummaryWriter`; None = none.
    """

    def __init__(self, *, period: int, metrics: MetricsFile | None = None, board: Any = None) -> None:
        if period < 1:
            raise ValueError(f"SOLVER.LOG_PERIOD must be at least 1, got {period}")
        self.period = period
        self.metrics = metrics
        self.board = board
        self._sums: dict[str, Any] = {}
        self._counts: dict[str, int] = defaultdict(int)
        self._first = 0
        self._began = 0.0

    def before_train(self, trainer: Trainer) -> None:
        self._first, self._began = trainer.iteration, time.perf_counter()

    def after_step(self, trainer: Trainer) -> None:
        record = trainer.record
        if record.skipped != "non-finite":
            for name, loss in record.terms.items():
                self._add(f"loss/{name}", loss)
        self._add("time/step", record.seconds)
        self._add("time/data", record.data_seconds)
        if record.gradient_norm and math.isfinite(record.gradient_norm):  # one that is not would spoil the mean
            self._add("gradient_norm", record.gradient_norm)
        if trainer.iteration % self.period and trainer.iteration != trainer.max_iter:
            return
        shares = gather({name: (float(value), self._counts[name]) for name, value in self._sums.items()})
        self._sums.clear()
        self._counts.clear()
        if not shares:  # not the first process
            return
        values = _means(shares)
        values.update({f"rate/{name}": rate for name, rate in record.rates.items()})
        values.update({f"skipped/{reason}": count for reason, count in trainer.counts.items()})
        if trainer.unreadable:
            values["unreadable_images"] = len(trainer.unreadable)
        if (memory := _peak_memory(trainer.accelerator.device)) is not None:
            values["memory_mib"] = memory
        if self.metrics is not None:
            self.metrics.write(trainer.iteration, values)
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(name, value, trainer.iteration)
        LOGGER.info(self._line(trainer, values))

    def on_warning(self, message: str) -> None:
        LOGGER.warning(message)

    def close(self) -> None:
        if self.board is not None:
            self.board.close()

    def _add(self, name: str, value: Any) -> None:
        self._sums[name] = self._sums.get(name, 0) + value  # tensors stay on their device until the line is written
        self._counts[name] += 1

    def _line(self, trainer: Trainer, values: dict[str, float]) -> str:
        pace = (time.perf_counter() - self._began) / max(1, trainer.iteration - self._first)
        left = datetime.timedelta(seconds=int(pace * (trainer.max_iter - trainer.iteration)))
        pieces = [f"{trainer.iteration}/{trainer.max_iter} eta {left}"]
        if "loss/total" in values:
            pieces.append(f"loss {values['loss/total']:.3f}")
        pieces += [_shown(group, terms) for group, terms in _by_group(values).items()]
        pieces.append(f"step {values['time/step']:.3f}s data {values['time/data']:.3f}s")
        if "gradient_norm" in values:
            pieces.append(f"norm {values['gradient_norm']:.2f}")
        pieces.append(f"lr {max(trainer.record.rates.values()):.2e}")
        pieces += [f"mem {values['memory_mib']:.0f}M"] if "memory_mib" in values else []
        pieces += [f"unreadable {len(trainer.unreadable)}"] if trainer.unreadable else []
        pieces += [f"skipped {count} ({reason})" for reason, count in trainer.counts.items()]
        return " | ".join(pieces)


def _by_group(values: dict[str, float]) -> dict[str, dict[str, float]]:
    """Loss terms by the first part of their path, `loss/GROUP/TERM`; group "" holds those without one."""
    groups: dict[str, dict[str, float]] = defaultdict(dict)
    for name, value in values.items():
        path = name.split("/", 2)
        if path[0] == "loss" and name != "loss/total":
            groups[path[1] if len(path) == 3 else ""][path[-1]] = value
    return groups


def _shown(group: str, terms: dict[str, float]) -> str:
    noised = sum(value for name, value in terms.items() if name.startswith("denoising_"))
    pieces = [f"{name} {value:.2f}" for name, value in terms.items() if not name.startswith("denoising_")]
    pieces += [f"denoising {noised:.2f}"] if noised else []
    return (f"{group}: " if group else "") + " ".join(pieces)


def _peak_memory(device: torch.device) -> float | None:
    """MiB: of tensors on a GPU, else resident memory of this process; None where the system does not tell."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) // 2**20)
    try:
        import resource
    except ImportError:  # Windows has none
        return None
    # Kilobytes on Linux, bytes on macOS.
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10))


def _means(shares: list[dict[str, tuple[float, int]]]) -> dict[str, float]:
    """(sum, count) of each process to means over all; a term that a process does not have does not count there."""
    names = sorted({name for share in shares for name in share})
    pairs = {name: [share[name] for share in shares if name in share] for name in names}
    return {name: round(sum(s for s, _ in found) / sum(n for _, n in found), 6) for name, found in pairs.items()}


class Evaluate(Hook):
    """Evaluates every `period` steps and at the end, and keeps the weights with the best value of one metric.

    Where weights are averaged, both are evaluated; metrics of the averaged ones start with `ema/`, and the better of
    the two counts for the best, `model_best.safetensors`.

    Args:
        evaluate: (folder for predictions, pictures to draw) -> `data set/metric` -> number, empty on all processes but
            the first, and `data set/file` -> (H, W, 3) picture; of the trainer's model as it is at that moment.
        output_dir: of the run.
        period: 0 = at the end alone.
        best: name of the metric, higher is better; "" = the first one.
        pictures: of each evaluation, for the board.
        metrics, board: as for `LogMetrics`.
        metadata: text entries of the weight files.
    """

    def __init__(
        self,
        *,
        evaluate: Callable[[Path, int], tuple[dict[str, float], dict[str, Any]]],
        output_dir: Path,
        period: int = 0,
        best: str = "",
        pictures: int = 0,
        metrics: MetricsFile | None = None,
        board: Any = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.evaluate = evaluate
        self.output_dir = output_dir
        self.period = period
        self.wanted = best
        self.pictures = pictures
        self.metrics = metrics
        self.board = board
        self.metadata = dict(metadata or {})
        self.file = output_dir / "model_best.safetensors"
        self.best = -math.inf

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration and trainer.accelerator.is_main_process and self.file.is_file():
            metadata = read_metadata(self.file)
            if metadata.get("metric") == self.wanted or not self.wanted:
                self.best = float(metadata.get("value", -math.inf))

    def after_step(self, trainer: Trainer) -> None:
        if self.period and trainer.iteration % self.period == 0 and trainer.iteration < trainer.max_iter:
            self.run(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self.run(trainer)

    def run(self, trainer: Trainer) -> dict[str, float]:
        """Evaluate now. Results are on the first process alone.

        What cannot be evaluated is told and kept in `trainer.failures`: days of training do not end for one image.
        """
        results: dict[str, float] = {}
        for prefix in ("", AVERAGED) if trainer.average is not None else ("",):
            averaged = bool(prefix) and trainer.average is not None
            folder = self.output_dir / "predictions" / ("ema" if averaged else "")
            with trainer.average.applied() if averaged and trainer.average is not None else nullcontext():
                try:
                    with patience(False):  # it may take hours
                        values, pictures = self.evaluate(folder, self.pictures)
                except (ValueError, OSError) as error:
                    # What one process alone meets has left the others waiting: that ends the run.
                    if trainer.accelerator.num_processes > 1 and not isinstance(error, EvaluationFailed):
                        raise
                    return self._failed(trainer, error)
            results.update({prefix + key: value for key, value in values.items()})
            if self.board is not None:
                for name, picture in pictures.items():
                    self.board.add_image(f"{prefix}{name}", picture, trainer.iteration, dataformats="HWC")
        trainer.step.train()
        if trainer.accelerator.is_main_process:
            self._record(trainer, results)
            self._keep_best(trainer, results)
        trainer.accelerator.wait_for_everyone()
        return results

    def _failed(self, trainer: Trainer, error: Exception) -> dict[str, float]:
        trainer.step.train()
        trainer.failures.append(f"the evaluation after step {trainer.iteration} failed: {error}")
        if trainer.accelerator.is_main_process:
            LOGGER.error(trainer.failures[-1])
        trainer.accelerator.wait_for_everyone()
        return {}

    def _record(self, trainer: Trainer, results: dict[str, float]) -> None:
        finite = {name: round(value, 4) for name, value in results.items() if math.isfinite(value)}
        if self.metrics is not None:
            self.metrics.write(trainer.iteration, {f"eval/{name}": value for name, value in finite.items()})
        if self.board is not None:
            for name, value in finite.items():
                self.board.add_scalar(f"eval/{name}", value, trainer.iteration)
            self.board.flush()

    def _keep_best(self, trainer: Trainer, results: dict[str, float]) -> None:
        key = best_metric(self.wanted, results)
        if key is None:
            return
        candidates = {prefix: results.get(prefix + key, math.nan) for prefix in ("", AVERAGED)}
        prefix = max(candidates, key=lambda p: -math.inf if math.isnan(candidates[p]) else candidates[p])
        value = candidates[prefix]
        if not value > self.best:
            return
        self.best = value
        averaged = prefix == AVERAGED and trainer.average is not None
        state = trainer.average.state_dict() if averaged and trainer.average is not None else trainer.model.state_dict()
        note = {"metric": key, "value": repr(value), "iteration": str(trainer.iteration), "averaged": str(averaged)}
        write_weights(state, self.file, {**self.metadata, **note})
        LOGGER.info(f"best so far: {prefix}{key} {value:.3f} -> {self.file}")


def best_metric(wanted: str, results: Mapping[str, float]) -> str | None:
    """The metric of `TEST.BEST`, or the first rate that there is; a wrong name is told, with all that there are."""
    if wanted in results:
        return wanted
    rates = [name for name in results if not name.startswith(AVERAGED) and not any(c in name for c in _COUNTS)]
    if wanted:
        LOGGER.warning(
            f"TEST.BEST {wanted!r} is none of the metrics, {rates[0] if rates else 'nothing'} is taken; there are "
            f"{', '.join(rates)}"
        )
    return rates[0] if rates else None
