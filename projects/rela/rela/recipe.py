"""ReLA as a recipe: everything that a run of the library knows of it."""

from __future__ import annotations

from functools import partial

from fvcore.common.config import CfgNode as CN

from partglee.data.catalog import DataSets
from partglee.data.referring import build_referring_loader
from partglee.engine.expression_step import ExpressionStep
from partglee.engine.recipe import Recipe, backbone_and_rest, register_recipe, train_batches
from partglee.testing import register_toy_referring
from rela.config import RANGES, build_criterion, build_model, rela_defaults
from rela.convert import convert_state_dict
from rela.model import ReLA
from rela.predictor import Predictor


def build_step(cfg: CN, model: ReLA) -> ExpressionStep:
    """The model with its criterion."""
    return ExpressionStep(model=model, criterion=build_criterion(cfg), name="rela")


def answerer(cfg: CN, model: ReLA) -> Predictor:
    """What answers for the model when it is evaluated."""
    return Predictor.around(model, cfg)


def group_of(cfg: CN, name: str) -> tuple[str, float]:
    """Backbone and words have rates of their own."""
    return ("text", cfg.SOLVER.TEXT_MULTIPLIER) if name.startswith("text_encoder.") else backbone_and_rest(cfg, name)


def check(cfg: CN, model: ReLA, train: bool = True, data: DataSets | None = None) -> None:
    """The vocabulary knows the words of the data: a sentence of unknown words alone cannot mean anything.

    Raises:
        ValueError: for a model without vocabulary, or a data set whose first image's sentences are all unknown.
    """
    data = data or DataSets()
    for name in dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)):
        records = data.records(name)
        said = [expression.text for expression in records[0].expressions] if len(records) else []
        if not said:
            continue
        try:
            model.text_encoder.tokenize(said)
        except ValueError as error:
            raise ValueError(f"data set {name!r}: {error}") from error


RELA = register_recipe(
    Recipe(
        name="rela",
        defaults=rela_defaults,
        build_model=build_model,
        build_step=build_step,
        train_batches=partial(train_batches, loader=build_referring_loader),
        answerer=answerer,
        group_of=group_of,
        embeddings=("region_decoder.content", "region_decoder.position", "level_embed"),
        ranges=RANGES,
        check=check,
        convert={"rela": convert_state_dict},
    )
)

register_toy_referring()  # `toy_referring_train`, `toy_referring_val`: drawn when asked for, no file is read
