"""Arguments that several commands share."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from partglee.basics.plugins import load_plugins

if TYPE_CHECKING:
    import torch

    from partglee.structures import Vocabulary


def add_import(parser: argparse.ArgumentParser) -> None:
    """`--import MODULE`; whoever calls the command loads them before it runs (`basics.plugins.load_plugins`)."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="a module, or a file (street.py), whose recipes, data sets and protocols it makes known; may be repeated",
    )  # fmt: skip


def add_data_config(parser: argparse.ArgumentParser) -> None:
    """`--config-file FILE`, whose data sets are known then (`load_arguments`)."""
    parser.add_argument(
        "--config-file", dest="data_config", metavar="FILE",
        help="a configuration whose DATASETS.CUSTOM and DATASETS.IMPORTS make data sets known by name",
    )  # fmt: skip


def tell_missing_operators(device: torch.device) -> None:
    """A line to stderr where the model would be quicker."""
    from partglee.ops import missing

    if note := missing(device.type):
        print(f"partglee: {note}", file=sys.stderr)


def load_arguments(arguments: argparse.Namespace) -> None:
    """What `--import` and `--config-file` name, before the command runs.

    Raises:
        ValueError: for a module, a configuration or a description of a data set that is not what it should be.
    """
    if "imports" in arguments:
        load_plugins(arguments.imports)
    if getattr(arguments, "data_config", None):
        from partglee.config import load_config, recipe_in
        from partglee.data.catalog import register_custom
        from partglee.engine.recipe import get_recipe

        recipe = get_recipe(recipe_in(arguments.data_config))
        cfg = load_config(arguments.data_config, defaults=recipe.defaults)
        load_plugins(cfg.DATASETS.IMPORTS)
        register_custom(cfg)


def asked_vocabulary(given: str | None, weights: str | Path) -> Vocabulary:
    """What `--vocabulary` says; without it the built-in vocabulary that has the name of the weights.

    Raises:
        ValueError: for a text that is no vocabulary, or none where the weights have no vocabulary of their own.
    """
    from partglee.structures import Vocabulary

    if given is not None:
        return Vocabulary.parse(given)
    name = Path(weights).name.removesuffix(".safetensors").replace("-", "_")
    if name not in Vocabulary.list_builtin():
        raise ValueError(
            f"{weights} has no vocabulary of its own; pass --vocabulary, for example "
            '--vocabulary "car: wheel, door; person", or a built-in name (`partglee vocabulary` lists them)'
        )
    return Vocabulary.builtin(name)
