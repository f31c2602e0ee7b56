"""Toy scenes, as `partglee data toy` draws them. Endless ones without files: `partglee.testing.register_toy`."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register

for _split in ("train", "val"):
    register(
        DatasetSpec(
            name=f"toy_{_split}",
            annotations=f"toy/{_split}.json",
            images="toy",
            reader=read_coco,
            evaluator="hierarchical",
        )
    )
