"""Weights of detectron2: what its trainer saved of our model, and backbones of its model zoo. It need not be there."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from partglee.checkpoint.convert import ConversionReport, apply_rules
from partglee.checkpoint.files import UNREADABLE, read_weights
from partglee.checkpoint.notes import is_note, read_note
from partglee.checkpoint.rules import RESNET, drop

STEM = "stem.conv1.weight"  # by which a ResNet of detectron2 is known
_PREFIXES = ("module.", "model.", "backbone.", "bottom_up.")
_OTHERS = (
    drop(r"backbone\.(?:fpn_|top_block\.).*", "feature pyramid"),
    drop(r"backbone\.(?:stem\.)?fc\..*", "classifier"),
    drop(r"backbone\.(?!stem\.|res\d).*", "not of the backbone"),
    drop(r".*\.num_batches_tracked", "index tables and counters"),
)
_ADMITTED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("_codecs", "encode"): lambda text, encoding: text.encode(encoding),  # bytes, as protocol 2 has them
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
_ARRAY_MAKERS = ("_reconstruct", "scalar", "_frombuffer")


def convert_trained(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], ConversionReport]:
    """Weights that a trainer of detectron2 saved of our meta-architecture, with our keys.

    Raises:
        ValueError: when nothing of our model is among them.
    """
    report = ConversionReport("detectron2")
    out: dict[str, Tensor] = {}
    for key, value in state.items():
        short = key.removeprefix("module.")
        if is_note(short):
            report.dropped["what the weights say of themselves (goes into the file's metadata)"] += 1
        elif short.startswith("model."):
            out[short.removeprefix("model.")] = value
        else:
            report.unknown.append(key)
    report.converted = len(out)
    if not any(key.startswith("pixel_decoder.") for key in out):
        shown = ", ".join(list(state)[:3]) or "none"
        raise ValueError(
            f"these are no weights of PartGLEE as detectron2 saves them (some keys: {shown}); released weights are "
            "converted by --from partglee, a ResNet of its model zoo goes into MODEL.BACKBONE.WEIGHTS"
        )
    report.config_text = read_note(state).get("config")
    return out, report


def read_detectron2_resnet(
    file: str | Path, *, stride_in_1x1: bool | None = None, pixel_format: str | None = None
) -> dict[str, Tensor]:
    """A ResNet of detectron2 with timm's keys, from a `.pkl` or `.pth` of the backbone or of a whole detector.

    Our ResNets have their strides in the 3 x 3 convolutions and see RGB divided by its standard deviation. Files say so
    where they come from torchvision (`__author__`). Others are refused: they hold no statistics of their norms, which
    Caffe2 folded (`MSRA/R-50.pkl` and what was trained from it: BGR, not divided, strides in the 1 x 1 convolutions),
    or do not say how they were trained.

    Args:
        stride_in_1x1: `MODEL.RESNETS.STRIDE_IN_1X1` of the training; None = as the file says.
        pixel_format: `INPUT.FORMAT` of the training, pixels divided by the standard deviation of ImageNet; "BGR" turns
            the first convolution around. None = as the file says.

    Raises:
        ValueError: for a file that cannot be read or holds no ResNet, and where our model would give other numbers.
    """
    path = Path(file)
    content = read_pickle(path) if path.suffix == ".pkl" else {"model": read_weights(path)}
    return convert_resnet(content, source=str(path), stride_in_1x1=stride_in_1x1, pixel_format=pixel_format)


def convert_resnet(
    content: Mapping[str, Any],
    *,
    source: str = "these weights",
    stride_in_1x1: bool | None = None,
    pixel_format: str | None = None,
) -> dict[str, Tensor]:
    """The same of what a file holds: `model`, key -> array or tensor, and perhaps `__author__`."""
    if "blobs" in content:
        raise ValueError(_other_numbers(source, "it has the layout of Caffe2"))
    state = content.get("model", content)
    tensors = {
        key: torch.as_tensor(np.array(value) if isinstance(value, np.ndarray) else value)
        for key, value in state.items()
        if isinstance(value, (Tensor, np.ndarray))
    }
    named: dict[str, Tensor] = {}
    for key, value in tensors.items():
        short = key
        for prefix in _PREFIXES:
            short = short.removeprefix(prefix)
        named.setdefault(f"backbone.{short}", value)
    if f"backbone.{STEM}" not in named:
        shown = ", ".join(list(tensors)[:3]) or "none"
        raise ValueError(f"{source} holds no ResNet of detectron2 (some keys: {shown}); {STEM} is missing")
    _check_origin(content, named, source, stride_in_1x1, pixel_format)
    out, report = apply_rules(named, (*RESNET, *_OTHERS), source="detectron2")
    if report.unknown:
        raise ValueError(
            f"{source}: {report.unknown[0]} is of no ResNet that timm has ({len(report.unknown)} such keys)"
        )
    renamed = {key.removeprefix("backbone.body."): value for key, value in out.items()}
    if pixel_format == "BGR":
        renamed["conv1.weight"] = renamed["conv1.weight"].flip(1)
    return renamed


def is_detectron2_resnet(state: Mapping[str, Any]) -> bool:
    """Whether a state dict has detectron2's names of a ResNet."""
    return any(key == STEM or key.endswith(f".{STEM}") for key in state)


