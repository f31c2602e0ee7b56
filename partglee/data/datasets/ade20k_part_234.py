"""ADE20K-Part-234 (OV-PARTS): the joint files of `datasets/prepare_ade20k_part_234.py`, and the maps as they come."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.part_map_records import read_instance_maps
from partglee.data.spec import Counts, DatasetSpec
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import read_builtin

_ROOT = "ADE20KPart234"
_FOLDERS = {"train": "training", "val": "validation"}
_BASE = Vocabulary.builtin("ade20k_part_234", split="base")  # 33 objects, 176 parts


def _joint(split: str, images: int) -> DatasetSpec:
    return DatasetSpec(
        name=f"ade20k_joint_{split}",
        annotations=f"{_ROOT}/ade20k_joint_{split}.json",
        images=f"{_ROOT}/images/{_FOLDERS[split]}",
        reader=read_coco,
        vocabulary="ade20k_part_234",
        part_background="inside",  # objects of other classes have parts that nobody labelled here
        evaluator="hierarchical",
        counts=Counts(images=images, object_names=44, part_names=234, unconfirmed=("images",)),
    )


def _source(split: str, objects: str) -> tuple[str, str, str, str]:
    folder = _FOLDERS[split]
    return (
        f"{_ROOT}/ade20k_instance_{split}.json",
        f"{_ROOT}/images/{folder}",
        f"{_ROOT}/annotations_detectron2_part/{folder}",
        objects,
    )


_TRAIN_JOINT = _joint("train", 7347)
_BASE_JOINT = replace(
    _TRAIN_JOINT,
    name="ade20k_base_train",
    annotations=f"{_ROOT}/ade20k_base_train.json",
    vocabulary=_BASE,
    evaluator="",
    counts=replace(_TRAIN_JOINT.counts, object_names=33, part_names=176),
)

# The test set of the benchmark: every object of the validation images and every novel object of the training images.
_TEST = (_source("val", "all"), _source("train", "novel"))
_TRAIN = (_source("train", "all"),)

_MAPS = tuple(
    DatasetSpec(
        name=f"{prefix}_{name}",
        annotations=sources[0][0],
        images=sources[0][1],  # of the first source; each has its own
        reader=read_instance_maps,
        vocabulary=_BASE if sources is _TRAIN else "ade20k_part_234",  # training sees the base names alone
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
        ("train", _TRAIN, False),
        ("train_obj_condition", _TRAIN, True),
        ("val", _TEST, False),  # whole images: Pred-All
        ("val_obj_condition", _TEST, True),  # Oracle-Obj
    )
    for prefix in ("ade_obj_part_sem_seg", "ade_obj_part")  # OV-PARTS' name and PartGLEE's
)

SPECS = (_TRAIN_JOINT, _joint("val", 1016), _BASE_JOINT, *_MAPS)
