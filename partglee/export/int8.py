"""A graph in eight bits: weights and activations of its convolutions and of its products with weights.

Static quantization by onnxruntime: the ranges of activations come from photos. Products of two activations (attention)
and post-processing stay in float32.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.basics.files import whole_file
from partglee.data.images import read_image
from partglee.export.extras import needed
from partglee.export.predictor import ExportedPredictor, Names

LEAST_PHOTOS = 8
MOST_PHOTOS = 64
_QUANTIZED = ("Conv", "MatMul", "Gemm")


def quantize(graph: Path, out: Path, *, photos: Sequence[Path], names: Names | None = None) -> Path:
    """Write an ONNX graph of `partglee export` in int8, about 40 % of its size.

    Args:
        photos: of what the model will see; the ranges are theirs. `MOST_PHOTOS` of them, spread evenly, are looked at.
        names: for a graph that takes names as inputs.

    Raises:
        ValueError: for fewer than `LEAST_PHOTOS`, a photo that cannot be read, or a graph of another kind.
    """
    onnx, quantization = needed("onnx"), needed("onnxruntime.quantization")
    if graph.suffix != ".onnx" or out.suffix != ".onnx":
        raise ValueError(f"int8 is for ONNX graphs, got {graph.name!r} to {out.name!r}")
    check_photos(photos)
    exported = ExportedPredictor.open(graph, threads=1)
    model = onnx.load(str(graph))
    weights = {entry.name for entry in model.graph.initializer}
    kept = [node.name for node in model.graph.node if node.op_type in _QUANTIZED[1:] and node.input[1] not in weights]
    with tempfile.TemporaryDirectory() as folder, whole_file(out) as beside, _quiet():
        copy = Path(folder) / "graph.onnx"  # the quantizer writes beside what it reads
        onnx.save(model, str(copy))
        quantization.quantize_static(
            str(copy),
            str(beside),
            _reader(quantization.CalibrationDataReader, _inputs(exported, _chosen(photos), names)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTIZED),
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
            extra_options={"CalibMovingAverage": True},
        )
    return out


def check_photos(photos: Sequence[Path]) -> None:
    """Whether there are enough, and those that will be looked at can be read.

    Raises:
        ValueError: where there are not, or one is damaged.
    """
    if len(photos) < LEAST_PHOTOS:
        raise ValueError(
            f"expected at least {LEAST_PHOTOS} photos to find ranges with, got {len(photos)}; a few dozen do"
        )
    for photo in _chosen(photos):
        read_image(photo)


def _chosen(photos: Sequence[Path]) -> list[Path]:
    return [photos[place] for place in np.linspace(0, len(photos) - 1, min(len(photos), MOST_PHOTOS)).astype(int)]


def _inputs(
    exported: ExportedPredictor, photos: Sequence[Path], names: Names | None
) -> Iterator[Mapping[str, NDArray[Any]]]:
    for photo in photos:
        yield exported.inputs(exported.input.read(photo), names)


def _reader(base: type, inputs: Iterator[Mapping[str, NDArray[Any]]]) -> Any:
    """What the quantizer asks for one input after the other, until None."""
    return type("Photos", (base,), {"get_next": lambda self: next(inputs, None)})()


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises of preparations that fold shapes, which this graph must keep open."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
