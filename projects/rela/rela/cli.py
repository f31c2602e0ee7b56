"""The `python -m rela` command."""

from __future__ import annotations

import argparse
from typing import Any

from partglee.cli.expressions import ExpressionCommand


def _add_convert(commands: Any) -> None:
    parser = commands.add_parser("convert", help="released ReLA weights to our format")
    parser.add_argument("input", metavar="IN", help=".pth or .safetensors file")
    parser.add_argument("output", metavar="OUT.safetensors")
    parser.add_argument("--vocabulary", metavar="FILE", help="BERT's vocab.txt or tokenizer.json, to travel along")
    parser.add_argument("--config", metavar="NAME", help="configuration that they are for; default: by backbone")
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    from rela.convert import convert_file

    report, config = convert_file(
        arguments.input, arguments.output, vocabulary=arguments.vocabulary, config=arguments.config
    )
    print(report)
    print(f"wrote {arguments.output}; fits {config}: every parameter is there, nothing is left over")
    return 0


main = ExpressionCommand(
    name="rela",
    description="Segment what a sentence means: one thing, many or none.",
    options={
        "--no-target": {
            "choices": ("classifier", "pixels", "either"),
            "dest": "no_target",
            "help": "who says that there is none",
        }
    },
    more=(_add_convert,),
).main
"""Run one command; returns the exit status."""
