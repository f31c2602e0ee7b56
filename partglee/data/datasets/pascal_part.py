"""PASCAL-Part with its nesting, as `datasets/prepare_pascal_part.py` writes it. VLPart's flat files are others."""

from __future__ import annotations

from partglee.data.catalog import DatasetSpec, register
from partglee.data.coco_json import read_coco

for _split in ("train", "val"):
    register(
        DatasetSpec(
            name=f"pascal_part_nested_{_split}",
            annotations=f"pascal_part_nested/{_split}.json",
            images="pascal_part_nested/JPEGImages",
            reader=read_coco,
            evaluator="hierarchical",
        )
    )
