"""Which mask belongs to which: the mask tree of MGSC, and the two levels of hierarchical SA-1B. N masks of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.annotate import masks
from partglee.annotate.sample import Region, RunLengths, Sample
from partglee.annotate.stage import Stage
from partglee.basics.names import name_key


class Tree(NamedTuple):
    """What became of each of N masks."""

    same_as: list[int]  # (N,) the earlier mask that it repeats; itself where it is new
    parent: list[int]  # (N,) the smallest mask that holds it, -1 for the root
    merged_into: list[int]  # (N,) the first sibling of its name; itself where it is that one


def mask_tree(names: Sequence[str], shapes: Sequence[RunLengths], *, same: float = 0.9, inside: float = 0.9) -> Tree:
    """The tree of an image's masks (MGLMM, arXiv 2409.13407, whose thresholds are not published; ours).

    A mask with an IoU of `same` or more with an earlier one repeats it. The parent is the smallest larger mask that
    holds `inside` of it. Siblings of one name (case and white space do not count) are one, from the root downwards, so
    that children of two masks that became one are siblings too.

    Returns:
        Parents are of masks before siblings became one; follow `merged_into` for the node.
    """
    count = len(shapes)
    area, shared = masks.areas(shapes), masks.intersections(shapes, shapes)
    same_as = list(range(count))
    for n in range(count):
        unions = area[n] + area[:n] - shared[n, :n]
        twins = [m for m in range(n) if same_as[m] == m and unions[m] > 0 and shared[n, m] >= same * unions[m]]
        same_as[n] = twins[0] if twins else n
    new = [n for n in range(count) if same_as[n] == n]
    parent = [-1] * count
    for n in new:
        holders = [m for m in new if area[m] > area[n] > 0 and shared[n, m] >= inside * area[n]]
        parent[n] = min(holders, key=lambda m: area[m]) if holders else -1
    merged_into = list(range(count))
    groups: dict[tuple[int, str], int] = {}
    for n in sorted(new, key=lambda n: (_depth(n, parent), n)):  # parents come before their children
        above = merged_into[parent[n]] if parent[n] >= 0 else -1
        merged_into[n] = groups.setdefault((above, name_key(names[n])), n)
    return Tree(same_as, parent, merged_into)


def _depth(n: int, parent: Sequence[int]) -> int:
    depth = 0
    while parent[n] >= 0:
        n, depth = parent[n], depth + 1
    return depth


class MaskTree(Stage):
    """Parents by inclusion; repeated masks are dropped, siblings of one name united in the first of them.

    Regions under the root are objects, those below them parts.

    Args:
        same: IoU from which on a later mask repeats an earlier one.
        inside: share of a mask that its parent holds.
    """

    inputs = ("region.mask", "region.name")
    outputs = ("region.parent", "region.level", "region.box")

    def __init__(self, *, same: float = 0.9, inside: float = 0.9) -> None:
        if not (0 < same <= 1 and 0.5 < inside <= 1):
            raise ValueError(f"expected 0 < same <= 1 and 0.5 < inside <= 1, got {same} and {inside}")
        self.same, self.inside = same, inside

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            kept = list(sample.kept())
            shapes = [region.mask for _, region in kept if region.mask is not None]
            names = [region.name for _, region in kept]
            tree = mask_tree(names, shapes, same=self.same, inside=self.inside)
            number = [number for number, _ in kept]
            for n, (_, region) in enumerate(kept):
                if tree.same_as[n] != n:
                    region.dropped = f"{self.name}: the same as region {number[tree.same_as[n]]}"
                    continue
                if tree.merged_into[n] != n:
                    region.dropped = f"{self.name}: merged into region {number[tree.merged_into[n]]}"
                    continue
                above = tree.parent[n]
                region.parent = number[tree.merged_into[above]] if above >= 0 else -1
                region.level = "object" if above < 0 else "part"
                members = [shapes[m] for m in range(len(kept)) if tree.same_as[m] == m and tree.merged_into[m] == n]
                if len(members) > 1:
                    region.mask = masks.union(members)
                region.box = masks.box_of(region.mask or members[0])


class Levels(Stage):
    """Objects and parts by overlap alone, as PartGLEE sorts SA-1B's masks; see `partglee.data.prepare.sa1b.hierarchy`.

    Args:
        step: masks are compared at every so many pixels (released: 8).
        rename: call regions `object` and `part`, as the data set does; their names go to the caption where none is.
    """

    inputs = ("size", "region.mask")
    outputs = ("region.level", "region.parent", "region.name")

    def __init__(self, *, step: int = 8, rename: bool = True) -> None:
        if step < 1:
            raise ValueError(f"step must be at least 1, got {step}")
        self.step, self.rename = step, rename

    def run(self, samples: Sequence[Sample]) -> None:
        from partglee.data.prepare.sa1b import hierarchy

        for sample in samples:
            kept = list(sample.kept())
            shapes = [region.mask for _, region in kept if region.mask is not None]
            small = np.stack([self._shrink(mask) for mask in shapes]) if shapes else np.zeros((0, 1, 1), bool)
            levels = hierarchy(small, masks.areas(shapes) if shapes else [])
            for n, (_, region) in enumerate(kept):
                above = int(levels.parent[n])
                region.level = "part" if levels.is_part[n] else "object"
                region.parent = kept[above][0] if above >= 0 else -1
                if self.rename:
                    self._rename(region)

    def _shrink(self, mask: RunLengths) -> NDArray[np.bool_]:
        height, width = mask["size"]
        step = min(self.step, height, width)
        return masks.decode(mask)[::step, ::step][: height // step, : width // step]

    @staticmethod
    def _rename(region: Region) -> None:
        if region.caption is None and region.name not in ("object", "part"):
            region.caption = region.name
        region.name = region.level
