"""Constant norms of a backbone become part of its convolutions, once nothing of it is trained any more."""

from __future__ import annotations

import copy
from typing import Any

import torch
from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from partglee.modeling.backbone import Backbone

_NORMS = (FrozenBatchNorm2d, FrozenBatchNormAct2d, BatchNormAct2d, nn.BatchNorm2d)
_APART = 1e-4  # of the largest value: more, and some norm belongs elsewhere
_SIDE = 96


def fold_norms(backbone: Any) -> Any:
    """A copy in evaluation mode with the same answers up to rounding: batch norms, frozen or not, are in the weights of
    the convolutions before them, which saves a pass over every map.

    A backbone of another class, or without such norms, comes back as it is; so does one whose norms are not of the
    convolution that was registered before them, which a small image tells.
    """
    if not isinstance(backbone, Backbone) or not any(isinstance(module, _NORMS) for module in backbone.modules()):
        return backbone
    made = copy.deepcopy(backbone).eval().requires_grad_(False)
    before: nn.Conv2d | None = None
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                before = child
            elif isinstance(child, _NORMS) and before is not None and _belong(before, child):
                _fold(before, child)
                setattr(
                    parent,
                    name,
                    nn.Sequential(*(getattr(child, rest) for rest in ("drop", "act") if hasattr(child, rest))),
                )
                before = None
    return made if _alike(backbone, made) else backbone


def _belong(conv: nn.Conv2d, norm: Any) -> bool:
    return isinstance(norm.running_mean, torch.Tensor) and len(norm.running_mean) == conv.out_channels


def _fold(conv: nn.Conv2d, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = (nn.Parameter(value.detach(), requires_grad=False) for value in (weight, bias))


def _alike(backbone: Backbone, made: Backbone) -> bool:
    like = next(made.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, _SIDE, _SIDE, generator=generator).to(like)
    training = backbone.training
    with torch.no_grad():
        pairs = list(zip(backbone.eval()(image), made(image), strict=True))
    backbone.train(training)
    return all(bool((ours - theirs).abs().max() <= _APART * theirs.abs().max()) for theirs, ours in pairs)
