"""The `partglee` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from partglee import __version__
from partglee.basics.arguments import ArgumentParser
from partglee.basics.memory import keep_freed_memory
from partglee.basics.signals import STATUS, Terminated, listening
from partglee.basics.threads import share_cores
from partglee.cli import (
    annotate,
    convert,
    data,
    eval,
    export,
    info,
    name_table,
    page,
    predict,
    serve,
    train,
    vocabulary,
)
from partglee.cli.arguments import load_arguments

_LARGE = (predict, train, eval)  # they run networks on image after image, and end
_COMMANDS = (predict, train, eval, data, annotate, convert, export, serve, page, vocabulary, name_table, info)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input ends with one line on stderr and status 2, SIGTERM 143."""
    share_cores()
    parser = ArgumentParser(prog="partglee", description="Objects and their parts, found in images by name.")
    parser.add_argument("--version", action="version", version=f"partglee {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _COMMANDS:
        module.add_parser(commands)
    arguments = parser.parse_args(argv)
    try:
        load_arguments(arguments)
        if arguments.run in [module.run for module in _LARGE]:
            keep_freed_memory()
        with listening():
            status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except BrokenPipeError as error:
        if not _reader_is_gone():
            print(f"partglee: {error}", file=sys.stderr)
            return 2
        return 128 + 13  # as a shell says of a program that SIGPIPE ended
    except (ValueError, TypeError, OSError) as error:
        print(f"partglee: {error}", file=sys.stderr)
        return 2
    except Terminated:
        print("partglee: ended by SIGTERM", file=sys.stderr)
        return STATUS
    except KeyboardInterrupt:
        print("partglee: interrupted", file=sys.stderr)
        return 130


def _reader_is_gone() -> bool:
    """Whether what reads our output (`| head`) has ended; what is left of it then goes nowhere, without a word."""
    try:
        print(flush=True)  # an unbuffered stream tells only when it is written to
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False
