"""Pictures of annotated images, so that people can see what a file says."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from partglee.basics.files import write_jpeg
from partglee.data.annotations.categories import has_levels, image_file_name, is_part_category, part_pair
from partglee.data.annotations.entries import as_content
from partglee.data.annotations.expressions import is_old_form
from partglee.data.annotations.values import flag
from partglee.data.images import read_image
from partglee.data.records import Records
from partglee.data.segmentation import decode, encode_segmentation, is_finite
from partglee.structures.prediction import Prediction
from partglee.visualization.draw import draw_prediction
from partglee.visualization.expressions import Told, draw_expressions

_TRIES = 20  # images looked at for each picture
_SENTENCES = 6  # expressions of an image that are drawn


def draw_annotations(content: Mapping[str, Any], images: Path, output: Path, *, number: int = 10) -> list[Path]:
    """Draw images of an annotation file, spread over its length, those without annotations left out.

    An image with expressions is drawn once for each of them, at most `_SENTENCES`, with what it means.

    Annotations that cannot be drawn (no box, unknown category, damaged mask) and image files that cannot be read are
    left out too: `partglee.data.checks.content` names them.

    Args:
        content: a hierarchical COCO dict.
        images: folder of the images.
        output: folder for the pictures, made when it is not there.

    Returns:
        The pictures, JPEG files.
    """
    of_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in _with_keys(content["annotations"], "id", "image_id", "category_id"):
        of_image[entry["image_id"]].append(entry)
    found = [
        entry for entry in _with_keys(content["images"], "id")
        if (of_image[entry["id"]] or entry.get("expressions")) and (entry.get("file_name") or entry.get("coco_url"))
    ]  # fmt: skip
    named = _with_keys(content["categories"], "id", "name")
    names = {entry["id"]: entry for entry in named if isinstance(entry["name"], str)}
    linked = any(entry.get("parent_id") is not None for entries in of_image.values() for entry in entries)
    if not has_levels(list(names.values()), linked=linked):  # objects alone, whatever their names look like
        names = {key: {**entry, "level": "object"} for key, entry in names.items()}
    chosen = [found[place * len(found) // number] for place in range(number)] if len(found) > number else found
    paths: list[Path] = []
    for entry in chosen:
        try:
            pixels = read_image(images / image_file_name(entry))
        except (OSError, ValueError):
            continue
        size = (pixels.shape[0], pixels.shape[1])
        path = output / f"{Path(image_file_name(entry)).stem}_{entry['id']}.jpg"
        told = _told(entry, of_image[entry["id"]], names, size)
        if told:
            write_jpeg(draw_expressions(told, pixels), path)
        else:
            prediction = annotated_prediction(of_image[entry["id"]], names, size)
            write_jpeg(draw_prediction(prediction, pixels, scores=False, scale=None), path)
        paths.append(path)
    return paths


def _told(
    image: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
    categories: Mapping[Any, Mapping[str, Any]],
    size: tuple[int, int],
) -> list[Told]:
    """Expressions of an image, as far as they can be read, spread over the list."""
    said: Any = image.get("expressions")
    if is_old_form(said):
        objects = [entry for entry in entries if not is_part_category(categories.get(entry["category_id"], {}))]
        lists = [said] if isinstance(said[0], str) else said
        said = [
            {"text": text, "objects": [thing["id"]]}
            for some, thing in zip(lists, objects, strict=False)
            if isinstance(some, list)
            for text in some
        ]
    told = []
    for one in said if isinstance(said, list) else ():
        if isinstance(one, Mapping) and isinstance(one.get("text"), str):
            ids = [key for level in ("objects", "parts") for key in one.get(level) or ()]
            meant = [entry for entry in entries if entry["id"] in ids]
            told.append(Told(one["text"], annotated_prediction(meant, categories, size), not ids))
    step = max(1, len(told) // _SENTENCES)
    return told[::step][:_SENTENCES]


def draw_records(records: Records, output: Path, *, number: int = 10, seed: int = 0) -> list[Path]:
    """Draw random images of a data set: as it is read, so after the repairs of docs/datasets.md.

    Images without annotations, or whose file is not there, are passed over, up to `_TRIES` for each picture.

    Args:
        output: folder for the pictures, made when there is one.
        seed: equal seeds choose equal images.

    Returns:
        The pictures, JPEG files, `number` of them or fewer.
    """
    order = np.random.default_rng(seed).permutation(len(records))
    chosen: list[int] = []
    for row in order[: _TRIES * number].tolist():
        if len(chosen) == number:
            break
        try:
            record = records[row]
        except (ValueError, OSError):
            continue
        if (record.objects or record.parts or record.expressions) and record.file.is_file():
            chosen.append(row)
    content, _ = as_content(records, sorted(chosen))
    return draw_annotations(content, Path(), output, number=number)


def annotated_image(records: Records, row: int, size: tuple[int, int]) -> Prediction:
    """The annotations of one image of a data set as a prediction with scores of 1; crowds are left out.

    Args:
        row: of the image.
        size: height and width of the image.
    """
    content, _ = as_content(records, [row])
    categories = {entry["id"]: entry for entry in content["categories"]}
    return annotated_prediction(content["annotations"], categories, size)


def annotated_prediction(
    entries: Sequence[Mapping[str, Any]], categories: Mapping[Any, Mapping[str, Any]], size: tuple[int, int]
) -> Prediction:
    """Annotations of one image as a prediction with scores of 1; crowds and what is unusable are left out.

    Args:
        categories: category id -> entry of the file.
        size: height and width of the image.
    """
    rows: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        category = categories.get(entry.get("category_id"))
        box = entry.get("bbox")
        if category is None or _is_crowd(entry) or "id" not in entry or not _is_box(box):
            continue
        box = _inside(box, size)
        if box is None:
            continue
        link = entry.get("parent_id")
        link = entry.get("obj_ann_id") if link is None else link
        is_part = is_part_category(category)
        pair = part_pair(category) if is_part else None
        rows[entry["id"]] = {
            "id": entry["id"],
            "name": category["name"] if pair is None else pair[1],
            "level": "part" if is_part else "object",
            "bbox": box,
            "category_id": category["id"],
            "score": 1.0,
            "parent_id": link if _is_key(link) else None,
            **_mask(entry.get("segmentation"), size),
        }
    for row in rows.values():
        above = rows.get(row["parent_id"])
        if row["level"] == "object" or above is None or above["level"] == "part":
            row["parent_id"] = None
    return Prediction.from_coco(rows.values(), image_size=size)


def _mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    """Nothing where there is no mask or a damaged one: then the image is drawn with boxes alone."""
    try:
        encoded = encode_segmentation(segmentation, size, what="annotation")
        decode(encoded, *size)
    except (ValueError, TypeError, KeyError):
        return {}
    return {"segmentation": {"size": encoded["size"], "counts": encoded["counts"].decode("ascii")}}


def _with_keys(entries: Any, *keys: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if isinstance(entry, Mapping) and all(_is_key(entry.get(k)) for k in keys)]


def _inside(box: Sequence[float], size: tuple[int, int]) -> list[float] | None:
    """The part of an xywh box that is in the image; None for nothing."""
    x0, y0 = max(float(box[0]), 0.0), max(float(box[1]), 0.0)
    x1, y1 = min(float(box[0]) + float(box[2]), float(size[1])), min(float(box[1]) + float(box[3]), float(size[0]))
    return [x0, y0, x1 - x0, y1 - y0] if x1 > x0 and y1 > y0 else None


def _is_key(value: Any) -> bool:
    return isinstance(value, (int, float, str))


def _is_box(value: Any) -> TypeGuard[Sequence[float]]:
    """Whether something is four finite numbers."""
    numbers = isinstance(value, (list, tuple)) and all(isinstance(number, (int, float)) for number in value)
    return numbers and len(value) == 4 and all(map(is_finite, value))


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    """What is neither yes nor no is drawn: the check of the file names it."""
    try:
        return flag(entry.get("iscrowd"), "iscrowd")
    except ValueError:
        return False
