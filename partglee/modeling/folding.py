"""Constant norms of a backbone become part of its convolutions, once nothing of it is trained any more."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from timm.layers import BatchNormAct2d, FrozenBatchNormAct2d
from timm.models.resnet import BasicBlock, Bottleneck
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops import FrozenBatchNorm2d

from partglee.modeling.backbone import Backbone
from partglee.modeling.fused_convolution import FusedConv, can_fuse, fuse_convolutions
from partglee.modeling.pixel_decoder import PixelDecoder

_Model = TypeVar("_Model", bound=nn.Module)
_NORMS = (FrozenBatchNorm2d, FrozenBatchNormAct2d, BatchNormAct2d, nn.BatchNorm2d)
# Convolution, norm and activation of blocks in which nothing else lies between them.
_IN_A_ROW: dict[type[nn.Module], tuple[tuple[str, str, str], ...]] = {
    BasicBlock: (("conv1", "bn1", "act1"),),
    Bottleneck: (("conv1", "bn1", "act1"), ("conv2", "bn2", "act2")),
}
_APART = 1e-4  # of the largest value: more, and some norm belongs elsewhere
_SIDE = 96  # of the image that tells, at the least


def ready_for_prediction(model: _Model) -> _Model:
    """The model itself, from now on for prediction alone, with the same answers up to rounding, sooner.

    On a processor norms of every `Backbone` in it are folded, maps are channels last, and every `PixelDecoder` takes
    activations along with its convolutions. On another device, or without these two, nothing changes.

    Its weights have other names and places then: nothing of it can be trained or saved.
    """
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        return model
    folded: dict[Backbone, Any] = {}
    for owner in list(model.modules()):
        for name, child in list(owner._modules.items()):
            if isinstance(child, Backbone):
                if child not in folded:
                    divisibility = getattr(owner, "size_divisibility", 1)
                    folded[child] = fold_norms(child, divisibility=divisibility).to(memory_format=torch.channels_last)
                owner._modules[name] = folded[child]
            elif isinstance(child, PixelDecoder):
                fuse_convolutions(child)
    return model


def fold_norms(backbone: Any, *, divisibility: int = 1) -> Any:
    """A copy in evaluation mode with the same answers up to rounding: batch norms, frozen or not, are in the weights of
    the convolutions before them, and activations right after a norm are applied with them, which saves passes over
    every map.

    A backbone of another class, or without such norms, comes back as it is; so does one whose norms are not of the
    convolution that was registered before them, which a small image tells, or that cannot see it.

    Args:
        divisibility: what the sides of its images are multiples of.
    """
    if not isinstance(backbone, Backbone) or not any(isinstance(module, _NORMS) for module in backbone.modules()):
        return backbone
    made = copy.deepcopy(backbone).eval().requires_grad_(False)
    before: nn.Conv2d | None = None
    place: tuple[nn.Module, str] | None = None  # of that convolution
    for parent in list(made.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                before, place = child, (parent, name)
            elif isinstance(child, _NORMS) and before is not None and place is not None and _belong(before, child):
                _fold(before, child)
                after = _activation(child)
                if can_fuse(before, after):
                    setattr(*place, FusedConv(conv=before, activation=after))
                    after = nn.Identity()
                setattr(parent, name, after)
                before = None
    for parent in list(made.modules()):
        for conv, norm, activation in _IN_A_ROW.get(type(parent), ()):
            _take_along(parent, conv, norm, activation)
    _take_along(made.body, "conv1", "bn1", "act1")  # a stem
    return made if _alike(backbone, made, -(-_SIDE // divisibility) * divisibility) else backbone


def _take_along(parent: Any, conv: str, norm: str, activation: str) -> None:
    """The activation becomes part of the convolution where only a norm lay between, which is part of it by now."""
    fused, after = getattr(parent, conv, None), getattr(parent, activation, None)
    between = (getattr(parent, norm, None), getattr(parent, "drop_block", nn.Identity()))
    if (
        isinstance(fused, FusedConv)
        and isinstance(fused.activation, nn.Identity)
        and all(isinstance(module, nn.Identity) for module in between)
        and isinstance(after, nn.Module)
        and can_fuse(None, after)
    ):
        fused.activation = after
        setattr(parent, activation, nn.Identity())


def _belong(conv: nn.Conv2d, norm: Any) -> bool:
    return isinstance(norm.running_mean, torch.Tensor) and len(norm.running_mean) == conv.out_channels


def _activation(norm: nn.Module) -> nn.Module:
    """What a norm of timm does after it."""
    rest = [getattr(norm, name) for name in ("drop", "act") if hasattr(norm, name)]
    rest = [module for module in rest if not isinstance(module, nn.Identity)]
    return nn.Sequential(*rest) if len(rest) > 1 else rest[0] if rest else nn.Identity()


def _fold(conv: nn.Conv2d, norm: Any) -> None:
    weight, bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    conv.weight, conv.bias = (nn.Parameter(value.detach(), requires_grad=False) for value in (weight, bias))


def _alike(backbone: Backbone, made: Backbone, side: int) -> bool:
    like = next(made.parameters())
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(1, 3, side, side, generator=generator).to(like)
    modes = [(module, module.training) for module in backbone.modules()]
    try:
        with torch.no_grad():
            pairs = list(zip(backbone.eval()(image), made(image), strict=True))
    except (RuntimeError, ValueError, AssertionError):  # windows or positions of one size, which timm tells by any
        return False
    finally:
        for module, mode in modes:
            module.training = mode
    return all(bool((ours - theirs).abs().max() <= _APART * theirs.abs().max()) for theirs, ours in pairs)
