"""One run of any model: read the configuration, check what can be checked, start the processes, train or evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN

from partglee.basics.files import whole_file
from partglee.basics.locks import locked_folder
from partglee.basics.memory import keep_freed_memory
from partglee.basics.plugins import load_plugins
from partglee.config import load_config, recipe_in
from partglee.config.values import check_values
from partglee.data.catalog import DataSets, register_custom
from partglee.engine.build import build_accelerator, build_initial_model, build_trainer, evaluation_of
from partglee.engine.evaluate import check_answers
from partglee.engine.launch import launch
from partglee.engine.logging import LOGGER, set_up_logging
from partglee.engine.preflight import check_config, check_data
from partglee.engine.recipe import Recipe, get_recipe
from partglee.modeling.folding import ready_for_prediction
from partglee.ops import missing


def run(
    recipe: Recipe | None = None,
    *,
    config_file: str | Path,
    overrides: Sequence[Any] = (),
    resume: bool = False,
    eval_only: bool = False,
    num_gpus: int | None = None,
    imports: Sequence[str] = (),
    dump_config: bool = False,
) -> int:
    """Train, resume or evaluate a model; `partglee train` with a recipe at hand.

    Args:
        recipe: None = the one that the configuration names (`RECIPE`).
        config_file: YAML file, or a name of the zoo.
        overrides: `[KEY, VALUE, ...]` in place of the file's values.
        resume: go on from the last good checkpoint in `OUTPUT_DIR`, from the start when there is none.
        eval_only: score `MODEL.WEIGHTS` on `DATASETS.TEST`.
        num_gpus: one process each; 0: the CPU; None: one.
        imports: modules of projects that register themselves, for every process; those of `DATASETS.IMPORTS` follow.
        dump_config: print the whole configuration as it would be used, and do nothing else.

    Returns:
        The exit status: 0; 1 when all steps are done and the weights saved, but an evaluation on the way failed.

    Raises:
        ValueError: for whatever can be known to be wrong before the first step, and in training for what
            `Trainer.train` says.
    """
    load_plugins(imports)
    if recipe is None:
        recipe = get_recipe(recipe_in(config_file, overrides))
    cfg = load_config(config_file, overrides, defaults=recipe.defaults)
    check_values(cfg, recipe.ranges)  # before processes and precision are set up, which would tell it in other words
    if dump_config:
        print(cfg.dump(), end="")
        return 0
    imports = (*imports, *cfg.DATASETS.get("IMPORTS", ()))
    load_plugins(imports)
    return launch(work, (recipe, cfg, resume, eval_only, num_gpus == 0, tuple(imports)), num_gpus=num_gpus)


def work(recipe: Recipe, cfg: CN, resume: bool, eval_only: bool, cpu: bool, imports: Sequence[str] = ()) -> int:
    """What one process does."""
    load_plugins(imports)  # again in each process
    accelerator = build_accelerator(cfg, cpu=cpu)
    folder = Path(cfg.OUTPUT_DIR)
    with locked_folder(folder, "OUTPUT_DIR") if accelerator.is_main_process else nullcontext():
        return _run(recipe, cfg, accelerator, resume=resume, eval_only=eval_only)


def _run(recipe: Recipe, cfg: CN, accelerator: Accelerator, *, resume: bool, eval_only: bool) -> int:
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    output = Path(cfg.OUTPUT_DIR)
    register_custom(cfg)
    data = DataSets()
    check_config(cfg, world_size=accelerator.num_processes, train=not eval_only, ranges=recipe.ranges)
    set_up_logging(output, process=accelerator.process_index)
    check_data(cfg, train=not eval_only, data=data, metrics_of=recipe.metric_names)
    if note := missing(accelerator.device.type):
        LOGGER.info(note)
    model = build_initial_model(cfg, recipe=recipe, complete=eval_only)
    if recipe.check is not None:
        recipe.check(cfg, model, not eval_only, data)
    if recipe.answerer is not None:
        check_answers(cfg, model, answerer=recipe.answerer, data=data)
    if eval_only:
        ready = ready_for_prediction(model.to(accelerator.device))
        evaluation_of(recipe, cfg, ready, accelerator, data)(output / "predictions", 0)
        return 0
    trainer = build_trainer(cfg, accelerator, recipe=recipe, model=model, resume=resume, data=data)
    if accelerator.is_main_process:  # not before: what an earlier run wrote stays until this one may go on
        with whole_file(output / "config.yaml") as beside:
            beside.write_text(cfg.dump(), encoding="utf-8")
    LOGGER.info(f"{accelerator.num_processes} x {accelerator.device}, {cfg.SOLVER.BATCH_SIZE} images a step")
    trainer.train()
    if trainer.failures:
        many = len(trainer.failures)
        LOGGER.error(f"trained to the end, but {many} evaluation{'s' * (many > 1)} failed; {trainer.failures[-1]}")
    return 1 if trainer.failures else 0
