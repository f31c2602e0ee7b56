"""Car-Parts, as `datasets/prepare_car_parts.py` writes it. 400 photos, the last 40 for validation."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

for _split, _images, _annotations in (("train", 360, 3342), ("val", 40, 335)):
    register(
        DatasetSpec(
            name=f"car_parts_{_split}",
            annotations=f"car_parts/{_split}.json",
            images="car_parts/trainingset",
            reader=read_coco,
            # Other cars stand in the background of many photos and have no label. Inside the main car all parts with
            # a name are labelled.
            object_background="inside",
            part_background="inside",
            evaluator="hierarchical",
            counts=Counts(images=_images, annotations=_annotations, source="as the prepare script wrote them here"),
        )
    )
