"""PACO-LVIS and PACO-EGO4D (Ramanathan et al., 2023): the official files as they come.

Parts carry their object's annotation id (`obj_ann_id`), attributes stay on the instances. Parts of one name of one
object are one instance. PACO-LVIS lies in COCO's images; the frames of EGO4D need its licence.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

_COUNTS = {  # images, objects, parts
    ("lvis", "train"): (45790, 217117, 395071),
    ("lvis", "val"): (2410, 10794, 20945),
    ("lvis", "test"): (9443, 45861, 86041),
    ("ego4d", "train"): (15667, 34835, 81528),
    ("ego4d", "val"): (825, 1816, 4240),
    ("ego4d", "test"): (9892, 21708, 53580),
}

_FILES = {f"paco_{source}_v1_{split}": (source, split) for source, split in _COUNTS}
_FILES["paco_joint_v1_train"] = ("lvis", "train")  # upstream's other name of the same file

for _name, (_source, _split) in _FILES.items():
    _images, _objects, _parts = _COUNTS[_source, _split]
    register(
        DatasetSpec(
            name=_name,
            annotations=f"paco/annotations/paco_{_source}_v1_{_split}.json",
            images="coco" if _source == "lvis" else "paco/images",
            reader=read_coco,
            vocabulary="paco",  # 75 objects, 456 parts, also where a file lists fewer categories
            evaluator="paco",
            counts=Counts(images=_images, objects=_objects, parts=_parts, object_names=75, part_names=456),
        )
    )
