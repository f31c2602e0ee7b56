"""Parts that a model finds in a close photo, for objects that an annotation file shows from afar: self-training.

A model that learned the parts of faces from portraits alone looks for the nose in the middle of a person. It does find
them in a crop that is framed like a portrait. So each object is looked at twice, around a part that is labelled and
then around the head that is found there, and what is found is written down at its place in the whole photo.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.images import read_image
from partglee.data.prepare.files import to_annotation
from partglee.data.prepare.regions import region_from_mask
from partglee.engine import Predictor
from partglee.structures import Prediction

Window = tuple[int, int, int, int]  # x0, y0, x1, y1 pixels of the photo
Found = tuple[str, float, NDArray[np.bool_]]  # name, score, (h, w) mask

# Portraits end a little above the head; shares of a crop's side, and the score above which a head is looked at closer.
_ABOVE_HAIR, _ABOVE_HEAD, _HEAD = 0.12, 0.05, 0.2


@dataclass(frozen=True, kw_only=True)
class CloserLook:
    """What is looked for, and where. Lengths are shares of the object's height.

    Args:
        predictor: asked about crops.
        object_name: whose parts are wanted.
        anchors: labelled parts, the first that an object has says where its head is.
        head: the part that the second crop is framed by; it is among `singles` where it is to be written down.
        singles: parts of which an object has one.
        pairs: parts of which it has two.
        threshold: score above which a part is written down.
        first, second: sides of the crops; the second is as large as the head where that is smaller.
    """

    predictor: Predictor
    object_name: str = "person"
    anchors: Sequence[str] = ("hair", "hat")
    head: str = "head"
    singles: Sequence[str] = ("head", "nose", "mouth", "neck")
    pairs: Sequence[str] = ("eye", "eyebrow", "ear", "lip")
    threshold: float = 0.3
    first: float = 0.21
    second: float = 0.155

    def extend(self, content: Mapping[str, Any], images: Path, photos: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """A hierarchical COCO file with more parts; what it had stays.

        Where not all of a name are found with certainty, the file says so (`not_exhaustive_category_ids`, and
        `neg_category_ids` without the name, as in LVIS): what is not written down is not taught as absent. Lists that
        a file has of its own names stay; of a file without such lists all its names were looked for.

        A photo that cannot be read is told by a warning and has nothing found on it.

        Args:
            content: of the file.
            images: folder that its file names are relative to.
            photos: the entries of `content["images"]`, one by one, such as behind a progress bar.

        Raises:
            ValueError: for a file without the object or the anchors, or one that has a part already; for a threshold
                out of 0..1, and a name that the predictor's name table lacks, which would be read as another.
            FileNotFoundError: where a photo is not in the folder.
        """
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be a score from 0 to 1, got {self.threshold}")
        own = {entry["id"] for entry in content["categories"]}
        federated = any("neg_category_ids" in photo for photo in content["images"])
        categories, ids = self._categories(content["categories"])
        objects: dict[Any, list[dict[str, Any]]] = {}
        anchors: dict[Any, list[dict[str, Any]]] = {}
        by_rank = {ids[f"{self.object_name}:{name}"]: rank for rank, name in enumerate(self.anchors)}
        for entry in content["annotations"]:
            if entry["category_id"] == ids[self.object_name]:
                objects.setdefault(entry["image_id"], []).append(entry)
            elif entry["category_id"] in by_rank and "parent_id" in entry:
                anchors.setdefault(entry["parent_id"], []).append(entry)
        annotations, told = list(content["annotations"]), []
        last = max((entry["id"] for entry in annotations), default=0)
        wanted = {**dict.fromkeys(self.singles, 1), **dict.fromkeys(self.pairs, 2)}
        for photo in photos:
            pixels, shown, unsure = None, set[str](), set[str]()
            for one in objects.get(photo["id"], ()):
                at = sorted(anchors.get(one["id"], ()), key=lambda entry: by_rank[entry["category_id"]])
                found: list[Found] = []
                if at:
                    pixels = _pixels(images / photo["file_name"]) if pixels is None else pixels
                    found = self._look(pixels, one["bbox"], at[0]["bbox"], wanted)
                for name, score, mask in found:
                    last += 1
                    region = replace(region_from_mask(name, mask), extra={"score": round(score, 3)})
                    category = ids[f"{self.object_name}:{name}"]
                    entry = to_annotation(region, last, image_id=photo["id"], category_id=category)
                    annotations.append({**entry, "parent_id": one["id"]})
                names = [name for name, _, _ in found]
                shown |= set(names)
                unsure |= {name for name, count in wanted.items() if names.count(name) < count}
            certain = {ids[f"{self.object_name}:{name}"] for name in wanted.keys() - unsure}
            looked_for = set(photo.get("neg_category_ids", ())) if federated else own
            half = {ids[f"{self.object_name}:{name}"] for name in unsure & shown}
            told.append(
                {
                    **photo,
                    "neg_category_ids": sorted(looked_for | certain),
                    "not_exhaustive_category_ids": sorted(half.union(photo.get("not_exhaustive_category_ids", ()))),
                }
            )
        return {**content, "images": told, "categories": categories, "annotations": annotations}

    def _categories(self, known: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, int]]:
        categories = [dict(entry) for entry in known]
        ids = {str(entry["name"]): int(entry["id"]) for entry in categories}
        for name in (self.object_name, *(f"{self.object_name}:{anchor}" for anchor in self.anchors)):
            if name not in ids:
                raise ValueError(f"the file has no category {name!r}; it has {', '.join(sorted(ids)[:8])} ...")
        for part in (*self.singles, *self.pairs):
            name = f"{self.object_name}:{part}"
            if name in ids:
                raise ValueError(f"the file has {name!r} already; leave it out, or extend the file as it was before")
            ids[name] = max(ids.values()) + 1
            categories.append({"id": ids[name], "name": name, "level": "part"})
        return categories, ids

    def _look(
        self, pixels: NDArray[np.uint8], box: Sequence[float], anchor: Sequence[float], wanted: Mapping[str, int]
    ) -> list[Found]:
        """What is found of one object, masks in the photo; boxes are xywh."""
        side = self.first * box[3]
        middle, top = anchor[0] + anchor[2] / 2, anchor[1] - _ABOVE_HAIR * side
        window = _window(middle, top, side, pixels.shape)
        if window is None:
            return []
        seen = self._ask(pixels, window, [self.head], _HEAD)
        heads = _rows(seen, self.head, _in_the_middle(seen, middle - window[0]))
        if not heads:
            return []
        x0, y0, x1, y1 = heads[0][1]
        side, middle = min(max(x1 - x0, y1 - y0), self.second * box[3]), window[0] + (x0 + x1) / 2
        window = _window(middle, window[1] + y0 - _ABOVE_HEAD * side, side, pixels.shape)
        if window is None:
            return []
        seen, found = self._ask(pixels, window, list(wanted), self.threshold), []
        owner = _in_the_middle(seen, middle - window[0])
        for name, count in wanted.items():
            for score, _, mask in _rows(seen, name, owner)[:count]:
                whole = np.zeros(pixels.shape[:2], bool)
                whole[window[1] : window[3], window[0] : window[2]] = mask
                if whole.any():
                    found.append((name, score, whole))
        return found

    def _ask(self, pixels: NDArray[np.uint8], window: Window, parts: list[str], threshold: float) -> Prediction:
        x0, y0, x1, y1 = window
        crop = np.ascontiguousarray(pixels[y0:y1, x0:x1])
        return self.predictor(crop, {self.object_name: parts}, score_threshold=threshold, strict=True)


def _pixels(file: Path) -> NDArray[np.uint8]:
    """Of a photo; none of one that cannot be read, which must not cost what was found on the others."""
    try:
        return read_image(file)
    except ValueError as error:
        warnings.warn(f"nothing is looked for: {error}", stacklevel=2)
        return np.zeros((0, 0, 3), np.uint8)


def _window(middle: float, top: float, side: float, shape: Sequence[int]) -> Window | None:
    """A square cut to the photo; None where less than 16 pixels a side are left."""
    x0, y0 = max(0, round(middle - side / 2)), max(0, round(top))
    x1, y1 = min(shape[1], round(middle + side / 2)), min(shape[0], round(top + side))
    return (x0, y0, x1, y1) if min(x1 - x0, y1 - y0) >= 16 else None


def _in_the_middle(seen: Prediction, middle: float) -> int:
    """Row of the object whose box holds the crop's middle column, the largest of them: a neighbour's parts are not its.
    -1 where there is none."""
    objects = [row for row in range(len(seen)) if int(seen.parent[row]) < 0]
    x0, y0, x1, y1 = seen.boxes.T.tolist() if len(seen) else ((), (), (), ())
    around = [row for row in objects if x0[row] <= middle <= x1[row]]
    return max(around, key=lambda row: (x1[row] - x0[row]) * (y1[row] - y0[row]), default=-1)


def _rows(seen: Prediction, name: str, owner: int) -> list[tuple[float, list[float], NDArray[np.bool_]]]:
    """(score, xyxy, mask) of the parts of a name of an object, best first."""
    rows = [
        row for row in range(len(seen)) if owner >= 0 and int(seen.parent[row]) == owner and seen.names[row] == name
    ]
    rows.sort(key=lambda row: -float(seen.scores[row]))
    assert seen.masks is not None  # a predictor makes them unless it is told not to
    return [(float(seen.scores[row]), seen.boxes[row].tolist(), seen.masks[row].numpy()) for row in rows]
