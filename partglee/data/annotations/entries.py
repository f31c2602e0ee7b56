"""Records of any reader as the content of a hierarchical COCO file, so that what works on files works on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from partglee.data.annotations.expressions import entry_of
from partglee.data.records import ImageRecord, Records, Segmentation
from partglee.structures import Vocabulary


def as_content(records: Records, rows: Iterable[int]) -> tuple[dict[str, Any], list[str]]:
    """Some images of a data set. File names are absolute; ids of categories and annotations are new, from 1.

    Args:
        rows: places of the images; the id of each is its place + 1.

    Returns:
        The content, and for each image that cannot be read the reason.
    """
    num_objects, num_parts = len(records.vocabulary.object_names), len(records.vocabulary.part_names)
    ids = range(1, num_objects + 1), range(num_objects + 1, num_objects + num_parts + 1)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    problems: list[str] = []
    for row in rows:
        try:
            record = records[row]
        except (ValueError, OSError) as error:
            problems.append(str(error))
            continue
        drawn = record.pixels is not None and not record.file.is_file()  # in memory alone
        name = "" if drawn else str(record.file.absolute())
        images.append({"id": row + 1, "file_name": name, "height": record.height, "width": record.width})
        if record.expressions:
            middle = len(annotations) + 1 + len(record.objects)
            own = range(len(annotations) + 1, middle), range(middle, middle + len(record.parts))
            images[-1]["expressions"] = [entry_of(said, *own) for said in record.expressions]
        for entry in annotation_entries(record, ids, image_id=row + 1, first_id=len(annotations) + 1):
            if "segmentation" in entry:
                entry["segmentation"] = _as_json(entry["segmentation"])
            annotations.append(entry)
    return {
        "images": images, "categories": category_entries(records.vocabulary, ids), "annotations": annotations,
    }, problems  # fmt: skip


def annotation_entries(
    record: ImageRecord, category_ids: tuple[Sequence[int], Sequence[int]], *, image_id: int, first_id: int
) -> Iterator[dict[str, Any]]:
    """The annotations of one image: objects, then parts with the `parent_id` of those whose object is known.

    Args:
        category_ids: of each object label and of each part label.
        first_id: `id` of the first; the others count on.

    Returns:
        Entries of a COCO file, whose `segmentation` is still that of the record.
    """
    rows = [(0, instance) for instance in record.objects] + [(1, instance) for instance in record.parts]
    for number, (level, instance) in enumerate(rows, start=first_id):
        x0, y0, x1, y1 = instance.box
        entry: dict[str, Any] = {
            "id": number, "image_id": image_id, "category_id": category_ids[level][instance.label],
            # Rounded: the sum and difference of the file's numbers is not quite the width that it says.
            "bbox": [x0, y0, round(x1 - x0, 9), round(y1 - y0, 9)], "iscrowd": int(instance.crowd),
        }  # fmt: skip
        if instance.segmentation is not None:
            entry["segmentation"] = instance.segmentation
        if level == 1 and instance.parent >= 0:
            entry["parent_id"] = first_id + instance.parent
        yield entry


def category_entries(vocabulary: Vocabulary, category_ids: tuple[Sequence[int], Sequence[int]]) -> list[dict[str, Any]]:
    """Objects, then parts as "object:part"; a part of several objects has its own name and lists them.

    Args:
        category_ids: of each object label and of each part label.
    """
    entries: list[dict[str, Any]] = [
        {"id": key, "name": name, "level": "object"}
        for key, name in zip(category_ids[0], vocabulary.object_names, strict=True)
    ]
    for key, name, rows in zip(category_ids[1], vocabulary.part_names, vocabulary.part_owner, strict=True):
        owners = [vocabulary.object_names[row] for row in rows]
        full = f"{owners[0]}:{name}" if len(owners) == 1 else name
        entries.append({"id": key, "name": full, "level": "part", "owners": owners})
    return entries


def _as_json(segmentation: Segmentation) -> Any:
    if isinstance(segmentation, tuple):
        return [list(polygon) for polygon in segmentation]
    assert segmentation is not None
    counts = segmentation["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in segmentation["size"]], "counts": text}
