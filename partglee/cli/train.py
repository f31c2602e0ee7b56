"""`partglee train`: train, resume or evaluate what a configuration describes."""

from __future__ import annotations

import argparse
from typing import Any

from partglee.cli.arguments import add_import


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("train", help="train a model on annotated images, or evaluate it")
    parser.add_argument("--config-file", required=True, metavar="FILE", help="YAML file, or a name of the zoo")
    parser.add_argument(
        "--num-gpus", type=int, metavar="N", help="GPUs of this machine, one process each; 0: the CPU; default: one"
    )
    parser.add_argument("--resume", action="store_true", help="go on from the last good checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="score MODEL.WEIGHTS on DATASETS.TEST")
    parser.add_argument(
        "--dump-config", action="store_true", help="print every key with the value that would be used, and end"
    )
    add_import(parser)
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE", help="values that replace those of the file")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check what can be checked, start the processes, train the model that the configuration names."""
    from partglee.engine.run import run as run_recipe

    return run_recipe(
        config_file=arguments.config_file,
        overrides=arguments.overrides,
        resume=arguments.resume,
        eval_only=arguments.eval_only,
        num_gpus=arguments.num_gpus,
        imports=arguments.imports,
        dump_config=arguments.dump_config,
    )
