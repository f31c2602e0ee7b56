#!/usr/bin/env python3
"""How often left, right, front and rear of `partglee.structures.positions` are what people said, on Car-Parts.

Its labels (`front_left_door`, `right_mirror`) name sides and ends; they are read as plain names (door, mirror), told
apart by their boxes, and compared with what they said.

    python tools/measure_positions.py DATASETS/car_parts/trainingset
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_iou

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.data import get_dataset
from partglee.data.prepare.mapping import load_mapping
from partglee.engine import Predictor
from partglee.structures import Prediction, Vocabulary
from partglee.structures.positions import PositionRules, positions, with_positions

MIN_OVERLAP = 0.5  # IoU of a found part with the one that people drew
SAYS = {"left": "left", "right": "right", "front": "front", "back": "rear"}


class Car(NamedTuple):
    """One photo: the car first, which is the box around its parts. N rows."""

    file: Path
    raw: list[str]  # N labels as they were given, "front_left_door"
    plain: list[str]  # N names, "door"
    boxes: NDArray[np.float64]  # (N, 4) xyxy


Words = Callable[[Car, PositionRules], "list[str | None]"]
"""What each row of a car is told to be, None for one that is not found."""


def cars(folder: Path) -> Iterator[Car]:
    """What people annotated."""
    content = read_json(folder / "annotations.json", "Car-Parts annotation file")
    mapping = load_mapping("car_parts")
    label = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    file = {entry["id"]: folder / "JPEGImages" / str(entry.get("file_name")) for entry in content["images"]}
    of_image: dict[int, list[Any]] = defaultdict(list)
    for entry in content["annotations"]:
        of_image[entry["image_id"]].append(entry)
    for key, entries in of_image.items():
        raw, plain, boxes = ["car"], ["car"], [np.zeros(4)]
        for entry in entries:
            name = mapping.target(label[entry["category_id"]])
            points = np.concatenate([np.array(p, float) for p in entry["segmentation"]]).reshape(-1, 2)
            if name is None or name.endswith(":wheel"):  # one annotation holds all wheels, and says no side
                continue
            raw.append(label[entry["category_id"]])
            plain.append(name.partition(":")[2])
            boxes.append(np.concatenate([points.min(0), points.max(0)]))
        if len(boxes) > 1:
            found = np.array(boxes)
            found[0] = [*found[1:, :2].min(0), *found[1:, 2:].max(0)]
            yield Car(file[key], raw, plain, found)


def of_true_boxes(car: Car, rules: PositionRules) -> list[str | None]:
    """By the boxes that people drew."""
    return [*positions(car.plain, car.boxes, [-1, *[0] * (len(car.plain) - 1)], rules=rules)]


class OfModel:
    """By the boxes that a model finds: a part is the found one of its name that overlaps most, from IoU 0.5 on."""

    def __init__(self, weights: str) -> None:
        self.predictor = Predictor.from_pretrained(weights)
        self.vocabulary = Vocabulary(load_mapping("car_parts").objects)
        self.found: dict[Path, Prediction] = {}

    def __call__(self, car: Car, rules: PositionRules) -> list[str | None]:
        if car.file not in self.found:
            self.found[car.file] = self.predictor(car.file, self.vocabulary)
        found = self.found[car.file]
        named = with_positions(found, rules=rules).names
        overlap = box_iou(torch.as_tensor(car.boxes), found.boxes.double()).numpy()
        taken: set[int] = set()
        words: list[str | None] = []
        for row, name in enumerate(car.plain):
            equal = [other for other in range(len(found)) if found.names[other] == name and other not in taken]
            best = max(equal, key=lambda other: overlap[row, other], default=-1)
            if best < 0 or overlap[row, best] < MIN_OVERLAP:
                words.append(None)
            else:
                taken.add(best)
                words.append(named[best].removesuffix(name).strip())
        return words


def measure(photos: Iterable[Car], rules: PositionRules, words_of: Words) -> dict[tuple[str, str, str], Counter[str]]:
    """(axis, part, view) -> {"pairs": rows with an equal, "found", "named", "right"}. A view is what lights and covers
    say."""
    table: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for car in photos:
        raw, plain, words = car.raw, car.plain, words_of(car, rules)
        view = _view(raw)
        for row in range(1, len(raw)):
            others = [raw[other] for other in range(1, len(raw)) if plain[other] == plain[row] and other != row]
            for axis in (("left", "right"), ("front", "back")):
                said = next((word for word in axis if word in raw[row].split("_")), None)
                if said is None or not any(_differs(raw[row], other, axis) for other in others):
                    continue
                count = table["/".join(axis), plain[row], view]
                word = words[row]
                known = [word for word in (word or "").split() if word in {SAYS[end] for end in axis}]
                count["pairs"] += 1
                count["found"] += word is not None
                count["named"] += bool(known)
                count["right"] += known == [SAYS[said]]
    return table


def _differs(one: str, other: str, axis: tuple[str, str]) -> bool:
    """Whether two labels say the two ends of an axis, and the same on the other one."""
    ends = [next((word for word in axis if word in label.split("_")), None) for label in (one, other)]
    rest = [[word for word in label.split("_") if word not in axis] for label in (one, other)]
    return None not in ends and ends[0] != ends[1] and rest[0] == rest[1]


def _view(raw: list[str]) -> str:
    front = any(label.startswith("front_") and label.endswith(("light", "bumper")) for label in raw)
    rear = any(label.startswith("back_") and label.endswith(("light", "bumper")) for label in raw)
    return {(True, False): "from the front", (False, True): "from the rear"}.get((front, rear), "other")


def main() -> int:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="Car-Parts as it is published: annotations.json and JPEGImages/")
    parser.add_argument("--min-gap", type=float, default=PositionRules().min_gap, metavar="SHARE")
    parser.add_argument("--weights", help="a model finds the boxes; a file, or a name such as partglee-tiny")
    parser.add_argument("--dataset", metavar="NAME", help="photos of this data set alone, such as car_parts_test")
    arguments = parser.parse_args()
    try:
        photos = list(cars(arguments.folder))
        if arguments.dataset:
            records = get_dataset(arguments.dataset).read()
            wanted = {records[index].file.name for index in range(len(records))}
            photos = [car for car in photos if car.file.name in wanted]
        words_of: Words = OfModel(arguments.weights) if arguments.weights else of_true_boxes
        print(f"{len(photos)} photos, boxes of {arguments.weights or 'people'}")
        for frame in ("image", "own"):
            rules = PositionRules(frame=frame, min_gap=arguments.min_gap)
            print(f"frame {frame}")
            print(f"{'axis':12}{'part':12}{'view':16}{'rows':>6}{'found':>7}{'named':>7}{'right':>7}  of those named")
            total: dict[str, Counter[str]] = defaultdict(Counter)
            for key, count in sorted(measure(photos, rules, words_of).items()):
                _line(*key, count)
                total[key[0]].update(count)
            for axis, count in total.items():
                _line(axis, "all", "all", count)
            print()
    except (ValueError, OSError) as error:
        print(f"measure_positions.py: {error}", file=sys.stderr)
        return 2
    return 0


def _line(axis: str, part: str, view: str, count: Counter[str]) -> None:
    share = f"{100 * count['right'] / count['named']:.1f} %" if count["named"] else "-"
    print(
        f"{axis:12}{part:12}{view:16}{count['pairs']:6}{count['found']:7}{count['named']:7}{count['right']:7}  {share}"
    )


if __name__ == "__main__":
    sys.exit(main())
