"""ReLA as a recipe: everything that a run of the library knows of it."""

from __future__ import annotations

from functools import partial

import torch
from fvcore.common.config import CfgNode as CN
from torch import nn

from partglee.data.catalog import DataSets
from partglee.data.referring import build_referring_loader
from partglee.engine.recipe import Recipe, backbone_and_rest, register_recipe, train_batches
from partglee.engine.step import StepOutput
from partglee.structures import ReferringBatch
from partglee.testing import register_toy_referring
from rela.config import RANGES, build_criterion, build_model, rela_defaults
from rela.convert import convert_state_dict
from rela.criterion import ReLACriterion
from rela.model import ReLA
from rela.predictor import Predictor


class ReLAStep(nn.Module):
    """The model and its criterion.

    Args:
        model: in training mode.
    """

    def __init__(self, *, model: ReLA, criterion: ReLACriterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion

    def forward(self, batch: ReferringBatch) -> StepOutput:
        """Losses of one batch; everything in it may still be on the CPU."""
        model = self.model
        if not batch.expressions:  # a process whose images say nothing still takes part in averaging the gradients
            return StepOutput(model.region_decoder.content.sum() * 0, {})
        output = model(
            model.batch(batch.images, batch.canvas), model.read(batch.expressions), batch.image_of.to(model.device)
        )
        losses = self.criterion(output, batch.masks.to(model.device), batch.no_target.to(model.device))
        loss = torch.stack(list(losses.values())).sum()
        terms = {f"rela/{name}": value.detach() for name, value in losses.items()}
        return StepOutput(loss, {**terms, "total": loss.detach()})


def build_step(cfg: CN, model: ReLA) -> ReLAStep:
    """The model with its criterion."""
    return ReLAStep(model=model, criterion=build_criterion(cfg))


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
