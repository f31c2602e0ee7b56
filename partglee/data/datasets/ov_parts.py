"""The benchmarks of OV-PARTS, Pascal-Part-116 and ADE20K-Part-234: the joint files that the prepare scripts write, and
the maps as they come."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.part_map_records import read_class_maps, read_instance_maps
from partglee.data.spec import Counts, DatasetSpec, splits
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import read_builtin

# -- Pascal-Part-116: maps of object classes and of parts ------------------------------------------------------------

_PASCAL = "PascalPart116"
_PASCAL_IMAGES = {"train": 8431, "val": 850}
_PASCAL_BASE = Vocabulary.builtin("pascal_part_116", split="base")  # 15 objects, 74 parts

_PASCAL_JOINT = DatasetSpec(
    name="pascalvoc_joint_{split}",
    annotations=f"{_PASCAL}/pascalvoc_joint_{{split}}.json",
    images=f"{_PASCAL}/images/{{split}}",
    reader=read_coco,
    vocabulary="pascal_part_116",
    evaluator="joint",
    counts=Counts(object_names=20, part_names=116, unconfirmed=("images",)),
)
_PASCAL_BASE_JOINT = replace(
    _PASCAL_JOINT,
    name="pascalvoc_base_{split}",
    annotations=f"{_PASCAL}/pascalvoc_base_{{split}}.json",
    vocabulary=_PASCAL_BASE,
    evaluator="",
    counts=Counts(object_names=15, part_names=74, unconfirmed=("images",)),
)

_PASCAL_SPECS = (
    *splits(_PASCAL_JOINT, train={"images": _PASCAL_IMAGES["train"]}, val={"images": _PASCAL_IMAGES["val"]}),
    *splits(_PASCAL_BASE_JOINT, train={"images": _PASCAL_IMAGES["train"]}),
    *(
        DatasetSpec(
            name=f"voc_obj_part_sem_seg_{split}{suffix}",
            annotations=f"{_PASCAL}/annotations_detectron2_part/{split}",
            images=f"{_PASCAL}/images/{split}",
            reader=read_class_maps,
            vocabulary=_PASCAL_BASE if split == "train" else "pascal_part_116",  # training sees the base names alone
            part_background="inside",
            evaluator="semantic_parts",
            counts=Counts(images=None if by_object else images, unconfirmed=("images",)),
            needs=(f"{_PASCAL}/annotations_detectron2_obj/{split}",),
            options={
                "objects": f"{_PASCAL}/annotations_detectron2_obj/{split}",
                "labels": "pascal_part_116",
                "ignore": 255,
                "by_object": by_object,
            },
        )
        for split, images in _PASCAL_IMAGES.items()
        for suffix, by_object in (("", False), ("_obj_condition", True))
    ),
)

# -- ADE20K-Part-234: instances beside maps of parts -----------------------------------------------------------------

_ADE = "ADE20KPart234"
_ADE_FOLDERS = {"train": "training", "val": "validation"}
_ADE_BASE = Vocabulary.builtin("ade20k_part_234", split="base")  # 33 objects, 176 parts


def _ade_joint(split: str, images: int) -> DatasetSpec:
    return DatasetSpec(
        name=f"ade20k_joint_{split}",
        annotations=f"{_ADE}/ade20k_joint_{split}.json",
        images=f"{_ADE}/images/{_ADE_FOLDERS[split]}",
        reader=read_coco,
        vocabulary="ade20k_part_234",
        part_background="inside",  # objects of other classes have parts that nobody labelled here
        evaluator="joint",
        counts=Counts(images=images, object_names=44, part_names=234, unconfirmed=("images",)),
    )


def _ade_source(split: str, objects: str) -> tuple[str, str, str, str]:
    folder = _ADE_FOLDERS[split]
    return (
        f"{_ADE}/ade20k_instance_{split}.json",
        f"{_ADE}/images/{folder}",
        f"{_ADE}/annotations_detectron2_part/{folder}",
        objects,
    )


_ADE_TRAIN_JOINT = _ade_joint("train", 7347)
_ADE_BASE_JOINT = replace(
    _ADE_TRAIN_JOINT,
    name="ade20k_base_train",
    annotations=f"{_ADE}/ade20k_base_train.json",
    vocabulary=_ADE_BASE,
    evaluator="",
    counts=replace(_ADE_TRAIN_JOINT.counts, object_names=33, part_names=176),
)

# The test set of the benchmark: every object of the validation images and every novel object of the training images.
_ADE_TEST = (_ade_source("val", "all"), _ade_source("train", "novel"))
_ADE_TRAIN = (_ade_source("train", "all"),)

_ADE_MAPS = tuple(
    DatasetSpec(
        name=f"{prefix}_{name}",
        annotations=sources[0][0],
        images=sources[0][1],  # of the first source; each has its own
        reader=read_instance_maps,
        vocabulary=_ADE_BASE if sources is _ADE_TRAIN else "ade20k_part_234",  # training sees the base names alone
        part_background="inside",
        evaluator="semantic_parts",
        needs=tuple(path for source in sources for path in source[:3])[2:],
        options={
            "sources": sources,
            "object_names": tuple(sorted(read_builtin("ade20k_part_234").objects)),
            "labels": "ade20k_part_234",
            "ignore": 65535,
            "by_object": by_object,
        },
    )
    for name, sources, by_object in (
        ("train", _ADE_TRAIN, False),
        ("train_obj_condition", _ADE_TRAIN, True),
        ("val", _ADE_TEST, False),  # whole images: Pred-All
        ("val_obj_condition", _ADE_TEST, True),  # Oracle-Obj
    )
    for prefix in ("ade_obj_part_sem_seg", "ade_obj_part")  # OV-PARTS' name and PartGLEE's
)

SPECS = (*_PASCAL_SPECS, _ADE_TRAIN_JOINT, _ade_joint("val", 1016), _ADE_BASE_JOINT, *_ADE_MAPS)
