"""The library's own model as a recipe: everything that a run knows of PartGLEE."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN

from partglee.checkpoint import read_metadata
from partglee.config import config_from_text, get_cfg
from partglee.criterion import build_criterion
from partglee.data.build import build_train_loader
from partglee.data.catalog import DataSets
from partglee.engine.logging import LOGGER
from partglee.engine.partglee_answers import evaluate_partglee
from partglee.engine.recipe import Batches, Recipe, backbone_and_rest, register_recipe
from partglee.engine.step import TrainingStep
from partglee.engine.weight_files import CONFIG_TEXT, TABLE_NAMES, find_table, find_weights
from partglee.engine.weights import load_initial_weights
from partglee.modeling import PartGLEE, build_model
from partglee.structures import TrainingBatch
from partglee.text import backend_kind


def build(cfg: CN) -> PartGLEE:
    """The model of the configuration; its name table is looked for where the configuration leaves it open."""
    if backend_kind(cfg).reads_table:
        _find_names(cfg)
    return build_model(cfg)


def build_step(cfg: CN, model: PartGLEE) -> TrainingStep:
    """The model with its criterion."""
    return TrainingStep(model=model, criterion=build_criterion(cfg))


def train_batches(cfg: CN, accelerator: Accelerator, data: DataSets | None = None) -> Batches:
    """This process's share of the data sets of `DATASETS.TRAIN`."""

    def start(step: int) -> Iterable[TrainingBatch]:
        return build_train_loader(
            cfg, start_step=step, rank=accelerator.process_index, world_size=accelerator.num_processes, data=data
        )

    return start


def group_of(cfg: CN, name: str) -> tuple[str, float]:
    """The text tower has a rate of its own; the projection of its output learns at the full rate."""
    return (
        ("text", cfg.SOLVER.TEXT_MULTIPLIER)
        if name.startswith("text_encoder.backend.")
        else backbone_and_rest(cfg, name)
    )


def load_weights(cfg: CN, model: PartGLEE, complete: bool = False) -> None:
    """As `load_initial_weights`; a text tower that nothing is loaded into is warned of."""
    load_initial_weights(cfg, model, complete)
    if not cfg.MODEL.WEIGHTS and backend_kind(cfg).is_random(cfg.MODEL.TEXT):
        LOGGER.warning(
            f"MODEL.WEIGHTS is empty: the {cfg.MODEL.TEXT.MODE} text tower is random: names mean nothing to it; "
            "start from weights that hold one (MODEL_ZOO.md), or use MODEL.TEXT.BACKEND table"
        )


def check_names(cfg: CN, model: PartGLEE, train: bool = True, data: DataSets | None = None) -> None:
    """Every name of every data set can be encoded.

    Args:
        train: False: only what evaluation needs.
        data: what the run has read.

    Raises:
        ValueError: for a name that the model's table lacks, with the data set and the nearest known names.
    """
    data = data or DataSets()
    for name in dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)):
        records = data.records(name)
        sentences = [expression.text for expression in records[0].expressions] if len(records) else []
        try:
            model.text_encoder.tokenize(records.vocabulary)
            if sentences:
                model.text_encoder.tokenize_expressions(sentences[:1])
        except ValueError as error:
            raise ValueError(f"data set {name!r}: {error}") from error


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


PARTGLEE = register_recipe(
    Recipe(
        name="partglee",
        defaults=get_cfg,
        build_model=build,
        build_step=build_step,
        train_batches=train_batches,
        evaluate=evaluate_partglee,
        load_weights=load_weights,
        group_of=group_of,
        embeddings=("level_embed", "qformer.content", "qformer.position"),
        check=check_names,
    )
)
