"""RefCOCOm as published: sentences of parts and objects, a JSON file for each split and a mask image for each segment.

A segment is a part with all its instances on one object (both tyres), or an object of RefCOCO. Files do not say which;
the list of parts alone does. H x W the image.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import read_json
from partglee.basics.names import name_key
from partglee.data.records import Expression, ImageRecord, Instance
from partglee.data.segmentation import read_label_map
from partglee.data.spec import DatasetSpec
from partglee.structures import Vocabulary

_KEYS = ("img_name", "segment_id", "bbox", "cat", "sentences")
_OBJECT = "object"


def read_refcocom(spec: DatasetSpec) -> RefCOCOmRecords:
    """The reader: `spec.annotations` is `annotations/SPLIT_object_part.json`, beside it lies `SPLIT_part_only.json`.

    Raises:
        ValueError: for files that are missing or malformed, segments that come twice or have no mask, and parts that
            the longer list lacks; with file and row.
    """
    path = spec.annotation_path
    rows = _read_rows(path)
    parts_path = path.with_name(path.name.replace("_object_part", "_part_only"))
    parts = {row["segment_id"] for row in _read_rows(parts_path)}
    if stray := parts - {row["segment_id"] for row in rows}:
        raise ValueError(
            f"{len(stray)} segments of {parts_path} (such as {min(map(str, stray))}) are not in {path}; take both "
            "files from one download"
        )
    masks = path.parent.parent / "masks"
    there = {file.name for file in masks.glob("*.png")}
    if lost := [row["segment_id"] for row in rows if f"{row['segment_id']}.png" not in there]:
        raise ValueError(f"{len(lost)} of {len(rows)} masks are missing in {masks}, such as {lost[0]}.png")
    return RefCOCOmRecords(rows, parts=frozenset(parts), masks=masks, images=spec.image_root)


class RefCOCOmRecords:
    """An image with all its sentences is one record; sentences keep the order of the file.

    Args:
        rows: entries of the file.
        parts: segment ids that are parts.
        masks: folder of `SEGMENT_ID.png`, grey, 0 and 255, of the size of the image.
        images: folder of the images.
    """

    def __init__(
        self, rows: list[Mapping[str, Any]], *, parts: frozenset[int | str], masks: Path, images: Path
    ) -> None:
        self.masks, self.images = masks, images
        self._parts = parts
        self._of_image: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            self._of_image.setdefault(_file_name(row["img_name"]), []).append(row)
        self._names = list(self._of_image)
        of_parts = {" ".join(row["cat"].split()) for row in rows if row["segment_id"] in parts}
        self.vocabulary = Vocabulary({_OBJECT: sorted({name_key(name): name for name in of_parts}.values())})
        self._columns = {name_key(name): column for column, name in enumerate(self.vocabulary.part_names)}
        self.issues: Counter[str] = Counter()
        if empty := sum(not _text(said) for row in rows for said in row["sentences"]):
            self.issues["empty sentences (left out)"] = empty

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> ImageRecord:
        name = self._names[index]
        levels: dict[bool, list[Instance]] = {False: [], True: []}
        said: list[Expression] = []
        size = (0, 0)
        for row in self._of_image[name]:
            is_part = row["segment_id"] in self._parts
            mask, size = self._mask(row, size)
            x0, y0, x1, y1 = (float(side) for side in row["bbox"])
            label = self._columns[name_key(row["cat"])] if is_part else 0
            number = row["segment_id"] if isinstance(row["segment_id"], int) else 0
            target = (len(levels[is_part]),)
            levels[is_part].append(Instance(label, (x0, y0, x1, y1), mask, annotation_id=number))
            said += [
                Expression(_text(one), () if is_part else target, target if is_part else (), int(one.get("sent_id", 0)))
                for one in row["sentences"]
                if _text(one)
            ]
        return ImageRecord(
            file=self.images / name, height=size[0], width=size[1], image_id=self._image_id(index),
            objects=tuple(levels[False]), parts=tuple(levels[True]), expressions=tuple(said),
        )  # fmt: skip

    def size(self, index: int) -> tuple[int, int]:
        """The annotations do not say."""
        return 0, 0

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object and part labels of an image."""
        rows = self._of_image[self._names[index]]
        parts = [self._columns[name_key(row["cat"])] for row in rows if row["segment_id"] in self._parts]
        return frozenset({0} if len(parts) < len(rows) else ()), frozenset(parts)

    def rows_with_expressions(self) -> list[int]:
        """All images: each row of the file has sentences."""
        return list(range(len(self)))

    def counts(self) -> dict[str, int]:
        """What the file holds, by the names of `Counts.told`."""
        rows = [row for some in self._of_image.values() for row in some]
        parts = [row for row in rows if row["segment_id"] in self._parts]
        told, of_parts = (sum(bool(_text(said)) for row in some for said in row["sentences"]) for some in (rows, parts))
        return {
            "images": len(self), "objects": len(rows) - len(parts), "parts": len(parts), "expressions": told,
            "single target": told, "part expressions": of_parts,
        }  # fmt: skip

    def _image_id(self, index: int) -> int:
        """COCO's: the last number of the file name."""
        numbers = re.findall(r"\d+", Path(self._names[index]).stem)
        return int(numbers[-1]) if numbers else index + 1

    def _mask(self, row: Mapping[str, Any], size: tuple[int, int]) -> tuple[dict[str, Any], tuple[int, int]]:
        file = self.masks / f"{row['segment_id']}.png"
        pixels = read_label_map(file) > 127
        found = (pixels.shape[0], pixels.shape[1])
        if size not in ((0, 0), found):
            raise ValueError(
                f"mask '{file}' is {found} (height, width), another one of image {row['img_name']} is {size}"
            )
        if not pixels.any():
            raise ValueError(f"mask '{file}' has no pixel above 127; masks are grey images of 0 and 255")
        return rle.encode(np.asfortranarray(pixels, np.uint8)), found


