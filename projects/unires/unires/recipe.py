"""UniRES as a recipe: everything that a run of the library knows of it."""

from __future__ import annotations

from functools import partial

import torch
from fvcore.common.config import CfgNode as CN
from torch import nn

from partglee.data.expression_rules import ExpressionRules
from partglee.data.referring import build_referring_loader
from partglee.engine.recipe import Recipe, register_recipe, train_batches
from partglee.engine.step import StepOutput
from partglee.engine.weights import load_initial_weights
from partglee.structures import Level, ReferringBatch
from partglee.testing import register_toy_referring
from unires.config import RANGES, build_criterion, build_model, unires_defaults
from unires.criterion import UniRESCriterion
from unires.model import UniRES
from unires.predictor import Predictor
from unires.start import our_names


class UniRESStep(nn.Module):
    """The model and its criterion.

    Args:
        model: in training mode.
    """

    def __init__(self, *, model: UniRES, criterion: UniRESCriterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion

    def forward(self, batch: ReferringBatch) -> StepOutput:
        """Losses of one batch; everything in it may still be on the CPU."""
        model = self.model
        if not batch.expressions:  # a process whose images say nothing still takes part in averaging the gradients
            return StepOutput(model.decoder.norm.weight.sum() * 0, {})
        logits = model(
            model.batch(batch.images, batch.canvas), model.read(batch.expressions), batch.image_of.to(model.device)
        )
        losses = self.criterion(logits, batch.masks.to(model.device), batch.no_target.to(model.device))
        loss = torch.stack(list(losses.values())).sum()
        terms = {f"unires/{name}": value.detach() for name, value in losses.items()}
        parts = (batch.level == int(Level.PART)).float().mean()
        return StepOutput(loss, {**terms, "total": loss.detach(), "unires/share of parts": parts})


def build_step(cfg: CN, model: UniRES) -> UniRESStep:
    """The model with its criterion."""
    return UniRESStep(model=model, criterion=build_criterion(cfg))


def group_of(cfg: CN, name: str) -> tuple[str, float]:
    """The towers have rates of their own; group tokens are no part of a tower."""
    if name.startswith("text_encoder."):
        return "text", cfg.SOLVER.TEXT_MULTIPLIER
    if name.startswith(("image_side.tower.", "image_side.backbone.")):
        return "backbone", cfg.SOLVER.BACKBONE_MULTIPLIER
    return "rest", 1.0


def answerer(cfg: CN, model: UniRES) -> Predictor:
    """What answers for the model when it is evaluated."""
    return Predictor.around(model, cfg)


UNIRES = register_recipe(
    Recipe(
        name="unires",
        defaults=unires_defaults,
        build_model=build_model,
        build_step=build_step,
        train_batches=partial(train_batches, loader=build_referring_loader),
        answerer=answerer,
        load_weights=partial(load_initial_weights, rename=our_names),
        group_of=group_of,
        embeddings=("groups.low", "groups.high", "class_embedding", "positional_embedding", "level_embed"),
        ranges=RANGES,
    )
)

# `toy_mres_train`, `toy_mres_val`: drawn when asked for, no file is read. Half of the sentences mean parts.
register_toy_referring("toy_mres", rules=ExpressionRules(parts=0.5), evaluator="referring_parts")
