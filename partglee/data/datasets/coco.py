"""COCO 2017: the official files, and subsets joined by `datasets/prepare_coco.py`. Objects alone."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

_OFFICIAL = DatasetSpec(
    name="coco_2017_{split}",
    annotations="coco/annotations/instances_{split}2017.json",
    images="coco/{split}2017",
    reader=read_coco,
    supervises_parts=False,
    evaluator="coco",
    counts=Counts(object_names=80, part_names=0),
)
_SUBSET = DatasetSpec(
    name="coco_subset_{split}",
    annotations="coco/{split}.json",
    images="coco",
    reader=read_coco,
    supervises_parts=False,
    evaluator="joint",
)

SPECS = (
    *splits(_OFFICIAL, train={"images": 118287, "objects": 860001}, val={"images": 5000, "objects": 36781}),
    *splits(_SUBSET, train={}, val={}),
)
