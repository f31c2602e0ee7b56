#!/usr/bin/env python
"""Answers that read nothing beside a model's, scored by the same protocol: what is an expression model's number worth?

`python tools/score_controls.py --import rela --config-file FILE MODEL.WEIGHTS FILE [KEY VALUE ...]` prints a row for
the model, one for the same model asked about each image what was written of another, and one for each constant answer:
nothing, the whole image, and the mean mask of the first training images. Without MODEL.WEIGHTS: the constants alone.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from partglee.basics.arguments import ArgumentParser
from partglee.basics.plugins import load_plugins
from partglee.config import load_config, recipe_in
from partglee.data.catalog import DataSets, get_dataset, register_custom
from partglee.engine.build import build_accelerator, build_initial_model
from partglee.engine.controls import GRID, AskedOfAnother, ConstantAnswer, mean_mask
from partglee.engine.evaluate import evaluate
from partglee.engine.recipe import get_recipe
from partglee.evaluation.protocols import protocol_of

METRICS = {  # of each protocol: key behind the name of the data set -> column
    "referring": {f"mask/{name}": name for name in ("gIoU", "cIoU", "mIoU", "N-acc", "T-acc", "Pr@0.7")},
    "referring_parts": {
        f"{level}/{name}": f"{level} {name}"
        for level, names in (("object", ("mIoU", "oIoU", "Pr@0.5")), ("part", ("mIoU", "oIoU", "Pr@0.5")),
                             ("object&part", ("mIoU",)))
        for name in names
    },
}  # fmt: skip
MEAN_OF = 500  # training images whose masks are averaged


def main(arguments: list[str] | None = None) -> int:
    """The table, as Markdown."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument("--import", dest="imports", action="append", default=[], metavar="MODULE")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    given = parser.parse_args(arguments)
    load_plugins(given.imports)
    recipe = get_recipe(recipe_in(given.config_file, given.overrides))
    cfg = load_config(given.config_file, given.overrides, defaults=recipe.defaults)
    register_custom(cfg)
    data, accelerator = DataSets(), build_accelerator(cfg, cpu=True)
    model: Any = nn.Identity()
    answerers: dict[str, Callable[[Any, Any], Any]] = {}
    if cfg.MODEL.WEIGHTS:
        if recipe.answerer is None or len(cfg.DATASETS.TEST) != 1:
            raise SystemExit("a model needs a recipe that answers, and one data set in DATASETS.TEST")
        model, answerer = build_initial_model(cfg, recipe=recipe, complete=True), recipe.answerer
        records = data.records(cfg.DATASETS.TEST[0])
        asked = [records[row] for row in range(len(records))]
        answerers["the model"] = answerer
        answerers["the model, asked what was written of another image"] = lambda cfg, model: AskedOfAnother(
            answerer(cfg, model), asked
        )
    answerers["nothing"] = lambda cfg, model: ConstantAnswer()
    answerers["the whole image"] = lambda cfg, model: ConstantAnswer(np.ones((GRID, GRID), bool))
    if cfg.DATASETS.TRAIN:
        training = data.records(cfg.DATASETS.TRAIN[0])
        mean = mean_mask(training, tqdm(range(min(MEAN_OF, len(training))), "mean mask", disable=None))
        answerers["the mean mask of training"] = lambda cfg, model: ConstantAnswer(mean)
    columns = METRICS["referring_parts" if _by_level(cfg, data) else "referring"]
    table = [f"| answer | {' | '.join(columns.values())} |", f"|---|{'---|' * len(columns)}"]
    with tempfile.TemporaryDirectory() as folder:
        score = partial(evaluate, cfg, model, accelerator, folder=Path(folder), data=data)
        for name, answerer_of in answerers.items():
            numbers, _ = score(answerer=answerer_of)
            values = [next(v for k, v in numbers.items() if k.endswith(f"/{metric}")) for metric in columns]
            table.append(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |")
    print("\n".join(table))  # behind what the runs have logged
    return 0


def _by_level(cfg: Any, data: DataSets) -> bool:
    """Whether the data set is scored at both levels; several of both kinds are not compared in one table."""
    protocols = {protocol_of(get_dataset(name), data.records(name)).name for name in cfg.DATASETS.TEST}
    if len(protocols) != 1 or not protocols <= set(METRICS):
        raise ValueError(f"DATASETS.TEST must be of one protocol, {' or '.join(METRICS)}, got {sorted(protocols)}")
    return protocols == {"referring_parts"}


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        print(f"score_controls: {error}", file=sys.stderr)
        sys.exit(2)
