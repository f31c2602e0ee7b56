#!/usr/bin/env python
"""Parts of heads for the persons of an annotation file, as weights that know portraits find them in close crops.

    python tools/closer_look.py clothing/train.json clothing clothing/train_heads.json

The new file has all that the first has, and says for each photo of which names not every part was found with certainty.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from partglee import Predictor
from partglee.annotate.closer_look import CloserLook
from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json, write_json


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="hierarchical COCO JSON with the hair or hats of persons")
    parser.add_argument("images", type=Path, help="folder that its file names are relative to")
    parser.add_argument("output", type=Path)
    parser.add_argument("--weights", default="partglee-tiny", help="a .safetensors file, or the name of weights")
    parser.add_argument("--threshold", type=float, default=0.3, help="score above which a part is written down")
    arguments = parser.parse_args()
    try:
        content = read_json(arguments.annotations, "annotation file")
        look = CloserLook(predictor=Predictor.from_pretrained(arguments.weights), threshold=arguments.threshold)
        photos = tqdm(content["images"], unit=" photos", disable=not sys.stderr.isatty())
        extended = look.extend(content, arguments.images, photos)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    except (KeyError, TypeError) as error:
        parser.error(f"{arguments.annotations} is no hierarchical COCO file: {error!r}")
    write_json(extended, arguments.output)
    added = len(extended["annotations"]) - len(content["annotations"])
    print(f"{arguments.output}: {added} parts more on {len(content['images'])} photos")


if __name__ == "__main__":
    main()
