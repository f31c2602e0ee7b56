"""Data sets of objects alone, or whose levels are free phrases, masks without names, or parts of people."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.annotations.shards import read_shards
from partglee.data.spec import Counts, DatasetSpec, divided, splits

# -- COCO 2017: the official files, and subsets joined by `datasets/prepare_coco.py` ----------------------------------

_COCO = DatasetSpec(
    name="coco_2017_{split}",
    annotations="coco/annotations/instances_{split}2017.json",
    images="coco/{split}2017",
    reader=read_coco,
    supervises_parts=False,
    evaluator="coco",
    counts=Counts(object_names=80, part_names=0),
)
_COCO_SUBSET = replace(
    _COCO,
    name="coco_subset_{split}",
    annotations="coco/{split}.json",
    images="coco",
    evaluator="joint",
    counts=Counts(),
)  # settings are chosen on `choose`, the first half of `val`; numbers are reported of `test`, the other

# -- LVIS v1: 1,203 names on COCO images, federated; the files keep each name's frequency, which its evaluator reads ---

_LVIS = replace(
    _COCO,
    name="lvis_v1_{split}",
    annotations="lvis/lvis_v1_{split}.json",
    images="coco",  # file names have the folder of the COCO split
    sampled_names=100,
    evaluator="lvis",
    counts=Counts(object_names=1203, part_names=0),
)
# Images of val that lie in COCO's val2017.
_LVIS_MINIVAL = replace(_LVIS, annotations="lvis/lvis_v1_minival_inserted_image_name.json")

# -- Objects365 v2, as its own files are: boxes alone, crowds marked --------------------------------------------------

_OBJECTS365 = replace(
    _COCO,
    name="objects365_v2_{split}",
    annotations="Objects365v2/annotations/zhiyuan_objv2_{split}.json",
    images="Objects365v2/{split}",
    sampled_names=100,
    counts=Counts(object_names=365, part_names=0),
    options={"path_parts": 2},  # "images/v1/patch8/NAME.jpg" was unpacked to "patch8/NAME.jpg"
)

# -- Open Images, as `datasets/prepare_openimages.py` writes it: objects, parts of the human body, boxes alone --------

_OPEN_IMAGES = DatasetSpec(
    name="openimage_joint_{split}",
    annotations="openimages/annotations/openimage_joint_{split}.json",
    images="openimages",
    reader=read_coco,
    evaluator="federated",  # an image supervises the names that were verified for it, found or not
    sampled_names=100,
    counts=Counts(object_names=588, part_names=13),
)

# -- Visual Genome with levels, as `datasets/prepare_visual_genome.py` writes it: free phrases, boxes alone -----------

_VISUAL_GENOME = DatasetSpec(
    name="vg_train_joint",
    annotations="visual_genome/annotations/train_joint.json",
    images="visual_genome/images",
    reader=read_coco,
    # The wheels of most cars have no box. Objects are boxed densely; that other phrases name the same thing matters
    # little with names drawn from tens of thousands.
    part_background="unlabelled",
    sampled_names=200,
    counts=Counts(images=108077),
)

# -- SA-1B with levels, as `datasets/prepare_sa1b.py` writes it: a file for each tar, all names "object" and "part" ---

_SA1B = DatasetSpec(
    name="sa1b_joint",
    annotations="SA1B/annotations",
    images="SA1B/images",
    reader=read_shards,
    counts=Counts(images=559300, annotations=25875267, object_names=1, part_names=1),  # the first 50 tars
)

# -- Unlabelled photos with the objects that several teachers see, `datasets/prepare_pseudo_labels.py` ---------------
#
# What no teacher sees may be there all the same, so nothing is held against a query that finds more.

_PHOTOS = DatasetSpec(
    name="photos_pseudo_train",
    annotations="photos/pseudo_labels.json",
    images="photos",
    reader=read_coco,
    supervises_parts=False,
    object_background="unlabelled",
    boxes_from_masks=False,  # the teachers' boxes are better than the segmenter's masks of them
)

SPECS = (
    *splits(_COCO, train={"images": 118287, "objects": 860001}, val={"images": 5000, "objects": 36781}),
    *splits(_COCO_SUBSET, train={}, val={}),
    *divided(_COCO_SUBSET, split="val", choose=(0.0, 0.5), test=(0.5, 1.0)),
    *splits(_LVIS, train={"images": 100170, "objects": 1270141}, val={"images": 19809, "objects": 244707}),
    *splits(_LVIS_MINIVAL, minival={"images": 4809, "unconfirmed": ("images",)}),
    *splits(_OBJECTS365, train={"images": 1742292}, val={"images": 80000}),
    *splits(
        _OPEN_IMAGES,
        train={"images": 1743042, "annotations": 14610229},
        val={"images": 41620, "annotations": 303980},
    ),
    _VISUAL_GENOME,
    _SA1B,
    _PHOTOS,
)
