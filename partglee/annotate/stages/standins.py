"""Stages that stand in for models, so that the engine can be measured by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence

from partglee.annotate.sample import Region, Sample
from partglee.annotate.stage import Stage


class Sleep(Stage):
    """Takes its time and gives nothing.

    Args:
        seconds: for each image.
    """

    def __init__(self, *, seconds: float = 0.05) -> None:
        if not 0 <= seconds < 3600:
            raise ValueError(f"seconds must be at least 0 and below an hour, got {seconds}")
        self.seconds = seconds

    def run(self, samples: Sequence[Sample]) -> None:
        time.sleep(self.seconds * len(samples))


class Invent(Stage):
    """Regions of chance: boxes with names, scores and captions, the same for an image whoever works on it.

    Args:
        regions: of each image.
    """

    inputs = ("size",)
    outputs = ("region.box", "region.name", "region.level", "region.score", "region.caption")

    def __init__(self, *, regions: int = 2) -> None:
        if regions < 0:
            raise ValueError(f"regions must be at least 0, got {regions}")
        self.regions = regions

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            chance = sample.random(self.name)
            for number in range(self.regions):
                x0, y0, x1, y1 = (float(value) for value in chance.random(4))
                box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
                score, name = float(chance.random()), f"thing {int(chance.integers(100))}"
                sample.regions.append(Region(name=name, box=box, score=score, caption=f"{name} number {number}"))
