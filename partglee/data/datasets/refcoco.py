"""RefCOCO, RefCOCO+ and RefCOCOg, as `datasets/prepare_refcoco.py` writes them: one entry for each referred object.

Files of other converters with one object and its `expressions` in each image entry are read too.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import DatasetSpec, register
from partglee.data.counts import Counts

REFS = {  # referred objects of each split
    "refcoco-unc": {"train": 42404, "val": 3811, "testA": 1975, "testB": 1810},
    "refcocoplus-unc": {"train": 42278, "val": 3805, "testA": 1975, "testB": 1798},
    "refcocog-umd": {"train": 42226, "val": 2573, "test": 5023},
    "refcocog-google": {"train": 44822, "val": 5000},
}

for _name, _splits in REFS.items():
    for _split, _count in _splits.items():
        register(
            DatasetSpec(
                name=f"{_name}-{_split}",
                annotations=f"annotations/{_name}/instances_{_split}.json",
                images="coco/train2014",
                reader=read_coco,
                supervises_parts=False,
                evaluator="referring",
                counts=Counts(images=_count, objects=_count),  # an image entry for each referred object
            )
        )
