"""Pascal-Part-116 (OV-PARTS): the joint files of `datasets/prepare_pascal_part_116.py`, and the maps as they come."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.part_map_records import read_class_maps
from partglee.data.spec import Counts, DatasetSpec, splits
from partglee.structures import Vocabulary

_ROOT = "PascalPart116"
_IMAGES = {"train": 8431, "val": 850}
_BASE = Vocabulary.builtin("pascal_part_116", split="base")  # 15 objects, 74 parts

_JOINT = DatasetSpec(
    name="pascalvoc_joint_{split}",
    annotations=f"{_ROOT}/pascalvoc_joint_{{split}}.json",
    images=f"{_ROOT}/images/{{split}}",
    reader=read_coco,
    vocabulary="pascal_part_116",
    evaluator="hierarchical",
    counts=Counts(object_names=20, part_names=116, unconfirmed=("images",)),
)
_BASE_JOINT = replace(
    _JOINT,
    name="pascalvoc_base_{split}",
    annotations=f"{_ROOT}/pascalvoc_base_{{split}}.json",
    vocabulary=_BASE,
    evaluator="",
    counts=Counts(object_names=15, part_names=74, unconfirmed=("images",)),
)

SPECS = (
    *splits(_JOINT, train={"images": _IMAGES["train"]}, val={"images": _IMAGES["val"]}),
    *splits(_BASE_JOINT, train={"images": _IMAGES["train"]}),
    *(
        DatasetSpec(
            name=f"voc_obj_part_sem_seg_{split}{suffix}",
            annotations=f"{_ROOT}/annotations_detectron2_part/{split}",
            images=f"{_ROOT}/images/{split}",
            reader=read_class_maps,
            vocabulary=_BASE if split == "train" else "pascal_part_116",  # training sees the base names alone
            part_background="inside",
            evaluator="semantic_parts",
            counts=Counts(images=None if by_object else images, unconfirmed=("images",)),
            needs=(f"{_ROOT}/annotations_detectron2_obj/{split}",),
            options={
                "objects": f"{_ROOT}/annotations_detectron2_obj/{split}",
                "labels": "pascal_part_116",
                "ignore": 255,
                "by_object": by_object,
            },
        )
        for split, images in _IMAGES.items()
        for suffix, by_object in (("", False), ("_obj_condition", True))
    ),
)
