#!/usr/bin/env python
"""Exported weights to weights that training with the original name table starts from.

python tools/unproject_weights.py partglee-tiny clip_rn50_names.npz start.safetensors --without backbone.
"""

from __future__ import annotations

import argparse

from partglee.basics.arguments import ArgumentParser
from partglee.engine.export import unproject_weights
from partglee.engine.weight_files import find_weights


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a file that `partglee export` wrote, or a name of the zoo")
    parser.add_argument("table", help="the name table that it was trained with")
    parser.add_argument("output", help="a .safetensors file")
    parser.add_argument("--without", nargs="*", default=[], metavar="KEY", help="beginnings of keys that are left out")
    arguments = parser.parse_args()
    error = unproject_weights(
        find_weights(arguments.weights), arguments.table, arguments.output, without=arguments.without
    )
    print(f"{arguments.output}: embeddings of the names are met to {error:.1e}")


if __name__ == "__main__":
    main()
