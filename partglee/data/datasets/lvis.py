"""LVIS v1: 1,203 names on COCO images, as its own files are. Objects alone, federated; the files keep each name's
frequency ("r", "c", "f"), which its evaluator reads."""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

for _name, _file, _images, _annotations in (
    ("train", "lvis_v1_train", 100170, 1270141),
    ("val", "lvis_v1_val", 19809, 244707),
    ("minival", "lvis_v1_minival_inserted_image_name", 4809, None),  # images of val that lie in COCO's val2017
):
    register(
        DatasetSpec(
            name=f"lvis_v1_{_name}",
            annotations=f"lvis/{_file}.json",
            images="coco",  # file names have the folder of the COCO split
            reader=read_coco,
            supervises_parts=False,
            sampled_names=100,
            evaluator="lvis",
            counts=Counts(
                images=_images,
                objects=_annotations,
                object_names=1203,
                part_names=0,
                unconfirmed=("images",) if _name == "minival" else (),
            ),
        )
    )
