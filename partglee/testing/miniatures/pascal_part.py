"""PASCAL-Part in miniature: `.mat` files with the raw part names, and the folders of VOC 2010."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import whole_file
from partglee.testing.miniatures.shapes import Scene, draw_scene, write_picture

_FACE = ["head", "leye", "reye", "lear", "rear"]
_PAWS = ["lfleg", "lfpa", "rfleg", "rfpa", "lbleg", "lbpa", "rbleg", "rbpa"]
_LEGS = ["lfuleg", "lflleg", "rfuleg", "rflleg", "lbuleg", "lblleg", "rbuleg", "rblleg"]
_VEHICLE = [
    "frontside", "leftside", "rightside", "backside", "roofside", "leftmirror", "rightmirror", "fliplate", "bliplate",
    "door_1", "wheel_1", "wheel_2", "headlight_1", "window_1",
]  # fmt: skip
RAW_PARTS: dict[str, list[str]] = {  # the class names and part names of the .mat files
    "aeroplane": ["body", "stern", "lwing", "rwing", "tail", "engine_1", "wheel_1", "wheel_2"],
    "bicycle": ["fwheel", "bwheel", "saddle", "handlebar", "chainwheel", "headlight_1"],
    "bird": ["head", "leye", "beak", "torso", "neck", "lwing", "rwing", "lleg", "lfoot", "rleg", "rfoot", "tail"],
    "boat": [],
    "bottle": ["cap", "body"],
    "bus": _VEHICLE,
    "car": _VEHICLE,
    "cat": [*_FACE, "nose", "torso", "neck", *_PAWS, "tail"],
    "chair": [],
    "cow": [*_FACE, "muzzle", "lhorn", "rhorn", "torso", "neck", *_LEGS, "tail"],
    "table": [],
    "dog": [*_FACE, "nose", "muzzle", "torso", "neck", *_PAWS, "tail"],
    "horse": [*_FACE, "muzzle", "lfho", "rfho", "lbho", "rbho", "torso", "neck", *_LEGS, "tail"],
    "motorbike": ["fwheel", "bwheel", "handlebar", "saddle", "headlight_1"],
    "person": [
        *_FACE, "lebrow", "rebrow", "nose", "mouth", "hair", "torso", "neck", "llarm", "luarm", "lhand", "rlarm",
        "ruarm", "rhand", "llleg", "luleg", "lfoot", "rlleg", "ruleg", "rfoot",
    ],
    "pottedplant": ["pot", "plant"],
    "sheep": [*_FACE, "muzzle", "lhorn", "rhorn", "torso", "neck", *_LEGS, "tail"],
    "sofa": [],
    "train": ["head", "hfrontside", "hleftside", "headlight_1", "coach_1", "cfrontside_1"],
    "tvmonitor": ["screen"],
}  # fmt: skip


def write_pascal_part(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`pascal_part/Annotations_Part/*.mat` and `pascal_part/VOCdevkit/VOC2010/`, `num_images` each for train and val.

    One image more is listed for training that has no `.mat` file.
    """
    folder = root / "pascal_part"
    voc = folder / "VOCdevkit" / "VOC2010"
    for number, split in enumerate(("train", "val")):
        rng = np.random.default_rng((seed, number))
        stems = [f"{2008 + number}_{index + 1:06d}" for index in range(num_images)]
        for stem in stems:
            scene = draw_scene(rng, RAW_PARTS)
            write_picture(voc / "JPEGImages" / f"{stem}.jpg", scene.image)
            write_mat(folder / "Annotations_Part" / f"{stem}.mat", scene)
        with whole_file(voc / "ImageSets" / "Main" / f"{split}.txt") as beside:
            beside.write_text("".join(f"{stem}\n" for stem in [*stems, *(["2007_999999"] if number == 0 else [])]))


def write_mat(file: Path, scene: Scene) -> None:
    """A struct `anno` as the authors' files have it: objects are a row, each with its parts or an empty matrix."""
    part_type = np.dtype([("part_name", "O"), ("mask", "O")])
    object_type = np.dtype([("class", "O"), ("class_ind", "O"), ("mask", "O"), ("parts", "O")])
    entries = np.zeros((1, len(scene.objects)), dtype=object_type)
    for column, shape in enumerate(scene.objects):
        listed: Any = np.zeros((1, len(shape.parts)), dtype=part_type)
        for place, (name, mask) in enumerate(shape.parts):
            listed[0, place] = (name, mask.astype(np.uint8))
        kind = float(list(RAW_PARTS).index(shape.name) + 1)
        entries[0, column] = (
            shape.name,
            kind,
            shape.mask.astype(np.uint8),
            listed if shape.parts else np.zeros((0, 0)),
        )
    anno = np.zeros((1, 1), dtype=np.dtype([("imname", "O"), ("objects", "O")]))
    anno[0, 0] = (file.stem, entries)
    with whole_file(file) as beside:
        savemat(beside, {"anno": anno}, do_compression=True)
