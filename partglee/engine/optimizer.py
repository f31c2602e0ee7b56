"""AdamW with a learning rate and a weight decay for each group of parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from fvcore.common.config import CfgNode as CN
from timm.layers.norm import LayerNorm2d
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

_NORMS = (nn.LayerNorm, nn.GroupNorm, _NormBase, LayerNorm2d)
# Learned vectors of backbones that are looked up or added, not multiplied with an input.
_EMBEDDINGS = ("relative_position_bias_table", "positional_embedding")


def build_optimizer(
    cfg: CN, model: nn.Module, *, group_of: Callable[[CN, str], tuple[str, float]], embeddings: Sequence[str] = ()
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters of `model`, by the `SOLVER` section.

    Args:
        group_of: (configuration, parameter name) -> name of its group, and that group's factor of `SOLVER.BASE_LR`.
        embeddings: as for `parameter_groups`.
    """
    s = cfg.SOLVER
    groups = parameter_groups(
        model,
        base_lr=s.BASE_LR,
        weight_decay=s.WEIGHT_DECAY,
        group_of=partial(group_of, cfg),
        embeddings=embeddings,
        norm_decay=s.NORM_DECAY,
    )
    # DTensors of sharded training have no fused kernel on the CPU; elsewhere it saves a pass over the weights.
    return torch.optim.AdamW(groups, lr=s.BASE_LR, weight_decay=s.WEIGHT_DECAY, fused=not s.SHARDED)


def parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    group_of: Callable[[str], tuple[str, float]] = lambda name: ("rest", 1.0),
    embeddings: Sequence[str] = (),
    norm_decay: bool = True,
) -> list[dict[str, Any]]:
    """Groups for an optimiser, each with `name`, `lr`, `initial_lr` and `weight_decay`.

    Args:
        group_of: parameter name -> name of its group, and that group's factor of `base_lr`.
        embeddings: ends of the names of learned vectors that are looked up or added, not multiplied with an input:
            embeddings in all but their type.
        norm_decay: False: norms, biases and embeddings do not decay.

    Raises:
        ValueError: when nothing can be trained.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter, is_norm in _named(model, (*_EMBEDDINGS, *embeddings)):
        if not parameter.requires_grad:
            continue
        place, factor = group_of(name)
        decays = norm_decay or not is_norm
        lr = base_lr * factor
        group = groups.setdefault(
            (place, decays),
            {
                "name": place if decays else f"{place}_no_decay",
                "params": [],
                "lr": lr,
                "initial_lr": lr,
                "weight_decay": weight_decay if decays else 0.0,
            },
        )
        group["params"].append(parameter)
    if not groups:
        raise ValueError("the model has no parameter that may change; is everything frozen?")
    return [groups[key] for key in sorted(groups)]


def set_rates(optimizer: torch.optim.Optimizer, multiplier: float) -> None:
    """Every group's rate becomes `multiplier` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * multiplier


def _named(model: nn.Module, embeddings: tuple[str, ...]) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Every parameter once, with whether it belongs to a norm, is a bias or an embedding."""
    seen: set[int] = set()
    for module_name, module in model.named_modules():
        for own, parameter in module.named_parameters(recurse=False):
            if id(parameter) in seen:
                continue
            seen.add(id(parameter))
            name = f"{module_name}.{own}" if module_name else own
            special = isinstance(module, (*_NORMS, nn.Embedding)) or parameter.ndim <= 1 or name.endswith(embeddings)
            yield name, parameter, special
