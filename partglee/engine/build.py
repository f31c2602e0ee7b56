"""A trainer from a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from fvcore.common.config import CfgNode as CN
from torch.utils.tensorboard import SummaryWriter

from partglee.checkpoint import read_metadata
from partglee.config import config_from_text
from partglee.criterion import build_criterion
from partglee.data.build import build_train_loader
from partglee.data.catalog import DataSets
from partglee.engine.checkpointer import Checkpointer
from partglee.engine.ema import WeightAverage
from partglee.engine.evaluation_hook import Evaluate
from partglee.engine.hooks import Hook, LogMetrics, SaveCheckpoints, restore
from partglee.engine.logging import MetricsFile
from partglee.engine.optimizer import build_optimizer
from partglee.engine.schedule import build_schedule
from partglee.engine.sharded import ShardedWeights, reach_everything
from partglee.engine.step import TrainingStep
from partglee.engine.trainer import Trainer
from partglee.engine.weight_files import CONFIG_TEXT, TABLE_NAMES, find_table, find_weights
from partglee.engine.weights import load_initial_weights
from partglee.modeling import PartGLEE, build_model
from partglee.structures import TrainingBatch

Batches = Callable[[int], Iterable[TrainingBatch]]
"""Optimiser step to start at -> an iterable of batches that does not end."""


def build_accelerator(cfg: CN, *, cpu: bool = False) -> Accelerator:
    """Devices, precision and processes. Under a launcher (torchrun, accelerate launch) this joins the other processes.

    Args:
        cpu: leave GPUs alone.
    """
    # A step on objects alone gives the Q-Former and the part decoder no gradient.
    handlers = [
        DistributedDataParallelKwargs(find_unused_parameters=True),
        InitProcessGroupKwargs(timeout=timedelta(hours=1)),
    ]
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    # Without a GPU, accelerate joins processes only when it is told that they are to run on the CPU.
    cpu = cpu or (launched > 1 and not torch.cuda.is_available())
    accelerator = Accelerator(mixed_precision=cfg.SOLVER.PRECISION, cpu=cpu, kwargs_handlers=handlers)
    if accelerator.num_processes != launched:
        raise ValueError(
            f"the launcher started {launched} processes, but {accelerator.num_processes} found each other; start with "
            "torchrun, accelerate launch, or --num-gpus"
        )
    return accelerator


def build_trainer(
    cfg: CN,
    accelerator: Accelerator,
    batches: Batches,
    *,
    model: PartGLEE | None = None,
    resume: bool = False,
    extra_hooks: Iterable[Hook] = (),
    data: DataSets | None = None,
) -> Trainer:
    """Everything around the batches.

    Args:
        batches: of `train_batches`, or any other source.
        model: with its initial weights; None = built and loaded as the configuration says.
        resume: go on from the last good checkpoint in `OUTPUT_DIR`, from the start when there is none.
        extra_hooks: after the logs, before checkpoints are saved.
        data: what the run has read, for evaluation while training.

    Raises:
        ValueError: when `OUTPUT_DIR` holds the checkpoints of an earlier run and `resume` is False, or is not the same
            folder for all processes.
    """
    s = cfg.SOLVER
    output_dir = Path(cfg.OUTPUT_DIR)
    checkpointer = Checkpointer(
        folder=output_dir / "checkpoints", keep=s.KEEP_CHECKPOINTS, metadata={CONFIG_TEXT: cfg.dump()}
    )
    earlier = checkpointer.list()
    _see_the_same(accelerator, earlier[0].name if earlier else "", output_dir)
    if earlier and not resume:
        raise ValueError(f"{earlier[0]} is of an earlier run; go on with it (--resume), or set another OUTPUT_DIR")
    model = build_initial_model(cfg) if model is None else model
    model.train()
    spread = s.SHARDED and accelerator.num_processes > 1
    step = TrainingStep(model=model, criterion=build_criterion(cfg), reach_all=reach_everything if spread else None)
    step.to(accelerator.device)
    sharded = None
    if spread:
        sharded = ShardedWeights(step)
        optimizer = accelerator.prepare(build_optimizer(cfg, model))
    else:
        step, optimizer = accelerator.prepare(step, build_optimizer(cfg, model))
    trainer = Trainer(
        accelerator=accelerator,
        step=step,
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(cfg),
        batches=batches,
        max_iter=s.MAX_ITER,
        output_dir=output_dir,
        accumulate=s.ACCUMULATE,
        clip=s.CLIP_GRADIENTS,
        average=WeightAverage(model=model, decay=s.EMA_DECAY) if s.EMA_DECAY else None,
        max_non_finite=s.MAX_NON_FINITE,
        max_unreadable=cfg.DATALOADER.MAX_CORRUPT,
        seed=s.SEED,
        sharded=sharded,
    )
    if resume:
        restore(trainer, checkpointer)
    metrics, board = None, None
    if accelerator.is_main_process:
        metrics = MetricsFile(output_dir / "metrics.jsonl", start=trainer.iteration)
        board = SummaryWriter(str(output_dir), purge_step=trainer.iteration + 1)
    trainer.hooks = [
        LogMetrics(period=s.LOG_PERIOD, metrics=metrics, board=board),
        *extra_hooks,
        SaveCheckpoints(checkpointer=checkpointer, period=s.CHECKPOINT_PERIOD),
    ]
    if cfg.DATASETS.TEST:
        trainer.hooks.append(Evaluate(cfg=cfg, metrics=metrics, board=board, metadata=checkpointer.metadata, data=data))
    return trainer


def _see_the_same(accelerator: Accelerator, newest: str, folder: Path) -> None:
    """The first process saves, all resume: on a machine with a folder of its own, some would start anew."""
    if accelerator.num_processes == 1:
        return
    steps = torch.tensor([int(newest.rpartition("_")[2] or 0)], device=accelerator.device)
    found = sorted(set(accelerator.gather(steps).tolist()))
    if len(found) > 1:
        raise ValueError(
            f"processes find different newest checkpoints in OUTPUT_DIR {folder} (of steps {found}, 0 = none); it must "
            "be one folder that all machines share"
        )


def build_initial_model(cfg: CN, *, complete: bool = False) -> PartGLEE:
    """The model as training starts: the same in every process, weights of the configuration loaded.

    Args:
        complete: every weight must come from `MODEL.WEIGHTS`, as evaluation needs it.
    """
    if cfg.MODEL.TEXT.BACKEND == "table":
        _find_names(cfg)
    torch.manual_seed(cfg.SOLVER.SEED)
    model = build_model(cfg)
    load_initial_weights(cfg, model, complete=complete)
    return model


def _find_names(cfg: CN) -> None:
    """The name table of the configuration, else the one that exported weights carry or that a run was trained with."""
    table = cfg.MODEL.TEXT.TABLE
    if table.FILE:
        table.FILE = str(find_table(table.FILE))
    elif cfg.MODEL.WEIGHTS:
        file = find_weights(cfg.MODEL.WEIGHTS)
        metadata = read_metadata(file)
        if CONFIG_TEXT not in metadata:
            return
        trained = config_from_text(metadata[CONFIG_TEXT], source=str(file)).MODEL.TEXT.TABLE
        source = file if TABLE_NAMES in metadata else Path(trained.FILE)
        if source.is_file():
            table.FILE, table.WIDTH, table.PROJECTED = str(source), trained.WIDTH, trained.PROJECTED


def train_batches(cfg: CN, accelerator: Accelerator, data: DataSets | None = None) -> Batches:
    """This process's share of the data sets of `DATASETS.TRAIN`.

    Args:
        data: what the run has read.
    """

    def start(step: int) -> Iterable[TrainingBatch]:
        rank, world_size = accelerator.process_index, accelerator.num_processes
        return build_train_loader(cfg, start_step=step, rank=rank, world_size=world_size, data=data)

    return start
