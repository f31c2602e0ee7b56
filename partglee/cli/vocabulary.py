"""`partglee vocabulary`: which parts the built-in vocabularies know for an object."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("vocabulary", help="part names known for some objects, with their source")
    parser.add_argument("objects", nargs="*", metavar="OBJECT", help='"car" "dog" ...; none: list the vocabularies')
    parser.add_argument("--show", metavar="NAME", help="print a built-in vocabulary, one object a line")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print a vocabulary that `--vocabulary` accepts, and where each name comes from."""
    from partglee.structures import Vocabulary, known_parts

    if arguments.show:
        if arguments.objects:
            raise ValueError("--show prints a built-in vocabulary; pass it alone, or objects alone")
        for name, parts in Vocabulary.builtin(arguments.show).to_dict().items():
            print(f"{name}: {', '.join(parts)}" if parts else name)
        return 0
    if not arguments.objects:
        for name in Vocabulary.list_builtin():
            built_in = Vocabulary.builtin(name)
            print(f"{name}: {len(built_in.object_names)} objects, {len(built_in.part_names)} part names")
        return 0
    sources = known_parts(arguments.objects)
    filled = Vocabulary.with_known_parts(arguments.objects)
    for name in filled.object_names:
        print(f"{name}:" if filled.parts_of(name) else f"{name}: no parts known")
        for part in filled.parts_of(name):
            print(f"  {part}  ({', '.join(sources[name][part])})")
    text = "; ".join(f"{n}: {', '.join(filled.parts_of(n))}" if filled.parts_of(n) else n for n in filled.object_names)
    print(f'\n--vocabulary "{text}"')
    return 0
