"""Car-Parts, as `datasets/prepare_car_parts.py` writes it. 400 photos, the last 40 for validation."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

SPECS = splits(
    DatasetSpec(
        name="car_parts_{split}",
        annotations="car_parts/{split}.json",
        images="car_parts/trainingset",
        reader=read_coco,
        # Other cars stand in the background of many photos and have no label. Inside the main car all parts with a name
        # are labelled.
        object_background="inside",
        part_background="inside",
        evaluator="hierarchical",
        counts=Counts(source="as the prepare script wrote them here"),
    ),
    train={"images": 360, "annotations": 3342},
    val={"images": 40, "annotations": 335},
)
