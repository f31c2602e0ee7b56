"""`partglee convert`: released weights to our format."""

from __future__ import annotations

import argparse
from typing import Any

from partglee.cli.arguments import add_import


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("convert", help="convert released PartGLEE, GLEE or MaskDINO weights")
    parser.add_argument("--from", dest="source", required=True, choices=("partglee", "glee", "maskdino"))
    parser.add_argument("input", metavar="IN", help=".pth or .safetensors file")
    parser.add_argument("output", metavar="OUT.safetensors")
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and say which of our parameters the file does not have."""
    import torch

    from partglee.checkpoint import convert_checkpoint, read_weights
    from partglee.config import load_config
    from partglee.modeling import build_model

    report = convert_checkpoint(arguments.input, arguments.output, source=arguments.source)
    print(report)
    print(f"wrote {arguments.output}")
    if report.config:
        with torch.device("meta"):
            ours = build_model(load_config(report.config)).state_dict()
        missing = sorted(set(ours) - set(read_weights(arguments.output)))
        groups = sorted({k.split(".")[0] for k in missing})
        print(
            f"fits {report.config}: every parameter is there"
            if not missing
            else f"fits {report.config}, except {len(missing)} parameters that the source lacks ({', '.join(groups)})"
        )
    return 0
