"""Objects365 v2, as its own files are: 365 objects, boxes alone, crowds marked."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

for _split, _images in (("train", 1742292), ("val", 80000)):
    register(
        DatasetSpec(
            name=f"objects365_v2_{_split}",
            annotations=f"Objects365v2/annotations/zhiyuan_objv2_{_split}.json",
            images=f"Objects365v2/{_split}",
            reader=read_coco,
            supervises_parts=False,
            sampled_names=100,
            evaluator="coco",
            counts=Counts(images=_images, object_names=365, part_names=0),
            options={"path_parts": 2},  # "images/v1/patch8/NAME.jpg" was unpacked to "patch8/NAME.jpg"
        )
    )
