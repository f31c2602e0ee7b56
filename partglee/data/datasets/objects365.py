"""Objects365 v2, as its own files are: 365 objects, boxes alone, crowds marked."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

SPECS = splits(
    DatasetSpec(
        name="objects365_v2_{split}",
        annotations="Objects365v2/annotations/zhiyuan_objv2_{split}.json",
        images="Objects365v2/{split}",
        reader=read_coco,
        supervises_parts=False,
        sampled_names=100,
        evaluator="coco",
        counts=Counts(object_names=365, part_names=0),
        options={"path_parts": 2},  # "images/v1/patch8/NAME.jpg" was unpacked to "patch8/NAME.jpg"
    ),
    train={"images": 1742292},
    val={"images": 80000},
)
