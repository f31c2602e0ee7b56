"""A trainer from a recipe and a configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs
from fvcore.common.config import CfgNode as CN
from torch.utils.tensorboard import SummaryWriter

from partglee.data.catalog import DataSets
from partglee.engine.checkpointer import Checkpointer
from partglee.engine.ema import WeightAverage
from partglee.engine.evaluate import evaluate
from partglee.engine.hooks import Evaluate, LogMetrics
from partglee.engine.logging import MetricsFile
from partglee.engine.optimizer import build_optimizer
from partglee.engine.recipe import Evaluated, Recipe, get_recipe
from partglee.engine.resume import DATA, SaveCheckpoints, data_fingerprints, restore, see_the_same
from partglee.engine.schedule import build_schedule
from partglee.engine.sharded import ShardedWeights
from partglee.engine.step import Batches, ReachEverything
from partglee.engine.trainer import Hook, Trainer
from partglee.engine.weight_files import CONFIG_TEXT


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
    batches: Batches | None = None,
    *,
    recipe: Recipe | None = None,
    model: Any = None,
    resume: bool = False,
    extra_hooks: Iterable[Hook] = (),
    data: DataSets | None = None,
) -> Trainer:
    """Everything around the batches.

    Args:
        batches: None = of the recipe.
        recipe: None = the one that the configuration names.
        model: with its initial weights; None = built and loaded as the configuration says.
        resume: go on from the last good checkpoint in `OUTPUT_DIR`, from the start when there is none.
        extra_hooks: after the logs, before checkpoints are saved.
        data: what the run has read.

    Raises:
        ValueError: when `OUTPUT_DIR` holds the checkpoints of an earlier run and `resume` is False, or is not the same
            folder for all processes.
    """
    recipe = get_recipe(cfg.RECIPE) if recipe is None else recipe
    data = data or DataSets()
    s = cfg.SOLVER
    output_dir = Path(cfg.OUTPUT_DIR)
    metadata = {CONFIG_TEXT: cfg.dump()}
    if batches is None and accelerator.is_main_process:
        metadata[DATA] = data_fingerprints(cfg.DATASETS.TRAIN)
    checkpointer = Checkpointer(folder=output_dir / "checkpoints", keep=s.KEEP_CHECKPOINTS, metadata=metadata)
    earlier = checkpointer.list()
    see_the_same(accelerator, earlier[0].name if earlier else "", output_dir)
    if earlier and not resume:
        raise ValueError(f"{earlier[0]} is of an earlier run; go on with it (--resume), or set another OUTPUT_DIR")
    model = build_initial_model(cfg, recipe=recipe) if model is None else model
    model.train()
    spread = s.SHARDED and accelerator.num_processes > 1
    step = recipe.build_step(cfg, model)
    if spread:
        step = ReachEverything(model, step)
    step.to(accelerator.device)
    optimizer_of = partial(build_optimizer, cfg, group_of=recipe.group_of, embeddings=recipe.embeddings)
    sharded = None
    if spread:
        sharded = ShardedWeights(model, step)
        optimizer = accelerator.prepare(optimizer_of(model))
    else:
        step, optimizer = accelerator.prepare(step, optimizer_of(model))
    trainer = Trainer(
        accelerator=accelerator,
        step=step,
        model=model,
        optimizer=optimizer,
        schedule=build_schedule(cfg),
        batches=recipe.train_batches(cfg, accelerator, data) if batches is None else batches,
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
        trainer.hooks.append(
            Evaluate(
                evaluate=evaluation_of(recipe, cfg, model, accelerator, data),
                output_dir=output_dir,
                period=cfg.TEST.PERIOD,
                best=cfg.TEST.BEST,
                pictures=cfg.TEST.IMAGES,
                metrics=metrics,
                board=board,
                metadata=checkpointer.metadata,
            )
        )
    return trainer


def build_initial_model(cfg: CN, *, recipe: Recipe | None = None, complete: bool = False) -> Any:
    """The model as training starts: the same in every process, weights of the configuration loaded.

    Args:
        recipe: None = the one that the configuration names.
        complete: every weight must come from `MODEL.WEIGHTS`, as evaluation needs it.
    """
    recipe = get_recipe(cfg.RECIPE) if recipe is None else recipe
    torch.manual_seed(cfg.SOLVER.SEED)
    model = recipe.build_model(cfg)
    recipe.load_weights(cfg, model, complete)
    return model


def evaluation_of(
    recipe: Recipe, cfg: CN, model: Any, accelerator: Accelerator, data: DataSets
) -> Callable[[Path, int], Evaluated]:
    """(folder for predictions, pictures to draw) -> the numbers of this model on `DATASETS.TEST`, and the pictures.

    Raises:
        ValueError: when the recipe cannot be evaluated.
    """
    evaluation: Callable[..., Evaluated] | None = recipe.evaluate
    if evaluation is None and recipe.answerer is not None:
        evaluation = partial(evaluate, answerer=recipe.answerer)
    if evaluation is None:
        raise ValueError(f"recipe {recipe.name!r} has no evaluation; set DATASETS.TEST []")
    return lambda folder, pictures: evaluation(cfg, model, accelerator, folder=folder, pictures=pictures, data=data)
