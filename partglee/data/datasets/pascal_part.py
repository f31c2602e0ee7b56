"""Pascal-Part: nested, as `datasets/prepare_pascal_part.py` writes it, and the files of Pascal-Part-93 (VLPart)."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import read_builtin

_PART_NAMES = dict(read_builtin("pascal_part").objects)  # type: ignore[arg-type]
_VOC = Vocabulary(  # 20 objects, 93 parts
    {name: _PART_NAMES.get(name, ()) for name in read_builtin("voc").objects}, part_format="{object}:{part}"
)
_BASE = Vocabulary.builtin("pascal_part", split="base")  # 12 objects, 77 parts

_NESTED = DatasetSpec(
    name="pascal_part_nested_{split}",
    annotations="pascal_part_nested/{split}.json",
    images="pascal_part_nested/JPEGImages",
    reader=read_coco,
    evaluator="hierarchical",
)
_JOINT = DatasetSpec(
    name="pascal_joint_{split}",
    annotations="pascal_part/voc2010_{split}_joint.json",
    images="pascal_part/VOCdevkit/VOC2010/JPEGImages",
    reader=read_coco,
    vocabulary=_VOC,
    evaluator="hierarchical",
    counts=Counts(object_names=20, part_names=93),
)
_BASE_JOINT = replace(
    _JOINT,
    name="pascal_part_base_train",
    annotations="pascal_part/train_base_joint.json",  # bus and dog have no annotation
    vocabulary=_BASE,
    evaluator="",
    counts=Counts(object_names=12, part_names=77),
)
_PARTS = DatasetSpec(
    name="pascal_part_{split}",
    annotations="pascal_part/{split}.json",
    images=_JOINT.images,
    reader=read_coco,
    vocabulary="pascal_part",
    supervises_objects=False,  # VLPart's files have parts alone
    counts=Counts(object_names=0, part_names=93),
)
_BASE_PARTS = replace(_PARTS, vocabulary=_BASE, counts=Counts(object_names=0, part_names=77))
_VAL = replace(_PARTS, annotations="pascal_part/val.json", evaluator="pascal_part")

SPECS = (
    *splits(_NESTED, train={}, val={}),
    *splits(_JOINT, train={}, val={}),
    _BASE_JOINT,
    *splits(_PARTS, train={}, train_one={}),  # train_one: images of one object
    replace(_BASE_PARTS, name="pascal_part_base_train_one", annotations="pascal_part/train_base_one.json"),
    # VLPart's pascal_part_base_train; that name is PartGLEE's joint file.
    replace(_BASE_PARTS, name="pascal_part_base_train_parts", annotations="pascal_part/train_base.json"),
    *splits(_VAL, val={}, open_vocabulary_val={}),  # the same file; the latter: PartGLEE's cross-category table
)
