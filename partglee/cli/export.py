"""`partglee export`: a checkpoint as one small file for `Predictor.from_pretrained`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from partglee.cli.arguments import add_import


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("export", help="write a checkpoint as one small weights file that needs nothing else")
    parser.add_argument("checkpoint", help="checkpoint folder (.../checkpoints/step_0003000) or weights file of a run")
    parser.add_argument("out", help="file to write, .safetensors")
    parser.add_argument("--float32", action="store_true", help="keep full precision (default: float16, half the size)")
    parser.add_argument(
        "--remark", action="append", default=[], metavar="KEY=TEXT", help="kept in the file, such as training_data=..."
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY VALUE",
        help="INPUT.TEST.*, TEST.*, MODEL.OBJECT_DECODER.NUM_PARSED and .SELECTION of the file",
    )
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Export and say what was written."""
    from partglee.engine.export import export_weights

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
