"""PartImageNet as `datasets/prepare_partimagenet.py` writes it; VLPart's `{train,val}_format.json` are read as well.

Published numbers are of the validation split of the original release; no two of its splits share an ImageNet class.
"""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

_PARTS = DatasetSpec(
    name="partimagenet_{split}",
    annotations="partimagenet/{split}_format.json",
    images="partimagenet/{split}",
    reader=read_coco,
    vocabulary="partimagenet",
    supervises_objects=False,
    evaluator="partimagenet",
    counts=Counts(object_names=0, part_names=40),
)
_JOINT = DatasetSpec(
    name="partimagenet_joint_{split}",
    annotations="partimagenet/partimagenet_{split}_joint.json",
    images="partimagenet/{split}",
    reader=read_coco,
    vocabulary="partimagenet",
    # One object is annotated in each picture; others of its kind may stand beside it.
    object_background="inside",
    part_background="inside",
    evaluator="hierarchical",
    counts=Counts(object_names=11, part_names=40),
)
_SEG = replace(
    _JOINT,
    name="partimagenet_seg_{split}",
    annotations="PartImageNet_Seg/{split}_joint.json",
    images="PartImageNet_Seg/images",
)
_ORIGINAL = {"train": {"images": 16540}, "val": {"images": 2957}, "test": {"images": 4598}}

SPECS = (
    *splits(_PARTS, **_ORIGINAL),
    *splits(_JOINT, **_ORIGINAL),
    *splits(
        _SEG,
        train={"images": 20481, "unconfirmed": ("images",)},
        val={"images": 1206},
        test={"images": 2408, "unconfirmed": ("images",)},
    ),
)
