"""Filters that look at regions alone. A filter marks: the region stays in the catalogue, with the reason."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from partglee.annotate import masks
from partglee.annotate.columns import known_column
from partglee.annotate.sample import Region, Sample
from partglee.annotate.stage import Stage
from partglee.basics.names import name_key


class FilterSize(Stage):
    """Drops regions that are too small or too large: by their mask, or by their box where they have none.

    Args:
        min_pixels, max_pixels: area.
        min_share, max_share: of the image's area.
        min_side: pixels of the box's shorter side.
    """

    inputs = ("size", "region.box")

    def __init__(
        self,
        *,
        min_pixels: float = 1,
        max_pixels: float = float("inf"),
        min_share: float = 0.0,
        max_share: float = 1.0,
        min_side: float = 0.0,
    ) -> None:
        if not (min_pixels <= max_pixels and 0 <= min_share <= max_share):
            raise ValueError("expected min_pixels <= max_pixels and 0 <= min_share <= max_share")
        self.pixels, self.share, self.min_side = (min_pixels, max_pixels), (min_share, max_share), min_side

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            height, width = sample.size or (0, 0)
            for _, region in sample.kept():
                area = area_of(region)
                x0, y0, x1, y1 = region.box or (0.0, 0.0, 0.0, 0.0)
                share, side = area / max(height * width, 1), min(x1 - x0, y1 - y0)
                if not self.pixels[0] <= area <= self.pixels[1]:
                    region.dropped = f"{self.name}: {area:.0f} pixels"
                elif not self.share[0] <= share <= self.share[1]:
                    region.dropped = f"{self.name}: {share:.4f} of the image"
                elif side < self.min_side:
                    region.dropped = f"{self.name}: a side of {side:.1f} pixels"


def area_of(region: Region) -> float:
    """Pixels of the mask; of the box where there is none."""
    if region.mask is not None:
        return float(masks.areas([region.mask])[0])
    x0, y0, x1, y1 = region.box or (0.0, 0.0, 0.0, 0.0)
    return max(x1 - x0, 0.0) * max(y1 - y0, 0.0)


class FilterScore(Stage):
    """Drops regions whose score is below a threshold.

    Args:
        score: "" = the finder's own; else the name of a score that a stage before gave.
        threshold: the least that is kept.
        part_threshold: of parts; None = as for objects.
    """

    def __init__(self, *, score: str = "", threshold: float = 0.5, part_threshold: float | None = None) -> None:
        self.score, self.threshold = score, threshold
        self.part_threshold = threshold if part_threshold is None else part_threshold

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        column = f"region.scores.{self.score}" if self.score else "region.score"
        known_column(column)
        return (column,), ()

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            for _, region in sample.kept():
                value = region.scores[self.score] if self.score else float(region.score or 0.0)
                threshold = self.threshold if region.level == "object" else self.part_threshold
                if value < threshold:
                    region.dropped = f"{self.name}: {value:.3f} < {threshold:g}"


class FilterStability(FilterScore):
    """Drops regions whose mask changes when its box moves a little: `scores.stability` of the stage `masks`.

    Args:
        threshold: the least IoU that is kept.
    """

    def __init__(self, *, threshold: float = 0.8) -> None:
        super().__init__(score="stability", threshold=threshold)


class FilterDuplicates(Stage):
    """Of regions that are one thing twice, keeps the best score, and of equal ones the first. Parts of a dropped object
    become parts of the one that is kept.

    Args:
        iou: of the masks, from which on two are one; of the boxes where one has no mask.
        same_name: only regions of one name can be one thing.
    """

    inputs = ("region.box", "region.name")

    def __init__(self, *, iou: float = 0.9, same_name: bool = True) -> None:
        if not 0 < iou <= 1:
            raise ValueError(f"iou must be in 0..1, got {iou}")
        self.iou, self.same_name = iou, same_name

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            kept = list(sample.kept())
            order = sorted(range(len(kept)), key=lambda n: (-float(kept[n][1].score or 0.0), n))
            overlap = _overlaps([region for _, region in kept])
            winners: list[int] = []
            for n in order:
                number, region = kept[n]
                twin = next((w for w in winners if self._one_thing(kept[w][1], region, overlap[w, n])), None)
                if twin is None:
                    winners.append(n)
                    continue
                region.dropped = f"{self.name}: the same as region {kept[twin][0]} (IoU {overlap[twin, n]:.2f})"
                for _, other in kept:
                    if other.parent == number:
                        other.parent = kept[twin][0]

    def _one_thing(self, one: Region, two: Region, overlap: float) -> bool:
        named = not self.same_name or name_key(one.name) == name_key(two.name)
        return bool(overlap >= self.iou and one.level == two.level and named)


def _overlaps(regions: Sequence[Region]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(N, N) IoU, of masks where all have one."""
    if all(region.mask is not None for region in regions):
        every = [region.mask for region in regions if region.mask is not None]
        return masks.ious(every, every)
    from partglee.data.prepare.teachers import pair_iou

    boxes = np.array([region.box for region in regions], np.float64).reshape(-1, 4)
    return pair_iou(boxes, boxes)
