"""Records of any reader as the content of a hierarchical COCO file, so that what works on files works on them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from partglee.data.records import Instance, Records, Segmentation
from partglee.structures import Vocabulary


def as_content(records: Records, rows: Iterable[int]) -> tuple[dict[str, Any], list[str]]:
    """Some images of a data set. File names are absolute; ids of categories and annotations are new, from 1.

    Args:
        rows: places of the images; the id of each is its place + 1.

    Returns:
        The content, and for each image that cannot be read the reason.
    """
    vocabulary = records.vocabulary
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    problems: list[str] = []
    num_objects = len(vocabulary.object_names)
    for row in rows:
        try:
            record = records[row]
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        image_id, before = row + 1, len(annotations)
        name = str(record.file.absolute()) if record.pixels is None else ""
        images.append({"id": image_id, "file_name": name, "height": record.height, "width": record.width})
        for instance in record.objects:
            annotations.append(_entry(instance, image_id, len(annotations) + 1, instance.label + 1))
        for instance in record.parts:
            entry = _entry(instance, image_id, len(annotations) + 1, num_objects + instance.label + 1)
            annotations.append(entry | ({"parent_id": before + instance.parent + 1} if instance.parent >= 0 else {}))
    return {"images": images, "categories": _categories(vocabulary), "annotations": annotations}, problems


def _entry(instance: Instance, image_id: int, number: int, category: int) -> dict[str, Any]:
    x0, y0, x1, y1 = instance.box
    entry = {"id": number, "image_id": image_id, "category_id": category, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    if instance.segmentation is not None:
        entry["segmentation"] = _as_json(instance.segmentation)
    return entry | {"iscrowd": int(instance.crowd)}


def _as_json(segmentation: Segmentation) -> Any:
    if isinstance(segmentation, tuple):
        return [list(polygon) for polygon in segmentation]
    assert segmentation is not None
    counts = segmentation["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in segmentation["size"]], "counts": text}


def _categories(vocabulary: Vocabulary) -> list[dict[str, Any]]:
    """Objects, then parts as "object:part"; a part of several objects has its own name and lists them."""
    entries: list[dict[str, Any]] = [{"name": name, "level": "object"} for name in vocabulary.object_names]
    for name, rows in zip(vocabulary.part_names, vocabulary.part_owner, strict=True):
        owners = [vocabulary.object_names[row] for row in rows]
        full = f"{owners[0]}:{name}" if len(owners) == 1 else name
        entries.append({"name": full, "level": "part", "owners": owners})
    return [{"id": number, **entry} for number, entry in enumerate(entries, start=1)]
