"""Pascal-Part: nested, as `datasets/prepare_pascal_part.py` writes it, and the files of Pascal-Part-93 (VLPart)."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts
from partglee.data.vocabulary_splits import split_vocabulary
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import read_builtin

_IMAGES = "pascal_part/VOCdevkit/VOC2010/JPEGImages"
_PARTS = dict(read_builtin("pascal_part").objects)  # type: ignore[arg-type]
_VOC = Vocabulary(  # 20 objects, 93 parts
    {name: _PARTS.get(name, ()) for name in read_builtin("voc").objects}, part_format="{object}:{part}"
)

for _split in ("train", "val"):
    register(
        DatasetSpec(
            name=f"pascal_part_nested_{_split}",
            annotations=f"pascal_part_nested/{_split}.json",
            images="pascal_part_nested/JPEGImages",
            reader=read_coco,
            evaluator="hierarchical",
        )
    )
    register(
        DatasetSpec(
            name=f"pascal_joint_{_split}",
            annotations=f"pascal_part/voc2010_{_split}_joint.json",
            images=_IMAGES,
            reader=read_coco,
            vocabulary=_VOC,
            evaluator="hierarchical",
            counts=Counts(object_names=20, part_names=93),
        )
    )

register(
    DatasetSpec(
        name="pascal_part_base_train",
        annotations="pascal_part/train_base_joint.json",  # 12 objects, 77 parts; bus and dog have no annotation
        images=_IMAGES,
        reader=read_coco,
        vocabulary=split_vocabulary("pascal_part", "base"),
        counts=Counts(object_names=12, part_names=77),
    )
)

for _name, _file, _base in (
    ("train", "train", False),
    ("train_one", "train_one", False),  # images of one object
    ("base_train_one", "train_base_one", True),
    ("base_train_parts", "train_base", True),  # VLPart's pascal_part_base_train; that name is PartGLEE's joint file
    ("val", "val", False),
    ("open_vocabulary_val", "val", False),  # the same file; the name of PartGLEE's cross-category table
):
    register(
        DatasetSpec(
            name=f"pascal_part_{_name}",
            annotations=f"pascal_part/{_file}.json",
            images=_IMAGES,
            reader=read_coco,
            vocabulary=split_vocabulary("pascal_part", "base") if _base else "pascal_part",
            supervises_objects=False,  # VLPart's files have parts alone
            evaluator="pascal_part" if _file == "val" else "",
            counts=Counts(object_names=0, part_names=77 if _base else 93),
        )
    )
