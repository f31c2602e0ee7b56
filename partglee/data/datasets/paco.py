"""PACO-LVIS and PACO-EGO4D (Ramanathan et al., 2023): the official files as they come.

Parts carry their object's annotation id (`obj_ann_id`), attributes stay on the instances. Parts of one name of one
object are one instance. PACO-LVIS lies in COCO's images; the frames of EGO4D need its licence.
"""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

_LVIS = DatasetSpec(
    name="paco_lvis_v1_{split}",
    annotations="paco/annotations/paco_lvis_v1_{split}.json",
    images="coco",
    reader=read_coco,
    vocabulary="paco",  # 75 objects, 456 parts, also where a file lists fewer categories
    evaluator="paco",
    counts=Counts(object_names=75, part_names=456),
)
_EGO4D = replace(
    _LVIS,
    name="paco_ego4d_v1_{split}",
    annotations="paco/annotations/paco_ego4d_v1_{split}.json",
    images="paco/images",
)
_LVIS_SPECS = splits(
    _LVIS,
    train={"images": 45790, "objects": 217117, "parts": 395071},
    val={"images": 2410, "objects": 10794, "parts": 20945},
    test={"images": 9443, "objects": 45861, "parts": 86041},
)

SPECS = (
    *_LVIS_SPECS,
    replace(_LVIS_SPECS[0], name="paco_joint_v1_train"),  # upstream's other name of the same file
    *splits(
        _EGO4D,
        train={"images": 15667, "objects": 34835, "parts": 81528},
        val={"images": 825, "objects": 1816, "parts": 4240},
        test={"images": 9892, "objects": 21708, "parts": 53580},
    ),
)