def read_pickle(file: str | Path) -> dict[str, Any]:
    """A pickled dict of numpy arrays, numbers and texts, as detectron2's model zoo has them; nothing else is admitted.

    Raises:
        ValueError: for a file that is not there or damaged, or holds anything else.
    """
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"weights file {path} does not exist; pass a .pkl file of detectron2's model zoo")
    try:
        with path.open("rb") as stream:
            content = _Arrays(stream, encoding="latin1").load()
    except pickle.UnpicklingError as error:
        raise ValueError(f"cannot read {path}: {error}") from error
    except UNREADABLE as error:
        raise ValueError(f"cannot read {path} ({type(error).__name__}: {error}); truncated, or no pickle?") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a dict with an entry 'model'")
    return content


class _Arrays(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ADMITTED:
            return _ADMITTED[module, name]
        if module.startswith(("numpy.core.", "numpy._core.")) and name in _ARRAY_MAKERS:
            return super().find_class(module.replace("numpy.core.", "numpy._core."), name)
        raise pickle.UnpicklingError(f"it holds {module}.{name}; only numpy arrays, numbers and texts are read")


def _check_origin(
    content: Mapping[str, Any],
    named: Mapping[str, Tensor],
    source: str,
    stride_in_1x1: bool | None,
    pixel_format: str | None,
) -> None:
    if pixel_format not in (None, "RGB", "BGR"):
        raise ValueError(f"pixel_format must be RGB or BGR, got {pixel_format!r}")
    if stride_in_1x1:
        raise ValueError(_other_numbers(source, "its strides are in the 1 x 1 convolutions"))
    if not any(key.endswith("norm.running_var") for key in named):
        raise ValueError(_other_numbers(source, "its norms have no statistics"))
    std = named.get("backbone.pixel_std")
    if std is not None and bool((std == 1).all()):
        raise ValueError(_other_numbers(source, "it was trained on pixels that are not divided (pixel_std 1)"))
    torchvision = str(content.get("__author__", "")).lower() == "torchvision"
    if not torchvision and (stride_in_1x1 is None or pixel_format is None):
        raise ValueError(
            f"{source} does not say where the strides of its ResNet are, nor the order of its colours; if the "
            "configuration of its training has RESNETS.STRIDE_IN_1X1 False and PIXEL_STD [58.395, 57.12, 57.375] (in "
            "the order of its colours), convert it by read_detectron2_resnet(file, stride_in_1x1=False, "
            "pixel_format=its INPUT.FORMAT)"
        )


def _other_numbers(source: str, why: str) -> str:
    return (
        f"{source} is a ResNet of Caffe2 or was trained from one: {why}. Strides in the 1 x 1 convolutions and BGR "
        "pixels give other numbers in our model; take torchvision/R-50.pkl of detectron2's model zoo, or timm's weights"
    )
