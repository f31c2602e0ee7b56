"""Open Images, as `datasets/prepare_openimages.py` writes it: 588 objects and 13 parts of the human body, boxes alone.

Federated: an image supervises the names that were verified for it, found or not.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

for _name, _images, _annotations in (("train", 1743042, 14610229), ("val", 41620, 303980)):
    register(
        DatasetSpec(
            name=f"openimage_joint_{_name}",
            annotations=f"openimages/annotations/openimage_joint_{_name}.json",
            images="openimages",
            reader=read_coco,
            evaluator="federated",
            sampled_names=100,
            counts=Counts(images=_images, annotations=_annotations, object_names=588, part_names=13),
        )
    )
