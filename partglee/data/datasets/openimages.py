"""Open Images, as `datasets/prepare_openimages.py` writes it: 588 objects and 13 parts of the human body, boxes alone.

Federated: an image supervises the names that were verified for it, found or not.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

SPECS = splits(
    DatasetSpec(
        name="openimage_joint_{split}",
        annotations="openimages/annotations/openimage_joint_{split}.json",
        images="openimages",
        reader=read_coco,
        evaluator="federated",
        sampled_names=100,
        counts=Counts(object_names=588, part_names=13),
    ),
    train={"images": 1743042, "annotations": 14610229},
    val={"images": 41620, "annotations": 303980},
)
