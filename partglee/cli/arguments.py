"""Arguments that several commands share."""

from __future__ import annotations

import argparse


def add_import(parser: argparse.ArgumentParser) -> None:
    """`--import MODULE`; whoever calls the command loads them before it runs (`basics.plugins.load_plugins`)."""
    parser.add_argument(
        "--import", dest="imports", action="append", default=[], metavar="MODULE",
        help="a project in a checkout, whose recipes, data sets and protocols it makes known; may be repeated",
    )  # fmt: skip
