"""The `partglee` command."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from partglee import __version__
from partglee.cli import convert, data, eval, export, info, predict, train, vocabulary

_COMMANDS = (predict, train, eval, data, convert, export, vocabulary, info)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input ends with one line on stderr and status 2."""
    parser = argparse.ArgumentParser(prog="partglee", description="Objects and their parts, found in images by name.")
    parser.add_argument("--version", action="version", version=f"partglee {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        return status
    except (ValueError, TypeError, OSError) as error:
        print(f"partglee: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("partglee: interrupted", file=sys.stderr)
        return 130
