#!/usr/bin/env python
"""A mean of two weights, of which one was trained further from the other.

    python tools/mix_weights.py start.safetensors output/run/model_final_ema.safetensors mixed.safetensors --share 0.5

The new file says the second's configuration; `partglee train --eval-only MODEL.WEIGHTS mixed.safetensors` scores it,
and `partglee export` takes it.
"""

from __future__ import annotations

import argparse

from partglee.basics.arguments import ArgumentParser
from partglee.engine.mixing import mix_weights


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", help="a .safetensors file")
    parser.add_argument("second", help="another of the same keys; what it says of itself is kept")
    parser.add_argument("output", help="a .safetensors file")
    parser.add_argument("--share", type=float, default=0.5, help="of the second, 0..1")
    arguments = parser.parse_args()
    try:
        mix_weights(arguments.first, arguments.second, arguments.output, share=arguments.share)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
