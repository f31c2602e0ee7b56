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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.data.prepare.mapping import load_mapping
from partglee.structures.positions import PositionRules, positions

SAYS = {"left": "left", "right": "right", "front": "front", "back": "rear"}


def cars(folder: Path) -> Iterator[tuple[list[str], list[str], np.ndarray[Any, Any]]]:
    """(raw labels, plain names, boxes xyxy) of each photo: the car first, which is the box around its parts."""
    content = read_json(folder / "annotations.json", "Car-Parts annotation file")
    mapping = load_mapping("car_parts")
    label = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    of_image: dict[int, list[Any]] = defaultdict(list)
    for entry in content["annotations"]:
        of_image[entry["image_id"]].append(entry)
    for entries in of_image.values():
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
            yield raw, plain, found


def measure(folder: Path, rules: PositionRules) -> dict[tuple[str, str, str], Counter[str]]:
    """(axis, part, view) -> {"pairs": rows with an equal, "named", "right"}. A view is what lights and covers say."""
    table: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    for raw, plain, boxes in cars(folder):
        words = positions(plain, boxes, [-1, *[0] * (len(plain) - 1)], rules=rules)
        view = _view(raw)
        for row in range(1, len(raw)):
            others = [raw[other] for other in range(1, len(raw)) if plain[other] == plain[row] and other != row]
            for axis in (("left", "right"), ("front", "back")):
                said = next((word for word in axis if word in raw[row].split("_")), None)
                if said is None or not any(_differs(raw[row], other, axis) for other in others):
                    continue
                count = table["/".join(axis), plain[row], view]
                count["pairs"] += 1
                known = [word for word in words[row].split() if word in {SAYS[end] for end in axis}]
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
    arguments = parser.parse_args()
    try:
        for frame in ("image", "own"):
            rules = PositionRules(frame=frame, min_gap=arguments.min_gap)
            print(f"frame {frame}")
            print(f"{'axis':12}{'part':12}{'view':16}{'rows':>6}{'named':>7}{'right':>7}  of those named")
            total: dict[str, Counter[str]] = defaultdict(Counter)
            for key, count in sorted(measure(arguments.folder, rules).items()):
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
    print(f"{axis:12}{part:12}{view:16}{count['pairs']:6}{count['named']:7}{count['right']:7}  {share}")


if __name__ == "__main__":
    sys.exit(main())
