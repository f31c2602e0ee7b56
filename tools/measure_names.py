#!/usr/bin/env python
"""How honest the scores of names are: do they move when other names are asked for too, and what is found of what is
not there?

`python tools/measure_names.py WEIGHTS DATASET [KEY VALUE ...]` reads photos of a data set whose object names are
annotated exhaustively (COCO's), and prints two tables:

- for every annotated name of a photo its best score when it is asked for alone and beside all other names;
- rows per photo at the default threshold when names are asked for that the photo does not have: others of the data
  set, or `--names`, such as those that the weights were not trained with.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
from collections.abc import Sequence

from tqdm import tqdm

from partglee import Predictor
from partglee.basics.arguments import ArgumentParser
from partglee.data.catalog import DataSets
from partglee.modeling import MultiLabel
from partglee.structures import Prediction

EVERYTHING = MultiLabel(detections=1_000_000)  # every name of every query
LIMIT = 0.02  # a score that moves by more is told


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both tables."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a .safetensors file, or the name of weights")
    parser.add_argument("dataset", help="of the catalog; its objects are annotated exhaustively")
    parser.add_argument("--absent", type=int, default=20, help="names asked for that are not there (default: 20)")
    parser.add_argument("--names", nargs="+", default=[], help="instead of --absent others of the data set")
    parser.add_argument("--images", type=int, default=0, help="the first so many; 0 = all")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of absent names")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    given = parser.parse_args(arguments)
    asked = len(given.names) or given.absent
    predictor = Predictor.from_pretrained(given.weights, overrides=given.overrides)
    records = DataSets().records(given.dataset)
    names = list(records.vocabulary.object_names)
    if not given.names and len(names) <= given.absent:
        raise ValueError(f"{given.dataset} has {len(names)} object names; --absent {given.absent} needs more of them")
    chance, moves, found, photos = random.Random(given.seed), [], [], 0
    for row in tqdm(range(given.images or len(records)), "photos", disable=None):
        record = records[row]
        present = sorted({names[instance.label] for instance in record.objects})
        image = predictor.encode_image(record.source)
        beside = best_scores(predictor(image, names, multi_label=EVERYTHING, masks=False))
        for name in present:
            alone = best_scores(predictor(image, [name], multi_label=EVERYTHING, masks=False))
            moves.append((abs(alone[name] - beside[name]), max(alone[name], beside[name])))
        absent = given.names or chance.sample([name for name in names if name not in present], given.absent)
        found += [len(predictor(image, absent))]
        photos += 1
    print(f"{given.weights} on {photos} photos of {given.dataset}\n")
    print(f"| asked for alone and beside {len(names) - 1} others | names | mean move | largest | above {LIMIT} |")
    print("|---|---|---|---|---|")
    threshold = predictor.score_threshold
    for title, least in (("all", 0.0), (f"of a score of {threshold} or more", threshold)):
        chosen = [move for move, score in moves if score >= least]
        if chosen:
            over = 100 * sum(move > LIMIT for move in chosen) / len(chosen)
            print(f"| {title} | {len(chosen)} | {statistics.mean(chosen):.3f} | {max(chosen):.3f} | {over:.1f} % |")
    clean = 100 * found.count(0) / photos
    print(f"\n{asked} names that are not there: {statistics.mean(found):.2f} rows per photo at the threshold")
    print(f"of {threshold}, none in {clean:.1f} % of the photos")
    return 0


def best_scores(prediction: Prediction) -> dict[str, float]:
    """The best score of each name."""
    best: dict[str, float] = {}
    for name, score in zip(prediction.names, prediction.scores.tolist(), strict=True):
        best[name] = max(best.get(name, 0.0), score)
    return best


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, TypeError, OSError) as error:
        print(f"measure_names: {error}", file=sys.stderr)
        sys.exit(2)
