"""`partglee train`: train, resume or evaluate what a configuration describes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("train", help="train a model on annotated images, or evaluate it")
    add_arguments(parser)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The same for `tools/train_net.py`."""
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML file, or a name of the zoo")
    parser.add_argument(
        "--num-gpus", type=int, metavar="N", help="GPUs of this machine, one process each; 0: the CPU; default: one"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last good checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS on DATASETS.TEST")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="values that replace those of the file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check what can be checked, start the processes, train."""
    from partglee.config import load_config
    from partglee.engine.launch import launch
    from partglee.engine.preflight_values import check_values

    cfg = load_config(arguments.config_file, arguments.overrides)
    check_values(cfg)  # before processes and precision are set up, which would tell a wrong value in other words
    return launch(
        work, (cfg, arguments.resume, arguments.eval_only, arguments.num_gpus == 0), num_gpus=arguments.num_gpus
    )


def work(cfg: Any, resume: bool, eval_only: bool, cpu: bool) -> int:
    """What one process does."""
    from partglee.basics.files import whole_file
    from partglee.data.catalog import DataSets, register_custom
    from partglee.engine.build import build_accelerator, build_initial_model, build_trainer, train_batches
    from partglee.engine.evaluate import evaluate
    from partglee.engine.logging import LOGGER, set_up_logging
    from partglee.engine.memory import keep_freed_memory
    from partglee.engine.preflight import check_config, check_names
    from partglee.engine.preflight_data import check_data

    accelerator = build_accelerator(cfg, cpu=cpu)
    if accelerator.device.type == "cpu":
        keep_freed_memory()
    output = Path(cfg.OUTPUT_DIR)
    register_custom(cfg)
    data = DataSets()
    check_config(cfg, world_size=accelerator.num_processes, train=not eval_only)
    set_up_logging(output, process=accelerator.process_index)
    check_data(cfg, train=not eval_only, data=data)
    model = build_initial_model(cfg, complete=eval_only)
    check_names(cfg, model, train=not eval_only, data=data)
    if eval_only:
        evaluate(cfg, model.to(accelerator.device), accelerator, folder=output / "predictions", data=data)
        return 0
    batches = train_batches(cfg, accelerator, data)
    trainer = build_trainer(cfg, accelerator, batches, model=model, resume=resume, data=data)
    if accelerator.is_main_process:  # not before: what an earlier run wrote stays until this one may go on
        with whole_file(output / "config.yaml") as beside:
            beside.write_text(cfg.dump(), encoding="utf-8")
    LOGGER.info(f"{accelerator.num_processes} x {accelerator.device}, {cfg.SOLVER.BATCH_SIZE} images a step")
    trainer.train()
    return 0
