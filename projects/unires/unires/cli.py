"""The `python -m unires` command."""

from __future__ import annotations

from partglee.cli.expressions import ExpressionCommand

main = ExpressionCommand(
    name="unires",
    description="Segment what a sentence means: an object, or a part of one.",
    options={
        "--threshold": {
            "type": float,
            "dest": "threshold",
            "help": "of a pixel's probability; default: the weights' own",
        },
        "--min-pixels": {"type": int, "dest": "min_pixels", "help": "smaller masks mean that nothing is meant"},
    },
).main
"""Run one command; returns the exit status."""
