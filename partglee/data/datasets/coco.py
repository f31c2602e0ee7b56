"""COCO 2017: the official files, and subsets joined by `datasets/prepare_coco.py`. Objects alone."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

for _split, _images, _annotations in (("train", 118287, 860001), ("val", 5000, 36781)):
    register(
        DatasetSpec(
            name=f"coco_2017_{_split}",
            annotations=f"coco/annotations/instances_{_split}2017.json",
            images=f"coco/{_split}2017",
            reader=read_coco,
            supervises_parts=False,
            evaluator="coco",
            counts=Counts(images=_images, objects=_annotations, object_names=80, part_names=0),
        )
    )
    register(
        DatasetSpec(
            name=f"coco_subset_{_split}",
            annotations=f"coco/{_split}.json",
            images="coco",
            reader=read_coco,
            supervises_parts=False,
            evaluator="joint",
        )
    )
