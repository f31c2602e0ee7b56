"""Data sets of objects and their parts, in files of the common format."""

from __future__ import annotations

from dataclasses import replace

from partglee.data.annotations.coco_json import read_coco
from partglee.data.spec import Counts, DatasetSpec, divided, splits
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import read_builtin

# -- Toy scenes, as `partglee data toy` draws them. Endless ones without files: `partglee.testing.register_toy` -------

_TOY = DatasetSpec(
    name="toy_{split}", annotations="toy/{split}.json", images="toy", reader=read_coco, evaluator="joint"
)

# -- Car-Parts, as `datasets/prepare_car_parts.py` writes it: 400 photos, the last 40 for validation ------------------
#
# Where settings are chosen on `val` and numbers reported of photos that nobody looked at, `fit` and `test` divide
# `train`: the tenth of all before `val` is `test`. Weights that were trained with `train` have seen it.

_CAR_PARTS = replace(
    _TOY,
    name="car_parts_{split}",
    annotations="car_parts/{split}.json",
    images="car_parts/trainingset",
    # Other cars stand in the background of many photos and have no label. Inside the main car all parts with a name are
    # labelled.
    object_background="inside",
    part_background="inside",
    counts=Counts(source="as the prepare script wrote them here"),
)

# -- Clothing Co-Parsing, as `datasets/prepare_clothing.py` writes it from the photos with a label for every pixel -----

_CLOTHING = replace(
    _TOY,
    name="clothing_{split}",
    annotations="clothing/{split}.json",
    images="clothing",
    object_background="inside",  # bystanders and their bags have no label
    part_background="inside",
)
# Photos 0001 to 0600 are `train` and `val`. Of 0601 to 0900, prepared apart with `--val-share 0.3`, the first 210 are
# `clothing_more_train`; numbers are reported of the last 90, a tenth of all: `clothing_test`.
_CLOTHING_MORE = replace(_CLOTHING, annotations="clothing_more/{split}.json", images="clothing_more")

# -- Portraits of CelebAMask-HQ, as `datasets/prepare_faces.py` writes them, alone and as small faces side by side ----
#
# Settings are chosen on `val`, the last tenth; numbers are reported of `test`, the tenth before it.

_FACES = replace(
    _CLOTHING,  # a second person beside the one that the portrait is of has no label
    name="faces_{split}",
    annotations="faces/{split}.json",
    images="faces",
)
_FACES_SMALL = replace(_FACES, name="faces_small_{split}", annotations="faces/small_{split}.json")

# -- PACO-LVIS and PACO-EGO4D (Ramanathan et al., 2023): the official files as they come ------------------------------
#
# Parts carry their object's annotation id (`obj_ann_id`), attributes stay on the instances. Parts of one name of one
# object are one instance. PACO-LVIS lies in COCO's images; the frames of EGO4D need its licence.

_PACO_LVIS = DatasetSpec(
    name="paco_lvis_v1_{split}",
    annotations="paco/annotations/paco_lvis_v1_{split}.json",
    images="coco",
    reader=read_coco,
    vocabulary="paco",  # 75 objects, 456 parts, also where a file lists fewer categories
    evaluator="paco",
    counts=Counts(object_names=75, part_names=456),
)
_PACO_EGO4D = replace(
    _PACO_LVIS,
    name="paco_ego4d_v1_{split}",
    annotations="paco/annotations/paco_ego4d_v1_{split}.json",
    images="paco/images",
)
_PACO_TRAIN = {"images": 45790, "objects": 217117, "parts": 395071}

# -- PartImageNet as `datasets/prepare_partimagenet.py` writes it; VLPart's `{train,val}_format.json` are read as well -
#
# Published numbers are of the validation split of the original release; no two of its splits share an ImageNet class.

_PARTIMAGENET = DatasetSpec(
    name="partimagenet_{split}",
    annotations="partimagenet/{split}_format.json",
    images="partimagenet/{split}",
    reader=read_coco,
    vocabulary="partimagenet",
    supervises_objects=False,
    evaluator="partimagenet",
    counts=Counts(object_names=0, part_names=40),
)
_PARTIMAGENET_JOINT = replace(
    _PARTIMAGENET,
    name="partimagenet_joint_{split}",
    annotations="partimagenet/partimagenet_{split}_joint.json",
    supervises_objects=True,
    # One object is annotated in each picture; others of its kind may stand beside it.
    object_background="inside",
    part_background="inside",
    evaluator="joint",
    counts=Counts(object_names=11, part_names=40),
)
_PARTIMAGENET_SEG = replace(
    _PARTIMAGENET_JOINT,
    name="partimagenet_seg_{split}",
    annotations="PartImageNet_Seg/{split}_joint.json",
    images="PartImageNet_Seg/images",
)
_PARTIMAGENET_IMAGES = {"train": {"images": 16540}, "val": {"images": 2957}, "test": {"images": 4598}}

