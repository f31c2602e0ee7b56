"""`partglee export`: a checkpoint as one small file, of weights or as a graph for other runtimes."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from partglee.cli.arguments import add_import, asked_vocabulary

_ENDINGS = {".safetensors": "safetensors", ".onnx": "onnx", ".pt2": "pt2", ".xml": "openvino"}


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "export", help="write a checkpoint as one small file, of weights or as a graph (ONNX, ...)"
    )
    parser.add_argument(
        "checkpoint",
        help="checkpoint folder (.../checkpoints/step_0003000) or weights file of a run; for a graph weights that "
        "`predict` takes, such as partglee-tiny",
    )
    parser.add_argument("out", help="file to write, .safetensors, .onnx, .pt2 or .xml (openvino)")
    parser.add_argument(
        "--format",
        choices=("safetensors", "onnx", "pt2", "openvino"),
        help="default: as OUT ends; all but safetensors are graphs with post-processing inside",
    )
    graph = parser.add_argument_group("graphs (onnx, pt2, openvino)")
    graph.add_argument("--vocabulary", help="fixed in the graph; default: that of the weights' name")
    graph.add_argument("--names-as-inputs", action="store_true", help="embeddings of names are inputs of the graph")
    graph.add_argument("--size", metavar="HxW", help="of every input; default: any multiples of 32")
    graph.add_argument("--score-threshold", type=float, help="fixed in the graph; default: that of the weights")
    graph.add_argument(
        "--int8", nargs="+", metavar="PHOTO", help="onnx: in eight bits, with ranges found on these photos or folders"
    )
    graph.add_argument("--strict", action="store_true", help="names that the weights lack are an error")
    parser.add_argument("--float32", action="store_true", help="keep full precision (default: float16, half the size)")
    parser.add_argument(
        "--remark", action="append", default=[], metavar="KEY=TEXT", help="kept in the file, such as training_data=..."
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY VALUE",
        help="INPUT.TEST.*, TEST.*, MODEL.OBJECT_DECODER.NUM_PARSED, .SELECTION and .UNSEEN_SHIFT of the file",
    )
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written."""
    ending = Path(arguments.out).suffix
    kind = arguments.format or _ENDINGS.get(ending)
    if kind is None:
        raise ValueError(f"OUT ends in {ending or 'nothing'}; expected one of {', '.join(_ENDINGS)}, or pass --format")
    return _weights(arguments) if kind == "safetensors" else _graph(arguments, kind)


def _graph(arguments: argparse.Namespace, kind: str) -> int:
    from partglee.basics.disk import check_place
    from partglee.data.images import list_images
    from partglee.export import export_model
    from partglee.export.int8 import check_photos

    if arguments.overrides or arguments.remark or arguments.float32:
        raise ValueError(
            "a graph takes no KEY VALUE, --remark or --float32; export to .safetensors with them, then that file"
        )
    if arguments.names_as_inputs and arguments.vocabulary:
        raise ValueError("either --vocabulary or --names-as-inputs")
    if arguments.int8 and kind != "onnx":
        raise ValueError(f"--int8 is for ONNX graphs, got {kind}; leave it out, or write an .onnx file")
    photos = list_images(arguments.int8) if arguments.int8 else []
    if arguments.int8:
        check_place(Path(arguments.out))
        check_photos(photos)
    names = None if arguments.names_as_inputs else asked_vocabulary(arguments.vocabulary, arguments.checkpoint)
    print(f"drawing the graph of {arguments.checkpoint}: a few minutes", flush=True)

    def export(out: str | Path) -> Path:
        return export_model(
            arguments.checkpoint,
            out,
            format=kind,
            vocabulary=names,
            size=_size(arguments.size),
            score_threshold=arguments.score_threshold,
            strict=arguments.strict,
        )

    file = _in_int8(arguments, export, photos) if photos else export(arguments.out)
    print(f"{file}: {file.stat().st_size / 2**20:.1f} MiB; partglee.export.ExportedPredictor.open({str(file)!r})")
    return 0


def _in_int8(arguments: argparse.Namespace, export: Callable[[Path], Path], photos: list[Path]) -> Path:
    """Graphs with names as inputs find their ranges with the vocabulary of the weights."""
    from partglee.engine import Predictor
    from partglee.export import Names, quantize

    names = None
    if arguments.names_as_inputs:
        predictor = Predictor.from_pretrained(arguments.checkpoint, device="cpu")
        names = Names.of(predictor, asked_vocabulary(None, arguments.checkpoint))
    with tempfile.TemporaryDirectory(prefix="partglee-") as folder:
        whole = export(Path(folder) / "graph.onnx")
        print(f"finding ranges on {len(photos)} photos", flush=True)
        return quantize(whole, Path(arguments.out), photos=photos, names=names)


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    height, cross, width = text.lower().partition("x")
    if not (cross and height.isdecimal() and width.isdecimal()):
        raise ValueError(f"--size takes HEIGHTxWIDTH such as 256x384, got {text!r}")
    return int(height), int(width)


def _weights(arguments: argparse.Namespace) -> int:
    from partglee.engine.export import export_weights

    graphs = ("vocabulary", "names_as_inputs", "size", "score_threshold", "int8", "strict")
    if given := [name for name in graphs if getattr(arguments, name)]:
        raise ValueError(f"--{given[0].replace('_', '-')} belongs to graphs (--format onnx, pt2, openvino)")

    remarks = {}
    for entry in arguments.remark:
        key, found, text = entry.partition("=")
        if not found or not key:
            raise ValueError(f"--remark takes KEY=TEXT, got {entry!r}")
        remarks[key] = text
    file = export_weights(
        arguments.checkpoint, arguments.out, half=not arguments.float32, remarks=remarks, overrides=arguments.overrides
    )
    print(f"{file}: {Path(file).stat().st_size / 2**20:.1f} MiB; Predictor.from_pretrained({str(file)!r})")
    return 0
