"""Evaluation while training, and the best weights so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from partglee.checkpoint import read_metadata, write_weights
from partglee.data.catalog import DataSets
from partglee.engine.evaluate import evaluate
from partglee.engine.hooks import Hook
from partglee.engine.logging import LOGGER, MetricsFile
from partglee.engine.trainer import Trainer

AVERAGED = "ema/"
_COUNTS = ("issues/", "num_")


class Evaluate(Hook):
    """Evaluates every `TEST.PERIOD` steps and at the end, and keeps the weights with the best `TEST.BEST`.

    Where weights are averaged, both are evaluated; metrics of the averaged ones start with `ema/`, and the better of
    the two counts for the best, `model_best.safetensors`.

    Args:
        metrics, board: as for `LogMetrics`.
        metadata: text entries of the weight files.
        data: what the run has read; test sets are read once for all evaluations.
    """

    def __init__(
        self,
        *,
        cfg: CN,
        metrics: MetricsFile | None = None,
        board: Any = None,
        metadata: Mapping[str, str] | None = None,
        data: DataSets | None = None,
    ) -> None:
        self.cfg = cfg
        self.metrics = metrics
        self.board = board
        self.metadata = dict(metadata or {})
        self.data = data or DataSets()
        self.file = Path(cfg.OUTPUT_DIR) / "model_best.safetensors"
        self.best = -math.inf

    def before_train(self, trainer: Trainer) -> None:
        if trainer.iteration and trainer.accelerator.is_main_process and self.file.is_file():
            metadata = read_metadata(self.file)
            if metadata.get("metric") == self.cfg.TEST.BEST or not self.cfg.TEST.BEST:
                self.best = float(metadata.get("value", -math.inf))

    def after_step(self, trainer: Trainer) -> None:
        period = self.cfg.TEST.PERIOD
        if period and trainer.iteration % period == 0 and trainer.iteration < trainer.max_iter:
            self.run(trainer)

    def after_train(self, trainer: Trainer) -> None:
        self.run(trainer)

    def run(self, trainer: Trainer) -> dict[str, float]:
        """Evaluate now. Results are on the first process alone."""
        results: dict[str, float] = {}
        for prefix in ("", AVERAGED) if trainer.average is not None else ("",):
            averaged = bool(prefix) and trainer.average is not None
            with trainer.average.applied() if averaged and trainer.average is not None else nullcontext():
                found, pictures = evaluate(
                    self.cfg,
                    trainer.model,
                    trainer.accelerator,
                    folder=Path(self.cfg.OUTPUT_DIR) / "predictions" / ("ema" if averaged else ""),
                    pictures=self.cfg.TEST.IMAGES,
                    data=self.data,
                )
            results.update({prefix + key: value for key, value in found.items()})
            if self.board is not None:
                for name, picture in pictures.items():
                    self.board.add_image(f"{prefix}{name}", picture, trainer.iteration, dataformats="HWC")
        trainer.step.train()
        if trainer.accelerator.is_main_process:
            self._record(trainer, results)
            self._keep_best(trainer, results)
        trainer.accelerator.wait_for_everyone()
        return results

    def _record(self, trainer: Trainer, results: dict[str, float]) -> None:
        finite = {name: round(value, 4) for name, value in results.items() if math.isfinite(value)}
        if self.metrics is not None:
            self.metrics.write(trainer.iteration, {f"eval/{name}": value for name, value in finite.items()})
        if self.board is not None:
            for name, value in finite.items():
                self.board.add_scalar(f"eval/{name}", value, trainer.iteration)
            self.board.flush()

    def _keep_best(self, trainer: Trainer, results: dict[str, float]) -> None:
        key = best_metric(self.cfg.TEST.BEST, results)
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
