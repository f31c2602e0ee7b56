"""A convolution with its activation in one pass over the map, once nothing of it is trained any more."""

from __future__ import annotations

from typing import TypeVar

import torch
from timm.layers import Conv2dSame, pad_same
from torch import Tensor, nn
from torch.nn import functional as F

# What oneDNN calls the activations that it can apply before a number leaves the registers.
_ACTIVATIONS: dict[type[nn.Module], tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
    nn.Hardswish: ("hardswish", []),
}
_Module = TypeVar("_Module", bound=nn.Module)


class FusedConv(nn.Module):
    """A convolution and then an activation, together on a processor in float32 without gradients, else one after the
    other. Its parameters are those of the convolution, under the same names.

    Padding that depends on the size (TensorFlow's "same") is not copied around the map: where it has one row and column
    more at the end than at the beginning, the kernel gets a row and a column of zeros at its beginning instead.

    Args:
        conv, activation: see `can_fuse`.
    """

    def __init__(self, *, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.activation = nn.Identity() if activation is None else activation
        self.stride, self.padding, self.dilation, self.groups = conv.stride, conv.padding, conv.dilation, conv.groups
        self.same = isinstance(conv, Conv2dSame)

    def forward(self, x: Tensor) -> Tensor:
        if not _at_hand(x):
            return self.activation(self._convolution(x))
        weight, padding = self.weight, list(self.padding)
        if self.same:
            (top, bottom), (left, right) = (self._same_padding(axis, x.shape[2 + axis]) for axis in (0, 1))
            if (bottom, right) == (top + 1, left + 1):
                weight, padding = F.pad(weight, (1, 0, 1, 0)), [bottom, right]
            elif (bottom, right) == (top, left):
                padding = [top, left]
            else:
                return self.activation(self._convolution(x))
        name, numbers = _ACTIVATIONS[type(self.activation)]
        return torch.ops.mkldnn._convolution_pointwise(
            x, weight, self.bias, padding, list(self.stride), list(self.dilation), self.groups, name, numbers, ""
        )

    def _convolution(self, x: Tensor) -> Tensor:
        padding = self.padding
        if self.same:
            x, padding = pad_same(x, list(self.weight.shape[2:]), list(self.stride), list(self.dilation)), (0, 0)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _same_padding(self, axis: int, size: int) -> tuple[int, int]:
        reach = self.dilation[axis] * (self.weight.shape[2 + axis] - 1) + 1
        whole = max((-(-size // self.stride[axis]) - 1) * self.stride[axis] + reach - size, 0)
        return whole // 2, whole - whole // 2


def can_fuse(conv: nn.Module | None, activation: nn.Module) -> bool:
    """Whether `FusedConv` knows both: a convolution with zeros around its map (None = it is one already), and no, ReLU,
    ReLU6, SiLU or hard-swish activation."""
    return type(activation) in _ACTIVATIONS and (conv is None or _is_plain(conv))


def _is_plain(conv: nn.Module) -> bool:
    return (
        type(conv) in (nn.Conv2d, Conv2dSame)
        and isinstance(conv, nn.Conv2d)
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and (type(conv) is nn.Conv2d or conv.dilation == (1, 1))  # a row of zeros would be one of several otherwise
    )


def fuse_convolutions(module: _Module) -> _Module:
    """`module` itself, its convolutions as `FusedConv` with channels last, as what follows them reads them best."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and can_fuse(child, nn.Identity()):
                setattr(parent, name, FusedConv(conv=child))
    return module.to(memory_format=torch.channels_last)


def _at_hand(x: Tensor) -> bool:
    """Whether this torch has the operator, and it is for such a tensor."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined]
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
    )
