"""UniRES as a recipe: everything that a run of the library knows of it."""

from __future__ import annotations

from functools import partial

from fvcore.common.config import CfgNode as CN

from partglee.data.expression_rules import ExpressionRules
from partglee.data.referring import build_referring_loader
from partglee.engine.expression_step import ExpressionStep
from partglee.engine.recipe import Recipe, register_recipe, train_batches
from partglee.engine.step import StepOutput
from partglee.engine.weights import load_initial_weights
from partglee.structures import Level, ReferringBatch
from partglee.testing import register_toy_referring
from unires.config import RANGES, build_criterion, build_model, unires_defaults
from unires.model import UniRES
from unires.predictor import Predictor
from unires.start import our_names


class UniRESStep(ExpressionStep):
    """Losses at both levels; how many sentences of a batch mean parts is told with them."""

    def forward(self, batch: ReferringBatch) -> StepOutput:
        """Losses of one batch; everything in it may still be on the CPU."""
        loss, terms = super().forward(batch)
        parts = (batch.level == int(Level.PART)).float().mean()
        return StepOutput(loss, {**terms, "unires/share of parts": parts} if terms else terms)


def build_step(cfg: CN, model: UniRES) -> UniRESStep:
    """The model with its criterion."""
    return UniRESStep(model=model, criterion=build_criterion(cfg), name="unires")


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
