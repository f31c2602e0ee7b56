"""AdamW over the groups of parameters that PartGLEE is trained with."""

from __future__ import annotations

from typing import Any

import torch

from partglee.engine.partglee_recipe import PARTGLEE
from partglee.integrations.detectron2.config import model_config


def build_optimizer(cfg: Any, model: Any) -> torch.optim.Optimizer:
    """For `DefaultTrainer.build_optimizer`: backbone and text tower at their share of the rate, norms as configured.

    Args:
        cfg: of detectron2; `SOLVER.BASE_LR` and `SOLVER.WEIGHT_DECAY` are read, the rest is of the model's own
            configuration.
        model: the meta-architecture, wrapped or not.
    """
    from partglee.engine.optimizer import build_optimizer as build

    own = model_config(cfg)
    own.SOLVER.BASE_LR, own.SOLVER.WEIGHT_DECAY = cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY
    inner = getattr(model, "module", model).model
    optimizer: torch.optim.Optimizer = build(own, inner, group_of=PARTGLEE.group_of, embeddings=PARTGLEE.embeddings)
    return optimizer
