"""What is changed in a copy of a network before it becomes a graph. Its answers stay the same."""

from __future__ import annotations

import copy

from torch import Tensor, nn
from torch.nn import functional as F

from partglee.modeling import PartGLEE
from partglee.modeling.fused_convolution import FusedConv


class _PaddedConv2d(nn.Module):
    """A convolution with TensorFlow's "same" padding for inputs whose sides are multiples of its stride.

    timm computes that padding from each input's size, which in a graph of any size becomes terms that take minutes to
    simplify; for such inputs it is always kernel - stride.
    """

    def __init__(self, conv: nn.Conv2d | FusedConv) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.dilation, self.groups = conv.stride, conv.dilation, conv.groups
        pads = [
            max(dilation * (kernel - 1) + 1 - stride, 0)
            for kernel, stride, dilation in zip(conv.weight.shape[2:], conv.stride, conv.dilation, strict=True)
        ]
        top, left = pads[0] // 2, pads[1] // 2
        self.pads = (left, pads[1] - left, top, pads[0] - top)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.pads), self.weight, self.bias, self.stride, 0, self.dilation, self.groups)


def ready_for_export(model: PartGLEE) -> PartGLEE:
    """A copy in evaluation mode on the CPU, without gradients and without sizes that only a running program knows."""
    ready = copy.deepcopy(model).cpu().float().eval().requires_grad_(False)
    for module in list(ready.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d) and type(child).__name__ == "Conv2dSame":
                setattr(module, name, _PaddedConv2d(child))
            elif isinstance(child, FusedConv) and child.same:
                setattr(module, name, nn.Sequential(_PaddedConv2d(child), child.activation))
    return ready
