"""Clothing Co-Parsing, as `datasets/prepare_clothing.py` writes it from the photos that have labels for every pixel."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import DatasetSpec, splits

SPECS = splits(
    DatasetSpec(
        name="clothing_{split}",
        annotations="clothing/{split}.json",
        images="clothing",
        reader=read_coco,
        object_background="inside",  # bystanders and their bags have no label
        part_background="inside",
        evaluator="hierarchical",
    ),
    train={},
    val={},
)