def _read_rows(path: Path) -> list[Mapping[str, Any]]:
    rows = read_json(path, "RefCOCOm file")
    if not isinstance(rows, list):
        raise ValueError(f"{path} must hold a list of segments, got {type(rows).__name__}")
    seen: set[Any] = set()
    for place, row in enumerate(rows):
        what = f"{path}, row {place}"
        if not isinstance(row, Mapping) or any(key not in row for key in _KEYS):
            missing = [key for key in _KEYS if not isinstance(row, Mapping) or key not in row]
            raise ValueError(f"{what} has no {' and no '.join(missing)}")
        box = row["bbox"]
        if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, (int, float)) for side in box):
            raise ValueError(f"{what}: bbox must be four numbers x0, y0, x1, y1, got {box!r:.60}")
        if not (box[0] < box[2] and box[1] < box[3]):
            raise ValueError(f"{what}: bbox {box} has no area; its corners are x0 < x1 and y0 < y1")
        if not isinstance(row["cat"], str) or not row["cat"].strip() or not isinstance(row["img_name"], str):
            raise ValueError(
                f"{what}: cat and img_name must be text, got {row['cat']!r:.40} and {row['img_name']!r:.40}"
            )
        said = row["sentences"]
        if not isinstance(said, list) or not all(isinstance(one, Mapping) and "sent" in one for one in said):
            raise ValueError(f"{what}: sentences must be a list of mappings with a text `sent`, got {said!r:.60}")
        if row["segment_id"] in seen:
            raise ValueError(f"{what}: segment {row['segment_id']} is given twice")
        seen.add(row["segment_id"])
    return rows


def _text(sentence: Mapping[str, Any]) -> str:
    return " ".join(str(sentence["sent"]).split())


def _file_name(name: str) -> str:
    return name if Path(name).suffix else f"{name}.jpg"
