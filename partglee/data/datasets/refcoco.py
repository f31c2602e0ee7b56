"""RefCOCO, RefCOCO+ and RefCOCOg, as `datasets/prepare_refcoco.py` writes them: one entry for each referred object.

Files of other converters with one object and its `expressions` in each image entry are read too.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import DatasetSpec, splits

REFS = {  # referred objects of each split
    "refcoco-unc": {"train": 42404, "val": 3811, "testA": 1975, "testB": 1810},
    "refcocoplus-unc": {"train": 42278, "val": 3805, "testA": 1975, "testB": 1798},
    "refcocog-umd": {"train": 42226, "val": 2573, "test": 5023},
    "refcocog-google": {"train": 44822, "val": 5000},
}

SPECS = tuple(
    spec
    for name, refs in REFS.items()
    for spec in splits(
        DatasetSpec(
            name=f"{name}-{{split}}",
            annotations=f"annotations/{name}/instances_{{split}}.json",
            images="coco/train2014",
            reader=read_coco,
            supervises_parts=False,
            evaluator="referring",
        ),
        # An image entry for each referred object.
        **{split: {"images": count, "objects": count} for split, count in refs.items()},
    )
)
