"""MGLMM as a recipe: everything that a run of the library knows of it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from mglmm.config import RANGES, build_model, mglmm_defaults
from mglmm.data.loader import build_conversation_loader
from mglmm.feature_cache import FeatureCache
from mglmm.model import MGLMM
from mglmm.run_evaluation import evaluate_run, metrics_of
from mglmm.start import load_start
from mglmm.step import ConversationStep
from mglmm.tuning import parts_that_learn
from partglee.data.catalog import DataSets
from partglee.engine.logging import LOGGER
from partglee.engine.recipe import Recipe, train_batches


def build_step(cfg: CN, model: MGLMM) -> ConversationStep:
    """The model, what reads its conversations, and the cache of `MODEL.FEATURE_CACHE`."""
    if model.chat is None:
        raise ValueError("the model has no chat; build it with mglmm.config.build_model")
    cache = FeatureCache(Path(cfg.MODEL.FEATURE_CACHE), model.masks) if cfg.MODEL.FEATURE_CACHE else None
    return ConversationStep(model=model, chat=model.chat, cache=cache)


def group_of(cfg: CN, name: str) -> tuple[str, float]:
    """What was trained before learns at its own rates."""
    if "vision_tower." in name or name.startswith(("masks.backbone.", "masks.pixel_decoder.")):
        return "backbone", cfg.SOLVER.BACKBONE_MULTIPLIER
    return ("masks", 1.0) if name.startswith("masks.") else ("rest", 1.0)


def tell_what_learns(cfg: CN, model: MGLMM, train: bool, data: DataSets) -> None:
    """A line for each part that trains."""
    del cfg, data
    if train:
        weights: dict[str, Any] = dict(model.learning())
        for part, names in parts_that_learn(model).items():
            LOGGER.info(f"{part}: {sum(weights[name].numel() for name in names):,} weights learn")


MGLMM_RECIPE = Recipe(
    name="mglmm",
    defaults=mglmm_defaults,
    build_model=build_model,
    build_step=build_step,
    load_weights=load_start,
    train_batches=partial(train_batches, loader=build_conversation_loader),
    group_of=group_of,
    embeddings=("level.weight", "trainable_tokens_delta.default"),
    ranges=RANGES,
    check=tell_what_learns,
    evaluate=evaluate_run,
    metric_names=metrics_of,
)
