"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO, as `datasets/prepare_refcoco.py` writes them: an entry for each image;
RefCOCOm as it comes.

Files of other converters with one object and its `expressions` in each image entry are read too.
"""

from __future__ import annotations

from partglee.data.annotations.coco_json import read_coco
from partglee.data.refcocom import read_refcocom
from partglee.data.spec import DatasetSpec, splits

COUNTS: dict[str, dict[str, tuple[int, int | None, int]]] = {  # images, referred objects, expressions of each split
    "refcoco-unc": {
        "train": (16994, 42404, 120624), "val": (1500, 3811, 10834),
        "testA": (750, 1975, 5657), "testB": (750, 1810, 5095),
    },
    "refcocoplus-unc": {
        "train": (16992, 42278, 120191), "val": (1500, 3805, 10758),
        "testA": (750, 1975, 5726), "testB": (750, 1798, 4889),
    },
    "refcocog-umd": {"train": (21899, 42226, 80512), "val": (1300, 2573, 4896), "test": (2600, 5023, 9602)},
    "refcocog-google": {"train": (24698, 44822, 85474), "val": (4650, 5000, 9536)},
    # Images are those of RefCOCO (19,994 in all). Of the paper's 278,232 expressions 259,859 are released.
    "grefcoco-unc": {
        "train": (16994, None, 209344), "val": (1500, None, 16870),
        "testA": (750, None, 18712), "testB": (750, None, 14933),
    },
}  # fmt: skip

_PREPARED = tuple(
    spec
    for name, counts in COUNTS.items()
    for spec in splits(
        DatasetSpec(
            name=f"{name}-{{split}}",
            annotations=f"annotations/{name}/instances_{{split}}.json",
            images="coco/train2014",
            reader=read_coco,
            supervises_parts=False,
            evaluator="referring",
            outside_images=True,  # --train2017 of the prepare script names pictures in the folder beside
        ),
        **{
            split: {
                "images": images, "objects": objects, "expressions": expressions,
                "unconfirmed": ("expressions",) if name == "grefcoco-unc" else (),
            }
            for split, (images, objects, expressions) in counts.items()
        },
    )
)  # fmt: skip

# Sentences of parts, and the objects of RefCOCO's own split beside them. There is no training split.
_REFCOCOM = splits(
    DatasetSpec(
        name="refcocom-{split}",
        annotations="RefCOCOm/annotations/{split}_object_part.json",
        images="coco/train2014",
        reader=read_refcocom,
        evaluator="referring_parts",
        needs=("RefCOCOm/annotations/{split}_part_only.json", "RefCOCOm/masks"),
    ),
    **{
        split: {"images": images, "objects": objects, "unconfirmed": ("images", "objects")}
        for split, (images, objects, _) in COUNTS["refcoco-unc"].items()
        if split != "train"
    },
)

SPECS: tuple[DatasetSpec, ...] = (*_PREPARED, *_REFCOCOM)
