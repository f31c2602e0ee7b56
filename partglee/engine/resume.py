"""A run that stops and goes on: what a checkpoint takes of a trainer, and gives back."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator

from partglee.checkpoint import read_metadata, write_weights
from partglee.data.catalog import get_dataset
from partglee.engine.checkpointer import Checkpointer, fingerprint
from partglee.engine.logging import LOGGER
from partglee.engine.trainer import Hook, Trainer
from partglee.engine.weight_files import CONFIG_TEXT

DATA = "partglee_data"  # metadata: fingerprints of the annotations that a run trains on


class SaveCheckpoints(Hook):
    """A checkpoint every `period` steps and after the last one, written by the first process."""

    def __init__(self, *, checkpointer: Checkpointer, period: int) -> None:
        if period < 1:
            raise ValueError(f"SOLVER.CHECKPOINT_PERIOD must be at least 1, got {period}")
        self.checkpointer = checkpointer
        self.period = period
        self._saved = -1

    def before_train(self, trainer: Trainer) -> None:
        self._saved = trainer.iteration  # what it was resumed from, or what needs no checkpoint

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration % self.period == 0 or trainer.iteration == trainer.max_iter:
            self._save(trainer)

    def on_stop(self, trainer: Trainer) -> None:
        if trainer.iteration != self._saved:
            self._save(trainer)
        if trainer.accelerator.is_main_process:
            LOGGER.info(f"stopped by SIGTERM after step {trainer.iteration}; --resume goes on from there")

    def _save(self, trainer: Trainer) -> None:
        save(trainer, self.checkpointer)
        self._saved = trainer.iteration

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
    checkpoint = checkpointer.latest(LOGGER.warning)
    if checkpoint is None:
        LOGGER.info(f"no checkpoint to go on from in {checkpointer.folder}: starting at the beginning")
        return False
    try:
        if trainer.sharded is not None:
            trainer.sharded.load(trainer.optimizer.optimizer, checkpoint.model, checkpoint.state["optimizer"])
        else:
            trainer.model.load_state_dict(checkpoint.model)
            _load_optimizer(trainer.optimizer, checkpoint.state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise ValueError(
            f"{checkpoint.folder} does not fit this configuration: {str(error).splitlines()[0]}; resume with the "
            "one that it was trained with, or start from its weights alone with MODEL.WEIGHTS"
        ) from error
    if trainer.accelerator.scaler is not None and checkpoint.state["scaler"]:
        trainer.accelerator.scaler.load_state_dict(checkpoint.state["scaler"])
    if trainer.average is not None:
        if checkpoint.average is None:
            raise ValueError(f"{checkpoint.folder} has no averaged weights; resume with SOLVER.EMA_DECAY 0")
        trainer.average.load_state_dict(checkpoint.average, checkpoint.state["average_updates"])
    trainer.counts.update(checkpoint.state["counts"])
    trainer.unreadable.reasons.update(checkpoint.state.get("unreadable", {}))  # older checkpoints have none
    trainer.iteration = checkpoint.state["iteration"]
    if trainer.accelerator.is_main_process:
        for what in changes(read_metadata(checkpoint.folder / "model.safetensors"), checkpointer.metadata):
            LOGGER.warning(f"resumed with another {what}")
    LOGGER.info(f"resumed from {checkpoint.folder}")
    return True


def data_fingerprints(names: Sequence[str]) -> str:
    """JSON: data set -> size and CRC-32 of its annotation file, or number and bytes of the files of its folder."""
    prints: dict[str, dict[str, int]] = {}
    for name in names:
        path = get_dataset(name).annotation_path
        if path.is_file():
            prints[name] = fingerprint(path)
        elif path.is_dir():
            sizes = [entry.stat().st_size for entry in os.scandir(path) if entry.is_file()]
            prints[name] = {"files": len(sizes), "bytes": sum(sizes)}
    return json.dumps(prints)


def changes(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """What a run is resumed with that its checkpoint was not written with, each as `KEY: old, now new`.

    Args:
        then, now: text entries of weight files.
    """
    told = []
    if CONFIG_TEXT in then and CONFIG_TEXT in now:
        old, new = (_flat(yaml.safe_load(entries[CONFIG_TEXT])) for entries in (then, now))
        keys = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
        told += [f"{key}: {old.get(key)!r:.200}, now {new.get(key)!r:.200}" for key in keys]
    if DATA in then and DATA in now:
        before, after = json.loads(then[DATA]), json.loads(now[DATA])
        told += [
            f"annotation file of data set {name!r}: {before[name]}, now {after[name]}"
            for name in sorted({*before} & {*after})
            if before[name] != after[name]
        ]
    return told


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    return {
        path: leaf for name, inner in value.items() for path, leaf in _flat(inner, f"{key}.{name}".strip(".")).items()
    }


def see_the_same(accelerator: Accelerator, newest: str, folder: Path) -> None:
    """The first process saves, all resume: on a machine with a folder of its own, some would start anew.

    Args:
        newest: name of the newest checkpoint that this process sees; "" = none.

    Raises:
        ValueError: in all processes, when they see different ones.
    """
    if accelerator.num_processes == 1:
        return
    steps = torch.tensor([int(newest.rpartition("_")[2] or 0)], device=accelerator.device)
    newest_steps = sorted(set(accelerator.gather(steps).tolist()))
    if len(newest_steps) > 1:
        raise ValueError(
            f"processes find different newest checkpoints in OUTPUT_DIR {folder} (of steps {newest_steps}, 0 = none); "
            "it must be one folder that all machines share"
        )
