"""`partglee page`: the page of `partglee serve` as files, with the model in the visitor's browser."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from partglee.cli.arguments import add_import

DEFAULT_WEIGHTS = "partglee-tiny"


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("page", help="a page of plain files whose model runs in the visitor's browser")
    parser.add_argument("out", help="folder to write; a new one, or an earlier page")
    parser.add_argument(
        "weights", nargs="?", default=DEFAULT_WEIGHTS, metavar="WEIGHTS",
        help="name or .safetensors file with a name table; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "--runtime", metavar="FOLDER", help="onnxruntime-web as npm unpacks it; default: npm fetches it"
    )
    parser.add_argument(
        "--graph", metavar="FILE", help="of `partglee export WEIGHTS FILE.onnx --names-as-inputs --score-threshold "
        "0.05`; default: drawn now, which takes minutes",
    )  # fmt: skip
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the page and say how to look at it."""
    try:
        from partglee.export.page import write_page
        from partglee.serve.app import PAGE
        from partglee.serve.names import KnownNames
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; pip install 'partglee[export,serve]'") from error
    from partglee.engine import Predictor

    predictor = Predictor.from_pretrained(arguments.weights, device="cpu")
    if arguments.graph is None:
        print(f"drawing the graph of {arguments.weights}: a few minutes", flush=True)
    folder = write_page(
        arguments.weights, arguments.out, predictor=predictor, page=PAGE, known=KnownNames(predictor).to_dict(),
        runtime=arguments.runtime, graph=arguments.graph,
    )  # fmt: skip
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 1e6:.0f} MB in {_count(folder)} files; python -m http.server --directory {folder}")
    return 0


def _count(folder: Path) -> int:
    return sum(1 for file in folder.rglob("*") if file.is_file())
