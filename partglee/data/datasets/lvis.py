"""LVIS v1: 1,203 names on COCO images, as its own files are. Objects alone, federated; the files keep each name's
frequency ("r", "c", "f"), which its evaluator reads."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, splits

_FILES = DatasetSpec(
    name="lvis_v1_{split}",
    annotations="lvis/lvis_v1_{split}.json",
    images="coco",  # file names have the folder of the COCO split
    reader=read_coco,
    supervises_parts=False,
    sampled_names=100,
    evaluator="lvis",
    counts=Counts(object_names=1203, part_names=0),
)
# Images of val that lie in COCO's val2017.
_MINIVAL = replace(_FILES, annotations="lvis/lvis_v1_minival_inserted_image_name.json")

SPECS = (
    *splits(_FILES, train={"images": 100170, "objects": 1270141}, val={"images": 19809, "objects": 244707}),
    *splits(_MINIVAL, minival={"images": 4809, "unconfirmed": ("images",)}),
)
