"""The parser of every command and tool."""

from __future__ import annotations

import argparse
import sys
from typing import Any


class ArgumentParser(argparse.ArgumentParser):
    """As argparse's, and options may stand between the words of a list: `predict a.jpg --output out b.jpg`.

    Parsers of subcommands are of this class as well, since argparse makes them of their parent's.
    """

    _reads_lists = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """`parse_known_intermixed_args` where a list is among the positional arguments; it calls this one back."""
        lists = any(not action.option_strings and action.nargs in ("*", "+", "?") for action in self._actions)
        given = set(sys.argv[1:] if args is None else args)
        # it forgets that words after `--` are no options, and the defaults that a help text names
        if self._reads_lists or not lists or given & {"--", "-h", "--help"}:
            return super().parse_known_args(args, namespace)
        self._reads_lists = True
        try:
            return super().parse_known_intermixed_args(args, namespace)
        finally:
            self._reads_lists = False
