"""What happens around the steps: logs, checkpoints, evaluation."""

from __future__ import annotations

import datetime
import math
import resource
import sys
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch

from partglee.basics.processes import gather
from partglee.checkpoint import write_weights
from partglee.engine.logging import LOGGER, MetricsFile

if TYPE_CHECKING:
    from partglee.engine.checkpointer import Checkpointer
    from partglee.engine.trainer import Trainer


class Hook:
    """Called by `Trainer.train`; `trainer.iteration` counts the steps that are done."""

    def before_train(self, trainer: Trainer) -> None:
        """Before the first step."""

    def after_step(self, trainer: Trainer) -> None:
        """After each step; `trainer.record` says what it did."""

    def after_train(self, trainer: Trainer) -> None:
        """After the last step of a run that reached its end."""

    def on_warning(self, message: str) -> None:
        """Something was left out."""

    def close(self) -> None:
        """At the end of the run, also of one that failed."""


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
        values["memory_mib"] = _peak_memory(trainer.accelerator.device)
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
        for level in ("object", "part", "text"):
            terms = {n.removeprefix(f"loss/{level}/"): v for n, v in values.items() if n.startswith(f"loss/{level}/")}
            noised = sum(v for n, v in terms.items() if n.startswith("denoising_"))
            shown = [f"{n} {v:.2f}" for n, v in terms.items() if not n.startswith("denoising_")]
            shown += [f"denoising {noised:.2f}"] if noised else []
            pieces += [f"{level}: {' '.join(shown)}"] if shown else []
        pieces.append(f"step {values['time/step']:.3f}s data {values['time/data']:.3f}s")
        if "gradient_norm" in values:
            pieces.append(f"norm {values['gradient_norm']:.2f}")
        pieces.append(f"lr {max(trainer.record.rates.values()):.2e}")
        pieces.append(f"mem {values['memory_mib']:.0f}M")
        pieces += [f"unreadable {len(trainer.unreadable)}"] if trainer.unreadable else []
        pieces += [f"skipped {count} ({reason})" for reason, count in trainer.counts.items()]
        return " | ".join(pieces)


def _peak_memory(device: torch.device) -> float:
    """MiB: of tensors on a GPU, else resident memory of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device) // 2**20)
    # Kilobytes on Linux, bytes on macOS.
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10))


def _means(shares: list[dict[str, tuple[float, int]]]) -> dict[str, float]:
    """(sum, count) of each process to means over all; a term that a process does not have does not count there."""
    names = sorted({name for share in shares for name in share})
    pairs = {name: [share[name] for share in shares if name in share] for name in names}
    return {name: round(sum(s for s, _ in found) / sum(n for _, n in found), 6) for name, found in pairs.items()}


class SaveCheckpoints(Hook):
    """A checkpoint every `period` steps and after the last one, written by the first process."""

    def __init__(self, *, checkpointer: Checkpointer, period: int) -> None:
        if period < 1:
            raise ValueError(f"SOLVER.CHECKPOINT_PERIOD must be at least 1, got {period}")
        self.checkpointer = checkpointer
        self.period = period

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration % self.period == 0 or trainer.iteration == trainer.max_iter:
            save(trainer, self.checkpointer)

    def after_train(self, trainer: Trainer) -> None:
        """`model_final.safetensors`, and `model_final_ema.safetensors` where weights are averaged."""
        model, _ = states(trainer)
        if trainer.accelerator.is_main_process:
            metadata = {**self.checkpointer.metadata, "iteration": str(trainer.iteration)}
            write_weights(model, trainer.output_dir / "model_final.safetensors", metadata)
            if trainer.average is not None:
                file = trainer.output_dir / "model_final_ema.safetensors"
                write_weights(trainer.average.state_dict(), file, {**metadata, "averaged": "True"})
        trainer.accelerator.wait_for_everyone()


def save(trainer: Trainer, checkpointer: Checkpointer) -> None:
    """Write everything that the next step depends on; every process must call this."""
    model, optimizer = states(trainer)
    if trainer.accelerator.is_main_process:
        scaler = trainer.accelerator.scaler
        state = {
            "iteration": trainer.iteration,
            "optimizer": optimizer,
            "scaler": None if scaler is None else scaler.state_dict(),
            "counts": dict(trainer.counts),
            "unreadable": dict(trainer.unreadable.reasons),
            "average_updates": 0 if trainer.average is None else trainer.average.num_updates,
        }
        folder = checkpointer.save(
            trainer.iteration,
            model=model,
            average=None if trainer.average is None else trainer.average.state_dict(),
            state=state,
        )
        LOGGER.info(f"saved {folder}")
    trainer.accelerator.wait_for_everyone()


def states(trainer: Trainer) -> tuple[dict[str, Any], dict[str, Any]]:
    """Model and optimiser, whole; every process must call this."""
    if trainer.sharded is not None:
        return trainer.sharded.states(trainer.optimizer.optimizer)
    return trainer.model.state_dict(), trainer.optimizer.state_dict()


def _load_optimizer(optimizer: Any, state: dict[str, Any]) -> None:
    """Moments and counts; rates and decays stay those of the configuration, which the user may have changed."""
    ours = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, values in zip(optimizer.param_groups, ours, strict=True):
        group.update(values)


def restore(trainer: Trainer, checkpointer: Checkpointer) -> bool:
    """Go on from the last good checkpoint; False when there is none.

    Raises:
        ValueError: when it belongs to another model or optimiser.
    """
    found = checkpointer.latest(LOGGER.warning)
    if found is None:
        LOGGER.info(f"no checkpoint to go on from in {checkpointer.folder}: starting at the beginning")
        return False
    try:
        if trainer.sharded is not None:
            trainer.sharded.load(trainer.optimizer.optimizer, found.model, found.state["optimizer"])
        else:
            trainer.model.load_state_dict(found.model)
            _load_optimizer(trainer.optimizer, found.state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{found.folder} does not fit this configuration: {str(error).splitlines()[0]}; resume with the one that "
            "it was trained with, or start from its weights alone with MODEL.WEIGHTS"
        ) from error
    if trainer.accelerator.scaler is not None and found.state["scaler"]:
        trainer.accelerator.scaler.load_state_dict(found.state["scaler"])
    if trainer.average is not None:
        if found.average is None:
            raise ValueError(f"{found.folder} has no averaged weights; resume with SOLVER.EMA_DECAY 0")
        trainer.average.load_state_dict(found.average, found.state["average_updates"])
    trainer.counts.update(found.state["counts"])
    trainer.unreadable.reasons.update(found.state.get("unreadable", {}))  # older checkpoints have none
    trainer.iteration = found.state["iteration"]
    LOGGER.info(f"resumed from {found.folder}")
    return True
