"""A model as a file that runs without this library: torch.export's `.pt2`, ONNX, OpenVINO."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partglee.basics.disk import naming_disk
from partglee.basics.files import whole_file
from partglee.export.card import KEY, NAME_INPUTS, Card
from partglee.export.extras import needed
from partglee.export.graph import OUTPUTS, DetectionGraph
from partglee.ops import use_ops

_MOST_CELLS = 256  # sides of an input of any size: up to 256 times the divisibility
_EXAMPLE_NAMES = (3, 5)  # objects, parts; while a graph with names as inputs is drawn


def program_of(graph: DetectionGraph, card: Card) -> torch.export.ExportedProgram:
    """The graph as torch.export draws it: sides, and numbers of names where those are inputs, stay open unless the
    card fixes the size. Attention is written in plain tensor operations, which every runtime has."""
    step = card.divisibility
    height, width = card.size or (8 * step, 12 * step)
    example: dict[str, Tensor] = {"image": torch.full((1, 3, height, width), 128.0)}
    shapes: dict[str, Any] = {"image": None}
    if card.size is None:
        rows, columns = (torch.export.Dim(name, min=2, max=_MOST_CELLS) for name in ("rows", "columns"))
        shapes["image"] = {2: step * rows, 3: step * columns}
    if card.vocabulary is None:
        dim = graph.model.text_encoder.embed_dim
        objects, parts = (torch.export.Dim(name, min=2, max=100_000) for name in ("objects", "parts"))
        many, some = _EXAMPLE_NAMES
        example |= {
            "object_names": torch.randn(many, dim),
            "part_names": torch.randn(some, dim),
            "allowed": torch.ones(many, some, dtype=torch.bool),
        }
        shapes |= {"object_names": {0: objects}, "part_names": {0: parts}, "allowed": {0: objects, 1: parts}}
    with use_ops("reference"), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.export(graph, (), kwargs=example, dynamic_shapes=shapes, strict=False)


def write_pt2(program: torch.export.ExportedProgram, card: Card, out: Path) -> None:
    """`torch.export.load(file).module()(image)` runs it."""
    with whole_file(out) as beside, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, str(beside), extra_files={KEY: card.to_json()})


def write_onnx(program: torch.export.ExportedProgram, card: Card, out: Path) -> None:
    """`onnxruntime.InferenceSession(file)` runs it. Everything is in the one file."""
    model = _onnx_program(program, card)
    with whole_file(out) as beside:
        model.save(str(beside), external_data=False)


def write_openvino(program: torch.export.ExportedProgram, card: Card, out: Path) -> None:
    """`openvino.compile_model(file)` runs it; its weights lie beside it in a file that ends in .bin."""
    openvino = needed("openvino")
    model = _onnx_program(program, card)
    out.parent.mkdir(parents=True, exist_ok=True)
    with naming_disk(out), tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.stem}.") as name:
        folder = Path(name)
        model.save(str(folder / "graph.onnx"), external_data=False)
        converted = openvino.convert_model(str(folder / "graph.onnx"))
        converted.set_rt_info(card.to_json(), [KEY])
        openvino.save_model(converted, str(folder / out.name), compress_to_fp16=False)
        for file in (folder / out.with_suffix(".bin").name, folder / out.name):  # the graph last: it asks for the other
            file.replace(out.parent / file.name)


_NEEDS = {"pt2": (), "onnx": ("onnx", "onnxscript"), "openvino": ("onnx", "onnxscript", "openvino")}
WRITERS: Mapping[str, Callable[[torch.export.ExportedProgram, Card, Path], None]] = {
    "pt2": write_pt2,
    "onnx": write_onnx,
    "openvino": write_openvino,
}
ENDINGS = {"pt2": ".pt2", "onnx": ".onnx", "openvino": ".xml"}


def packages_are_there(format: str) -> None:
    """Before minutes of work.

    Raises:
        ValueError: where one that writes the format is not installed.
    """
    for package in _NEEDS[format]:
        needed(package)


def _onnx_program(program: torch.export.ExportedProgram, card: Card) -> Any:
    inputs = ["image", *(() if card.vocabulary is not None else NAME_INPUTS)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.onnx.export(
            program, (), input_names=inputs, output_names=list(OUTPUTS), dynamo=True, verbose=False, opset_version=18
        )
    assert model is not None
    for node in model.model.graph.all_nodes():  # where in whose files each was traced: four megabytes
        node.metadata_props.clear()
    model.model.metadata_props[KEY] = card.to_json()
    return model
