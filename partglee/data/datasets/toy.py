"""Toy scenes, as `partglee data toy` draws them. Endless ones without files: `partglee.testing.register_toy`."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import DatasetSpec, splits

SPECS = splits(
    DatasetSpec(
        name="toy_{split}",
        annotations="toy/{split}.json",
        images="toy",
        reader=read_coco,
        evaluator="hierarchical",
    ),
    train={},
    val={},
)
