"""A data set whose annotations lie in several files of one folder, each read and cached by itself."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from partglee.data.annotations.coco_json import CocoRecords, read_coco
from partglee.data.records import ImageRecord
from partglee.data.spec import DatasetSpec


def read_shards(spec: DatasetSpec) -> ShardRecords:
    """All `*.json` files of the folder `spec.annotations`, in order of their names; `spec.select` of each.

    Raises:
        ValueError: when the folder holds none, one is malformed, or their names differ.
    """
    files = sorted(spec.annotation_path.glob("*.json"))
    if not files:
        raise ValueError(
            f"data set {spec.name!r}: no annotation file '{spec.annotation_path}/*.json'; datasets/README.md says how "
            "to get or prepare it"
        )
    shards = [read_coco(replace(spec, annotations=str(file.absolute()))) for file in files]
    for file, shard in zip(files, shards, strict=True):
        if shard.vocabulary != shards[0].vocabulary:
            raise ValueError(f"data set {spec.name!r}: '{file}' has other categories than '{files[0]}'")
    return ShardRecords(shards)


class ShardRecords:
    """The shards one after the other.

    Args:
        shards: at least one, all of one vocabulary.
    """

    def __init__(self, shards: Sequence[CocoRecords]) -> None:
        self.shards = tuple(shards)
        self.vocabulary = self.shards[0].vocabulary
        self._starts = [0, *accumulate(map(len, self.shards))]

    @property
    def issues(self) -> Mapping[str, int]:
        """As of `CocoRecords`, over all shards."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.issues)
        return total

    def counts(self) -> dict[str, int]:
        """As of `CocoRecords`, over all shards, which have the same names."""
        total: Counter[str] = Counter()
        for shard in self.shards:
            total.update(shard.counts())
        first = self.shards[0].counts()
        return {what: first[what] if "names" in what else count for what, count in total.items()}

    def learnable(self) -> tuple[tuple[int, int], dict[str, int]]:
        """As of `CocoRecords`, over all shards."""
        objects, parts, lost = 0, 0, Counter[str]()
        for shard in self.shards:
            (some_objects, some_parts), reasons = shard.learnable()
            objects, parts = objects + some_objects, parts + some_parts
            lost.update(reasons)
        return (objects, parts), lost

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> ImageRecord:
        shard, place = self._find(index)
        return shard[place]

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) of the file; (0, 0) where it does not say."""
        shard, place = self._find(index)
        return shard.size(place)

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object and part labels that an image has instances of."""
        shard, place = self._find(index)
        return shard.labels(place)

    def _find(self, index: int) -> tuple[CocoRecords, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        shard = bisect_right(self._starts, index) - 1
        return self.shards[shard], index - self._starts[shard]
