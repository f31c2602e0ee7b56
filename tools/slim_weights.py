#!/usr/bin/env python
"""A start of training with a slimmer pixel decoder, fitted to what the full one gives on unlabelled photos.

    python tools/slim_weights.py partglee-tiny start.safetensors slim.safetensors PHOTO ... --ffn-dim 128

Train it further with MODEL.ENCODER.FFN_DIM 128 MODEL.ENCODER.SEPARABLE True. Prints what each piece does not meet.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from partglee import Predictor
from partglee.basics.arguments import ArgumentParser
from partglee.engine.slimming import slim_weights


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="that see the photos: a .safetensors file, or a name of the zoo")
    parser.add_argument("start", help="what training would start from with the full decoder (unproject_weights.py)")
    parser.add_argument("output", help="a .safetensors file")
    parser.add_argument("photos", nargs="+", type=Path, help="a hundred or more, unlabelled")
    parser.add_argument("--ffn-dim", type=int, required=True, help="hidden units that stay of each feed-forward block")
    parser.add_argument("--steps", type=int, default=300, help="of fitting, each piece")
    arguments = parser.parse_args()
    try:
        apart = slim_weights(
            Predictor.from_pretrained(arguments.weights, device="cpu"), arguments.photos, arguments.start,
            arguments.output, ffn_dim=arguments.ffn_dim, steps=arguments.steps,
        )  # fmt: skip
    except ValueError as error:
        parser.error(str(error))
    for key, share in apart.items():
        print(f"{key}: {100 * share:.1f} % not met")


if __name__ == "__main__":
    main()
