"""OV-PARTS' semantic protocols as records: one sample for each image, or for each object of it ("obj_condition").

Objects have their masks, parts are what the part map has of each label inside an object of its kind; pixels of an
object in none of its parts carry no label. K part labels of the files, H, W the size of the image.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import read_json
from partglee.data.records import ImageRecord, Instance
from partglee.data.segmentation import decode, label_files, labels_in, read_label_map
from partglee.data.spec import DatasetSpec, datasets_root
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import read_builtin, split_objects

_log = logging.getLogger(__name__)

Mask = NDArray[np.bool_]


class PartSample(NamedTuple):
    """One image, or one object of it."""

    image: Path
    part_map: Path
    objects: Callable[[tuple[int, int]], list[tuple[str, Mask, int]]]  # (H, W) -> (name, mask, annotation id)


class PartMapRecords:
    """Samples, each read when it is asked for.

    Args:
        samples: in order.
        vocabulary: names that are wanted; others of the files are left out.
        labels: K (object name, part name), what the labels of the part maps mean.
        ignore: label of pixels without a part.
        issues: what was left out and why -> how often.
    """

    def __init__(
        self,
        samples: Sequence[PartSample],
        *,
        vocabulary: Vocabulary,
        labels: Sequence[tuple[str, str]],
        ignore: int,
        issues: Mapping[str, int] | None = None,
    ) -> None:
        self.samples = samples
        self.issues = dict(issues or {})
        self.vocabulary = vocabulary
        self.part_labels = labels
        self.ignore = ignore
        known = set(vocabulary.object_names)
        self._column = [
            vocabulary.part_columns(owner)[vocabulary.parts_of(owner).index(part)] if owner in known else -1
            for owner, part in labels
        ]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> ImageRecord:
        sample = self.samples[index]
        part_map = read_label_map(sample.part_map)
        present = labels_in(part_map, len(self.part_labels), self.ignore, sample.part_map)
        height, width = part_map.shape
        objects: list[Instance] = []
        parts: list[Instance] = []
        known = set(self.vocabulary.object_names)
        for name, mask, annotation_id in sample.objects((height, width)):
            if name not in known or not mask.any():
                continue
            row = self.vocabulary.object_row(name)
            for label in present:
                part = mask & (part_map == label) if self.part_labels[label][0] == name else None
                if part is not None and part.any():
                    parts.append(_instance(self._column[label], part, parent=len(objects)))
            objects.append(_instance(row, mask, annotation_id=annotation_id))
        return ImageRecord(
            file=sample.image, height=height, width=width, image_id=index + 1, objects=tuple(objects),
            parts=tuple(parts),
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """(height, width), of the part map's header."""
        with Image.open(self.samples[index].part_map) as image:
            return image.height, image.width

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object and part labels of a sample; its maps are read for that."""
        record = self[index]
        return frozenset(o.label for o in record.objects), frozenset(p.label for p in record.parts)


def _instance(label: int, mask: Mask, *, parent: int = -1, annotation_id: int = 0) -> Instance:
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    x, y, w, h = (float(value) for value in rle.toBbox(encoded))
    box = (x, y, x + w, y + h)
    return Instance(label=label, box=box, segmentation=encoded, parent=parent, annotation_id=annotation_id)


def _part_labels(vocabulary: str) -> list[tuple[str, str]]:
    objects: Any = read_builtin(vocabulary).objects
    return [(name, part) for name, parts in objects.items() for part in parts]


# -- Pascal-Part-116: a map of object classes beside each part map -------------------------------------------------


def read_class_maps(spec: DatasetSpec) -> PartMapRecords:
    """`spec.annotations` is the folder of part maps. Options: `objects`, the folder of object maps; `labels`, the
    vocabulary that numbers both; `ignore`; `by_object`.

    Raises:
        ValueError: when there are no maps, or one is damaged.
    """
    names = list(read_builtin(spec.options["labels"]).objects)
    object_folder = datasets_root() / spec.options["objects"]
    wanted = _vocabulary(spec).object_names
    samples: list[PartSample] = []
    for file in label_files(spec.annotation_path):
        place = file.relative_to(spec.annotation_path)
        object_map = object_folder / place
        image = spec.image_root / place.with_suffix(".jpg")
        kinds: Sequence[int | None] = [None]
        if spec.options["by_object"]:
            there = labels_in(read_label_map(object_map), len(names), spec.options["ignore"], object_map)
            kinds = [kind for kind in there if names[kind] in wanted]
        maps = [_ClassMap(object_map, names, spec.options["ignore"], kind) for kind in kinds]
        samples += [PartSample(image, file, regions) for regions in maps]
    return _records(spec, samples)


@dataclass(frozen=True, slots=True)
class _ClassMap:
    """The regions of an object map: of one class, or of all."""

    file: Path
    names: Sequence[str]
    ignore: int
    kind: int | None

    def __call__(self, size: tuple[int, int]) -> list[tuple[str, Mask, int]]:
        object_map = read_label_map(self.file)
        if object_map.shape != size:
            raise ValueError(f"{self.file} is a map of {object_map.shape}, but its part map one of {size}")
        kinds = labels_in(object_map, len(self.names), self.ignore, self.file) if self.kind is None else [self.kind]
        return [(self.names[kind], object_map == kind, kind) for kind in kinds]


# -- ADE20K-Part-234: COCO instances beside the part maps ----------------------------------------------------------


def read_instance_maps(spec: DatasetSpec) -> PartMapRecords:
    """Options: `sources`, (instances file, image folder, map folder, "all" or "novel" objects) of each; `object_names`
    in the order of their ids; `labels`, the vocabulary that numbers the part maps; `ignore`; `by_object`.

    Images that are not there are left out with a warning.

    Raises:
        ValueError: when an instances file is missing or damaged.
    """
    issues: Counter[str] = Counter()
    samples = [sample for source in spec.options["sources"] for sample in _instance_samples(spec, issues, *source)]
    return _records(spec, samples, issues)


def _instance_samples(
    spec: DatasetSpec, issues: Counter[str], file: str, images: str, maps: str, which: str
) -> Iterator[PartSample]:
    root = datasets_root()
    content = read_json(root / file, "instances file")
    names = spec.options["object_names"]
    wanted = set(_vocabulary(spec).object_names)
    if which == "novel":
        wanted &= set(split_objects(spec.options["labels"], "novel"))
    of_image: dict[int, list[dict[str, Any]]] = {entry["id"]: [] for entry in content["images"]}
    for entry in content["annotations"]:
        if names[entry["category_id"]] in wanted and _has_mask(entry):
            of_image[entry["image_id"]].append(entry)
    missing = 0
    for image in content["images"]:
        name = Path(str(image["file_name"])).name
        entries = of_image[image["id"]]
        if not (root / images / name).is_file():
            missing += 1
        elif entries:
            part_map = (root / maps / name).with_suffix(".png")
            for group in [[entry] for entry in entries] if spec.options["by_object"] else [entries]:
                yield PartSample(root / images / name, part_map, _Instances(group, names))
    if missing:
        _log.warning("%s: %d images of %s are not there (left out)", spec.name, missing, file)
        issues["images that are not there"] += missing


def _has_mask(entry: dict[str, Any]) -> bool:
    shape = entry.get("segmentation") or ()
    return isinstance(shape, dict) or any(len(polygon) >= 6 for polygon in shape)


@dataclass(frozen=True, slots=True)
class _Instances:
    """Annotations of one image."""

    entries: Sequence[dict[str, Any]]
    names: Sequence[str]

    def __call__(self, size: tuple[int, int]) -> list[tuple[str, Mask, int]]:
        objects = []
        for entry in self.entries:
            mask = decode(entry["segmentation"], *size)
            objects.append((self.names[entry["category_id"]], mask, int(entry["id"])))
        return objects


def _records(
    spec: DatasetSpec, samples: Sequence[PartSample], issues: Mapping[str, int] | None = None
) -> PartMapRecords:
    labels = _part_labels(spec.options["labels"])
    return PartMapRecords(
        samples, vocabulary=_vocabulary(spec), labels=labels, ignore=spec.options["ignore"], issues=issues
    )


def _vocabulary(spec: DatasetSpec) -> Vocabulary:
    return Vocabulary.parse(spec.vocabulary or spec.options["labels"])
