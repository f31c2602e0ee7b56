"""PartImageNet as `datasets/prepare_partimagenet.py` writes it; VLPart's `{train,val}_format.json` are read as well.

Published numbers are of the validation split of the original release; no two of its splits share an ImageNet class.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

for _split, _images in (("train", 16540), ("val", 2957), ("test", 4598)):
    register(
        DatasetSpec(
            name=f"partimagenet_{_split}",
            annotations=f"partimagenet/{_split}_format.json",
            images=f"partimagenet/{_split}",
            reader=read_coco,
            vocabulary="partimagenet",
            supervises_objects=False,
            evaluator="partimagenet",
            counts=Counts(images=_images, object_names=0, part_names=40),
        )
    )
    register(
        DatasetSpec(
            name=f"partimagenet_joint_{_split}",
            annotations=f"partimagenet/partimagenet_{_split}_joint.json",
            images=f"partimagenet/{_split}",
            reader=read_coco,
            vocabulary="partimagenet",
            # One object is annotated in each picture; others of its kind may stand beside it.
            object_background="inside",
            part_background="inside",
            evaluator="hierarchical",
            counts=Counts(images=_images, object_names=11, part_names=40),
        )
    )

for _split, _images in (("train", 20481), ("val", 1206), ("test", 2408)):
    register(
        DatasetSpec(
            name=f"partimagenet_seg_{_split}",
            annotations=f"PartImageNet_Seg/{_split}_joint.json",
            images="PartImageNet_Seg/images",
            reader=read_coco,
            vocabulary="partimagenet",
            object_background="inside",
            part_background="inside",
            evaluator="hierarchical",
            counts=Counts(
                images=_images, object_names=11, part_names=40, unconfirmed=() if _split == "val" else ("images",)
            ),
        )
    )
