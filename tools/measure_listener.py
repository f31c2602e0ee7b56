"""How well a listener tells right captions from planted wrong ones, and which settings of `filter_listener` suit it.

python tools/measure_listener.py --listener unires:Predictor.from_pretrained --weights unires_toy.safetensors

Toy scenes with two objects or more; each object has a sentence that means it alone, a fifth of them a wrong one: that
of another object of the scene (`--wrong here`, the harder kind), or of an object of another scene that is no sentence
about this one (`--wrong elsewhere`). Threshold and margin are chosen on some scenes, and measured on others.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from partglee.annotate import Region, Sample, masks, read_recipe
from partglee.basics.arguments import ArgumentParser
from partglee.basics.masks import decode
from partglee.data.expression_rules import ExpressionRules
from partglee.testing.toy_referring import register_toy_referring

WRONG = 0.2  # share of captions that are planted


class Judged(NamedTuple):
    """N captions."""

    iou: NDArray[np.float64]  # (N,)
    margin: NDArray[np.float64]  # (N,)
    right: NDArray[np.bool_]  # (N,)

    def rates(self, threshold: float, margin: float) -> tuple[float, float]:
        """Of the wrong ones the share that is dropped, of the right ones the share that is lost."""
        dropped = (self.iou < threshold) | (self.margin < margin)
        return float(dropped[~self.right].mean()), float(dropped[self.right].mean())


def planted(count: int, first: int = 0, *, wrong: str = "here", seed: int = 0) -> Iterator[tuple[Sample, list[bool]]]:
    """Scenes from the first on, with captions and which of these are right.

    Args:
        wrong: where wrong ones come from: "here" or "elsewhere".
    """
    rules = ExpressionRules(per_image=64, single=1.0, multiple=0.0, none=0.0)
    _, spec = register_toy_referring("listened_to", rules=rules, num_val=first + count)
    records = spec.read()
    before: list[str] = []
    for row in range(first, first + count):
        record, chance = records[row], np.random.default_rng([seed, row])
        said: dict[int, list[str]] = {}
        for expression in record.expressions:
            if len(expression.objects) == 1:
                said.setdefault(expression.objects[0], []).append(expression.text)
        texts = [text for every in said.values() for text in every]
        if len(said) >= 2 and (before or wrong == "here"):
            others = before if wrong == "elsewhere" else texts
            yield _scene(record, records.vocabulary.object_names, said, others, chance)
        before = texts


def _scene(
    record: Any, names: Sequence[str], said: Mapping[int, Sequence[str]], others: Sequence[str], chance: Any
) -> tuple[Sample, list[bool]]:
    size = int(record.height or 0), int(record.width or 0)
    sample, right = Sample(image_id=str(record.image_id), file="", image=record.pixels, size=size), []
    for row, own in said.items():
        wrong = [text for text in others if text not in own]
        right.append(bool(chance.random() >= WRONG or not wrong))
        caption = str(chance.choice(own if right[-1] else wrong))
        mask = masks.encode(decode(record.objects[row].segmentation, *size).astype(bool))
        name = names[record.objects[row].label]
        sample.regions.append(Region(name=name, box=masks.box_of(mask), mask=mask, caption=caption))
    return sample, right


def judge(stage: Any, scenes: Iterator[tuple[Sample, list[bool]]], count: int) -> Judged:
    """What the listener says of all captions."""
    rows: list[tuple[float, float, bool]] = []
    for sample, right in tqdm(scenes, total=count, disable=None):
        stage.run([sample])
        for region, good in zip(sample.regions, right, strict=True):
            rows.append((region.scores["listener"], region.scores["listener_margin"], good))
    iou, margin, good = (np.array(column) for column in zip(*rows, strict=True))
    return Judged(iou, margin, good.astype(bool))


def choose(seen: Judged, recall: float, *, compare: bool) -> tuple[float, float]:
    """Threshold and margin that lose the fewest right captions while they drop this share of the wrong ones."""
    thresholds = np.arange(0, 0.901, 0.02).round(2)
    margins = np.arange(-0.5, 0.601, 0.02).round(2) if compare else np.array([-1.0])
    every = [(*seen.rates(t, m), t, m) for t in thresholds for m in margins]
    good = [entry for entry in every if entry[0] >= recall] or [max(every)]
    _, _, threshold, margin = min(good, key=lambda entry: (entry[1], -entry[0], entry[2], entry[3]))
    return float(threshold), float(margin)


def main(argv: Sequence[str] | None = None) -> int:
    """Choose, measure, and print a table."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listener", required=True, metavar="MODULE:ATTRIBUTE", help="as of filter_listener")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--wrong", choices=("here", "elsewhere"), default="here")
    parser.add_argument("--mirror", action="store_true", help="as of filter_listener")
    parser.add_argument("--recall", type=float, default=0.92, help="asked for where settings are chosen (%(default)s)")
    parser.add_argument("--choose", type=int, default=100, help="scenes on which they are chosen (%(default)s)")
    parser.add_argument("--measure", type=int, default=200, help="other scenes (%(default)s)")
    arguments = parser.parse_args(argv)
    values = {
        "stage": "filter_listener",
        "listener": arguments.listener,
        "weights": arguments.weights,
        "threshold": 0.0,
    }
    stage = read_recipe({"stages": [values]}).stages[0]
    stage.open()
    seen = judge(stage, planted(arguments.choose, wrong=arguments.wrong), arguments.choose)
    scenes = planted(arguments.measure, arguments.choose, wrong=arguments.wrong)
    other = judge(stage, scenes, arguments.measure)
    print(f"{len(seen.right)} captions to choose on; measured: {(~other.right).sum()} wrong, {other.right.sum()} right")
    print("| settings | threshold | margin | wrong dropped | right lost |\n|---|---|---|---|---|")
    chosen = {"plain": (0.5, -1.0), "threshold chosen": choose(seen, arguments.recall, compare=False),
              "both chosen": choose(seen, arguments.recall, compare=True)}  # fmt: skip
    for name, (threshold, margin) in chosen.items():
        dropped, lost = other.rates(threshold, margin)
        told = "none" if margin == -1 else f"{margin:g}"
        print(f"| {name} | {threshold:g} | {told} | {dropped:.3f} | {lost:.3f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
