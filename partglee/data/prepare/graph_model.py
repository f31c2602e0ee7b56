"""TensorFlow.js graph models, run node by node by torch: as much of it as the teachers need."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from partglee.basics.files import read_json

Node = Mapping[str, Any]


def there(file: Path) -> None:
    """ValueError for a file that is missing."""
    if not file.is_file():
        raise ValueError(f"no teacher's file {file}; datasets/README.md says where it comes from")


def read_graph(file: Path) -> tuple[dict[str, Node], dict[str, Tensor]]:
    """Nodes by name, and the constants of a TensorFlow.js graph model whose floats are stored in half precision.

    Raises:
        ValueError: for a missing file, or one that is no graph model.
    """
    there(file)
    try:
        content = read_json(file, "graph model")
        nodes = {node["name"]: node for node in content["modelTopology"]["node"]}
        constants: dict[str, Tensor] = {}
        for group in content["weightsManifest"]:
            data = b"".join((file.parent / path).read_bytes() for path in group["paths"])
            place = 0
            for entry in group["weights"]:
                dtype = np.dtype(entry.get("quantization", entry)["dtype"])
                count = int(np.prod(entry["shape"]))
                array = np.frombuffer(data, dtype, count, place).reshape(entry["shape"])
                place += count * dtype.itemsize
                constants[entry["name"]] = torch.from_numpy(array.astype(entry["dtype"]))
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{file} is not a TensorFlow.js graph model with its weights ({error})") from error
    return nodes, constants


def run_graph(
    nodes: Mapping[str, Node], constants: Mapping[str, Tensor], inputs: Mapping[str, Tensor], outputs: Iterable[str]
) -> list[Tensor]:
    """Values of `outputs`, maps as (1, C, h, w) where TensorFlow has (1, h, w, C).

    Raises:
        ValueError: for a kind of node that is not known.
    """
    values: dict[str, Tensor] = {**constants, **inputs}
    return [_value(name, values, nodes) for name in outputs]


def _value(name: str, values: dict[str, Tensor], nodes: Mapping[str, Node]) -> Tensor:
    """Of one node, kept in `values`. A closure that calls itself would keep all maps until the next collection."""
    if name not in values:
        node = nodes[name]
        operation = _OPERATIONS.get(node["op"])
        if operation is None:
            raise ValueError(f"node {name!r} is a {node['op']}; known are {', '.join(_OPERATIONS)}")
        values[name] = operation(node.get("attr", {}), *[_value(source, values, nodes) for source in node["input"]])
    return values[name]


def _convolve(attributes: Mapping[str, Any], x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    return _convolution(attributes, x, kernel.permute(3, 2, 0, 1), bias, groups=1)


def _convolve_depthwise(attributes: Mapping[str, Any], x: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
    return _convolution(attributes, x, kernel.permute(2, 3, 0, 1), bias, groups=x.shape[1])


def _convolution(
    attributes: Mapping[str, Any], x: Tensor, kernel: Tensor, bias: Tensor | None, *, groups: int
) -> Tensor:
    stride = int(attributes["strides"]["list"]["i"][1])
    dilation = int(attributes["dilations"]["list"]["i"][1])
    if base64.b64decode(attributes["padding"]["s"]) == b"SAME":
        pads: list[int] = []
        for size, side in ((x.shape[3], kernel.shape[3]), (x.shape[2], kernel.shape[2])):
            missing = max(0, (-(-size // stride) - 1) * stride + (side - 1) * dilation + 1 - size)
            pads += [missing // 2, missing - missing // 2]  # TensorFlow pads the far side by what is odd
        x = F.pad(x, pads)
    x = F.conv2d(x, kernel, bias, stride, 0, dilation, groups)
    fused = [base64.b64decode(name) for name in attributes.get("fused_ops", {}).get("list", {}).get("s", ())]
    for name in fused:
        if name == b"Relu":
            x = x.relu()
        elif name == b"Relu6":
            x = x.clamp(0, 6)
        elif name != b"BiasAdd":
            raise ValueError(f"a convolution is fused with {name.decode()}; known are BiasAdd, Relu, Relu6")
    return x


def _resize(attributes: Mapping[str, Any], x: Tensor, size: Tensor) -> Tensor:
    """TensorFlow's first way: sample places are multiples of the ratio, pixel centres do not count."""
    grids = []
    for length, wanted in zip(x.shape[2:], size.tolist(), strict=True):
        place = torch.arange(wanted) * (length / wanted)
        low = place.long().clamp(max=length - 1)
        grids.append((low, (low + 1).clamp(max=length - 1), place - low))
    (y0, y1, v), (x0, x1, u) = grids
    rows = x[:, :, y0] * (1 - v)[:, None] + x[:, :, y1] * v[:, None]
    return rows[..., x0] * (1 - u) + rows[..., x1] * u


_OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    "_FusedConv2D": _convolve,
    "Conv2D": _convolve,
    "FusedDepthwiseConv2dNative": _convolve_depthwise,
    "DepthwiseConv2dNative": _convolve_depthwise,
    "ResizeBilinear": _resize,
    "Add": lambda attributes, one, two: _channels_first(one) + _channels_first(two),
    "Mul": lambda attributes, one, two: _channels_first(one) * _channels_first(two),
    "Relu": lambda attributes, x: x.relu(),
    "Relu6": lambda attributes, x: x.clamp(0, 6),
    "Sigmoid": lambda attributes, x: x.sigmoid(),
    "Identity": lambda attributes, x: x,
    "Mean": lambda attributes, x, axes: x.mean((2, 3), keepdim=True),
    "ConcatV2": lambda attributes, *values: torch.cat(values[:-1], 1),
}


def _channels_first(value: Tensor) -> Tensor:
    """A vector over the channels, so that it meets maps; all else as it is."""
    return value[:, None, None] if value.ndim == 1 else value
