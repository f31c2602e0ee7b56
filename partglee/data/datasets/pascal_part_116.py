"""Pascal-Part-116 (OV-PARTS): the joint files of `datasets/prepare_pascal_part_116.py`, and the maps as they come."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts
from partglee.data.part_map_records import read_class_maps
from partglee.data.vocabulary_splits import split_vocabulary

_ROOT = "PascalPart116"
_IMAGES = {"train": 8431, "val": 850}

for _split, _count in _IMAGES.items():
    register(
        DatasetSpec(
            name=f"pascalvoc_joint_{_split}",
            annotations=f"{_ROOT}/pascalvoc_joint_{_split}.json",
            images=f"{_ROOT}/images/{_split}",
            reader=read_coco,
            vocabulary="pascal_part_116",
            evaluator="hierarchical",
            counts=Counts(images=_count, object_names=20, part_names=116, unconfirmed=("images",)),
        )
    )

register(
    DatasetSpec(
        name="pascalvoc_base_train",
        annotations=f"{_ROOT}/pascalvoc_base_train.json",  # 15 objects, 74 parts
        images=f"{_ROOT}/images/train",
        reader=read_coco,
        vocabulary=split_vocabulary("pascal_part_116", "base"),
        counts=Counts(images=_IMAGES["train"], object_names=15, part_names=74, unconfirmed=("images",)),
    )
)

for _split in _IMAGES:
    for _suffix, _by_object in (("", False), ("_obj_condition", True)):
        register(
            DatasetSpec(
                name=f"voc_obj_part_sem_seg_{_split}{_suffix}",
                annotations=f"{_ROOT}/annotations_detectron2_part/{_split}",
                images=f"{_ROOT}/images/{_split}",
                reader=read_class_maps,
                # Training sees the base names alone, as upstream.
                vocabulary=split_vocabulary("pascal_part_116", "base") if _split == "train" else "pascal_part_116",
                part_background="inside",
                evaluator="semantic_parts",
                counts=Counts(images=None if _by_object else _IMAGES[_split], unconfirmed=("images",)),
                needs=(f"{_ROOT}/annotations_detectron2_obj/{_split}",),
                options={
                    "objects": f"{_ROOT}/annotations_detectron2_obj/{_split}",
                    "labels": "pascal_part_116",
                    "ignore": 255,
                    "by_object": _by_object,
                },
            )
        )
