"""Semantic segmentation from label maps (ADE20K, COCO-Stuff, Mapillary Vistas), and RefCLEF, which means regions by
sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mglmm.data import values
from mglmm.data.make import MOST, Asked, Scene, choose, resolve, segment
from mglmm.data.readers.common import AskedImages, entries_of, image_size_of, naming, objects_of
from mglmm.data.record import Record
from mglmm.data.wordings import Wordings, english
from partglee.annotate.masks import encode
from partglee.basics.files import read_text
from partglee.data.prepare.refer import ReferSet, read_refer

REFCLEF = ReferSet("refclef", "unc", ("train", "val", "testA", "testB", "testC"), "refclef-unc")


class LabelMaps:
    """Images with a map of labels each; a map is read when its image is drawn.

    Args:
        files: image and map of each.
        names: label -> name; labels without one are not spoken of.
        absent: chance that a name that is not there is asked for alone.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[tuple[Path, Path]],
        names: Mapping[int, str],
        *,
        most: int = MOST,
        absent: float = 0.1,
        wordings: Wordings | None = None,
    ) -> None:
        if not files:
            raise ValueError(f"{name}: no image with a label map; is the folder that of the download?")
        self.name, self.files, self.names = name, tuple(files), dict(names)
        self.images: Path | None = None  # the files are whole paths
        self.most, self.absent, self.wordings = most, absent, wordings or english()

    def __len__(self) -> int:
        return len(self.files)

    def draw(self, index: int, rng: np.random.Generator) -> Record | None:
        file, where = self.files[index]
        labels = _read_map(where)
        there = [int(label) for label in np.unique(labels) if int(label) in self.names]
        missing = sorted(set(self.names) - set(there))
        if missing and rng.random() < self.absent:
            asked = [Asked(self.names[missing[int(rng.integers(len(missing)))]], ())]
        else:
            chosen = choose(there, rng, self.most)
            asked = [Asked(self.names[label], (encode(labels == label),)) for label in chosen]
        if not asked:
            return None
        scene = Scene(file.stem, str(file), (int(labels.shape[0]), int(labels.shape[1])))
        return resolve(segment(scene, asked, self.wordings, rng, task="semantic").check(), self.wordings, rng)


def ade20k(root: str | Path, split: str = "training") -> LabelMaps:
    """`ADEChallengeData2016`: images/SPLIT/*.jpg, annotations/SPLIT/*.png (0 = nothing), objectInfo150.txt."""
    base = Path(root)
    names = {}
    file = base / "objectInfo150.txt"
    for row, line in enumerate(read_text(file, "list of names").splitlines()[1:], 2):
        with naming(file, row):
            if line.strip():
                number, *_, words = line.split("\t")
                names[int(number)] = words.split(",")[0].strip()
    return LabelMaps("ade20k", _pairs(base / "images" / split, base / "annotations" / split), names)


def coco_stuff(root: str | Path, split: str = "train2017") -> LabelMaps:
    """`coco`: SPLIT/*.jpg, stuffthingmaps/SPLIT/*.png (label - 1, 255 = nothing), stuffthingmaps/labels.txt."""
    base = Path(root)
    names = {}
    file = base / "stuffthingmaps" / "labels.txt"
    for row, line in enumerate(read_text(file, "list of names").splitlines(), 1):
        number, _, words = line.partition(":")
        with naming(file, row):
            if not words.strip() or number.strip() == "0":
                continue
            names[int(number) - 1] = words.strip().removesuffix("-stuff").removesuffix("-other").replace("-", " ")
    return LabelMaps("coco-stuff", _pairs(base / split, base / "stuffthingmaps" / split), names)


def mapillary(root: str | Path, split: str = "training", version: str = "v1.2") -> LabelMaps:
    """Mapillary Vistas: SPLIT/images/*.jpg, SPLIT/VERSION/labels/*.png (label = place in the list), config_VERSION.json
    with labels [{name, readable, evaluate}]."""
    base = Path(root)
    file = base / f"config_{version}.json"
    names = {}
    for number, one in enumerate(objects_of(entries_of(file, dict), "labels", file)):
        with naming(file, number):
            if values.flag(one.get("evaluate", True), "evaluate"):
                names[number] = values.text(one["readable"], "readable").lower()
    return LabelMaps("mapillary", _pairs(base / split / "images", base / split / version / "labels"), names)


def refclef(root: str | Path, images: str | Path, split: str = "train") -> AskedImages:
    """RefCLEF in REFER's layout (`refs(unc).p`, `instances.json` with run lengths).

    Args:
        root: folder of the set, `refer/refclef`.
        images: folder of `saiapr_tc-12`'s pictures.
    """
    content = read_refer(Path(root), REFCLEF)[split]
    shapes = {entry["id"]: entry["segmentation"] for entry in content["annotations"]}
    scenes = []
    for entry in content["images"]:
        scene = Scene(str(entry["id"]), str(entry["file_name"]), image_size_of(entry))
        asked = [Asked(one["text"], tuple(shapes[number] for number in one["objects"])) for one in entry["expressions"]]
        scenes.append((scene, asked))
    return AskedImages("refclef", scenes, images=Path(images))


def _pairs(images: Path, maps: Path) -> list[tuple[Path, Path]]:
    return [(file, where) for file in _pictures(images) if (where := maps / f"{file.stem}.png").is_file()]


def _pictures(folder: Path) -> Iterator[Path]:
    return iter(sorted(file for file in folder.glob("*") if file.suffix.lower() in (".jpg", ".jpeg", ".png")))


def _read_map(file: Path) -> NDArray[np.integer]:
    with Image.open(file) as picture:  # a palette's numbers are the labels
        return np.array(picture)
