"""`partglee serve`: a model behind HTTP, with a page."""

from __future__ import annotations

import argparse
from typing import Any

from partglee.cli.arguments import add_import, asked_vocabulary, tell_missing_operators

DEFAULT_WEIGHTS = "partglee-tiny"


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("serve", help="a model behind HTTP, with a page for people")
    parser.add_argument(
        "weights", nargs="?", default=DEFAULT_WEIGHTS, metavar="WEIGHTS",
        help="name or .safetensors file; default: %(default)s",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 for other machines too; default: %(default)s")
    parser.add_argument("-p", "--port", type=int, default=8000, help="0 for any that is free; default: %(default)s")
    parser.add_argument(
        "-v", "--vocabulary", help="of requests that name none; default: what the weights were trained with"
    )
    parser.add_argument("-d", "--device", help="cpu, cuda, cuda:1; default: a GPU when there is one")
    parser.add_argument(
        "--precision", default="float32", choices=("auto", "float32", "bfloat16", "float16", "mixed"),
        help="auto: what this machine is quick at; mixed: bfloat16 but for the backbone",
    )  # fmt: skip
    parser.add_argument("--name-table", metavar="FILE", help="name embeddings, for models that read names from a table")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-upload", type=float, default=20, metavar="MB", help="of a request; default: %(default)s")
    limits.add_argument(
        "--max-pixels", type=int, default=50_000_000, metavar="N", help="of an image; default: %(default)s"
    )
    limits.add_argument(
        "--max-objects", type=int, default=300, metavar="N", help="names of a vocabulary; default: %(default)s"
    )
    limits.add_argument(
        "--max-parts", type=int, default=1000, metavar="N", help="the same of parts; default: %(default)s"
    )
    limits.add_argument("--queue", type=int, default=64, metavar="N", help="requests that wait; default: %(default)s")
    limits.add_argument("--timeout", type=float, default=60, metavar="S", help="of a request; default: %(default)s")
    limits.add_argument(
        "-b", "--batch-size", type=int, default=8, metavar="N", help="images of one pass; default: %(default)s"
    )
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until somebody ends it."""
    try:
        from partglee.serve import Limits, serve
    except ImportError as error:
        raise ValueError(f"{error.name} is not installed; pip install 'partglee[serve]'") from error
    from partglee.checkpoint import read_metadata
    from partglee.engine import Predictor
    from partglee.engine.weight_files import find_weights

    if not 0 < arguments.max_upload < float("inf"):  # nan is neither
        raise ValueError(f"--max-upload must be a number of megabytes above 0, got {arguments.max_upload}")
    limits = Limits(
        upload_bytes=int(arguments.max_upload * 1e6),
        pixels=arguments.max_pixels,
        objects=arguments.max_objects,
        parts=arguments.max_parts,
        queue=arguments.queue,
        batch=arguments.batch_size,
        seconds=arguments.timeout,
    )
    overrides = ["MODEL.TEXT.TABLE.FILE", arguments.name_table] if arguments.name_table else []
    predictor = Predictor.from_pretrained(
        arguments.weights, device=arguments.device, precision=arguments.precision, overrides=overrides
    )
    tell_missing_operators(predictor.model.device)
    try:
        vocabulary = asked_vocabulary(arguments.vocabulary, arguments.weights)
    except ValueError:
        if arguments.vocabulary is not None:
            raise
        vocabulary = None  # weights without one of their own: every request names one
    file = find_weights(arguments.weights)
    told = {key: value for key, value in read_metadata(file).items() if key in ("terms", "training_data", "license")}
    serve(
        predictor, host=arguments.host, port=arguments.port, name=file.stem, vocabulary=vocabulary, limits=limits,
        remarks=told,
    )  # fmt: skip
    return 0
