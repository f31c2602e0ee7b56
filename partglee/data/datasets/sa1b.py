"""SA-1B with levels, as `datasets/prepare_sa1b.py` writes it: a file for each tar. Class-agnostic: "object", "part"."""

from __future__ import annotations

from partglee.data.annotations.shards import read_shards
from partglee.data.spec import Counts, DatasetSpec

SPECS = (
    DatasetSpec(
        name="sa1b_joint",
        annotations="SA1B/annotations",
        images="SA1B/images",
        reader=read_shards,
        counts=Counts(images=559300, annotations=25875267, object_names=1, part_names=1),  # the first 50 tars
    ),
)