# -- Pascal-Part: nested, as `datasets/prepare_pascal_part.py` writes it, and the files of Pascal-Part-93 (VLPart) -----

_PASCAL_PARTS = dict(read_builtin("pascal_part").objects)  # type: ignore[arg-type]
_VOC = Vocabulary(  # 20 objects, 93 parts
    {name: _PASCAL_PARTS.get(name, ()) for name in read_builtin("voc").objects}, part_format="{object}:{part}"
)
_PASCAL_BASE = Vocabulary.builtin("pascal_part", split="base")  # 12 objects, 77 parts

_PASCAL_NESTED = replace(
    _TOY,
    name="pascal_part_nested_{split}",
    annotations="pascal_part_nested/{split}.json",
    images="pascal_part_nested/JPEGImages",
)
_PASCAL_JOINT = replace(
    _TOY,
    name="pascal_joint_{split}",
    annotations="pascal_part/voc2010_{split}_joint.json",
    images="pascal_part/VOCdevkit/VOC2010/JPEGImages",
    vocabulary=_VOC,
    counts=Counts(object_names=20, part_names=93),
)
_PASCAL_BASE_JOINT = replace(
    _PASCAL_JOINT,
    name="pascal_part_base_train",
    annotations="pascal_part/train_base_joint.json",  # bus and dog have no annotation
    vocabulary=_PASCAL_BASE,
    evaluator="",
    counts=Counts(object_names=12, part_names=77),
)
_PASCAL_FLAT = replace(
    _PASCAL_JOINT,
    name="pascal_part_{split}",
    annotations="pascal_part/{split}.json",
    vocabulary="pascal_part",
    supervises_objects=False,  # VLPart's files have parts alone
    evaluator="",
    counts=Counts(object_names=0, part_names=93),
)
_PASCAL_FLAT_BASE = replace(_PASCAL_FLAT, vocabulary=_PASCAL_BASE, counts=Counts(object_names=0, part_names=77))
_PASCAL_FLAT_VAL = replace(_PASCAL_FLAT, annotations="pascal_part/val.json", evaluator="pascal_part")

SPECS = (
    *splits(_TOY, train={}, val={}),
    *splits(_CAR_PARTS, train={"images": 360, "annotations": 3342}, val={"images": 40, "annotations": 335}),
    *divided(_CAR_PARTS, fit=(0.0, 8 / 9), test=(8 / 9, 1.0)),
    *splits(_CLOTHING, train={}, val={}),
    *splits(replace(_CLOTHING_MORE, name="clothing_more_{split}"), train={}),
    *divided(_CLOTHING_MORE, split="val", test=(0.0, 1.0)),
    *divided(_FACES, train=(0.0, 8 / 9), test=(8 / 9, 1.0)),
    *splits(_FACES, val={}),
    *splits(_FACES_SMALL, val={}, test={}),
    *splits(
        _PACO_LVIS,
        train=_PACO_TRAIN,
        val={"images": 2410, "objects": 10794, "parts": 20945},
        test={"images": 9443, "objects": 45861, "parts": 86041},
    ),
    *splits(replace(_PACO_LVIS, name="paco_joint_v1_{split}"), train=_PACO_TRAIN),  # upstream's name of the same file
    *splits(
        _PACO_EGO4D,
        train={"images": 15667, "objects": 34835, "parts": 81528},
        val={"images": 825, "objects": 1816, "parts": 4240},
        test={"images": 9892, "objects": 21708, "parts": 53580},
    ),
    *splits(_PARTIMAGENET, **_PARTIMAGENET_IMAGES),
    *splits(_PARTIMAGENET_JOINT, **_PARTIMAGENET_IMAGES),
    *splits(
        _PARTIMAGENET_SEG,
        train={"images": 20481, "unconfirmed": ("images",)},
        val={"images": 1206},
        test={"images": 2408, "unconfirmed": ("images",)},
    ),
    *splits(_PASCAL_NESTED, train={}, val={}),
    *splits(_PASCAL_JOINT, train={}, val={}),
    _PASCAL_BASE_JOINT,
    *splits(_PASCAL_FLAT, train={}, train_one={}),  # train_one: images of one object
    replace(_PASCAL_FLAT_BASE, name="pascal_part_base_train_one", annotations="pascal_part/train_base_one.json"),
    # VLPart's pascal_part_base_train; that name is PartGLEE's joint file.
    replace(_PASCAL_FLAT_BASE, name="pascal_part_base_train_parts", annotations="pascal_part/train_base.json"),
    *splits(_PASCAL_FLAT_VAL, val={}, open_vocabulary_val={}),  # one file; the latter: PartGLEE's cross-category table
)
