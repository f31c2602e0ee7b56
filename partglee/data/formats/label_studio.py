"""Label Studio's JSON export: a list of tasks. https://labelstud.io/guide/export and /guide/task_format

A part has the `parentID` of its object, as the region tree of the tool writes it; relations between regions are read
too. Coordinates are percents of the image.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from partglee.basics.files import whole_file
from partglee.data.annotations.json_stream import stream_entries
from partglee.data.annotations.values import file_name_of
from partglee.data.formats import brush, masks
from partglee.data.formats.names import Names
from partglee.data.formats.shapes import Row, Shape, name_of, needs_size, nested, number, rows, size_of, told
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.segmentation import decode

_KINDS = ("rectanglelabels", "polygonlabels", "brushlabels", "ellipselabels")
_LOCAL = "/data/local-files/?d="  # how the tool names files of its own disk
_OF, _HAS = ("part of", "part_of", "is part of"), ("has", "has part", "has_part")


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """One image for each task: of its annotations the first that was not cancelled, or else its first prediction.

    Raises:
        ValueError: for a file that is no list of tasks, with the number of the task and of the region.
    """
    count = 0
    for count, task in enumerate(stream_entries(path), start=1):
        with told(f"Label Studio file '{path}', task {count}"):
            image = _task(task, notes)
        yield image
    if not count:
        raise ValueError(f"Label Studio file '{path}' has no task")


def _task(task: Any, notes: Counter[str]) -> AnnotatedImage:
    if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
        raise ValueError("a task must have `data`; export as 'JSON', not 'JSON-MIN' or 'CSV'")
    data = task["data"]
    results, predicted = _results(task, notes)
    name = _file_name(data, results)
    size = size_of(data.get("height"), data.get("width"))
    for place, entry in enumerate(results, start=1):
        if size == (0, 0) and "original_width" in entry:
            with told(f"region {place}"):
                size = size_of(entry.get("original_height"), entry["original_width"])
    parents = _relations(results, notes)
    shapes: list[Shape] = []
    for place, entry in enumerate(results, start=1):
        if entry.get("type") == "relation":
            continue
        with told(f"region {place} ({entry.get('id', 'without id')!s:.30})"):
            shape = _region(entry, size, parents, predicted, notes)
        if shape is not None:
            shapes.append(shape)
    return nested(name, size, shapes, notes)


def _results(task: Mapping[str, Any], notes: Counter[str]) -> tuple[list[Any], bool]:
    """(the regions and relations of a task, whether a model made them)."""
    for key in ("annotations", "completions", "predictions"):
        listed = task.get(key) or []
        if not isinstance(listed, list) or not all(isinstance(entry, Mapping) for entry in listed):
            raise ValueError(f"`{key}` must be a list of objects")
        usable = [entry for entry in listed if not entry.get("was_cancelled")]
        if usable:
            if len(usable) > 1:
                notes["further annotations of a task (left out)"] += len(usable) - 1
            results = usable[0].get("result") or []
            if not isinstance(results, list) or not all(isinstance(entry, Mapping) for entry in results):
                raise ValueError("`result` must be a list of regions")
            return results, key == "predictions"
    return [], False


def _file_name(data: Mapping[str, Any], results: list[Any]) -> str:
    """The image of a task: the key that its regions mean, or else `image`, or the only text."""
    texts = [key for key, value in data.items() if isinstance(value, str)]
    key = "image" if "image" in texts else texts[0] if len(texts) == 1 else None
    if key is None:
        raise ValueError(f"`data` has no `image`, but {sorted(map(str, data))[:5]}")
    address = str(data[key])
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path) if parts.scheme or parts.path.startswith("/data/") else address
    if name.startswith("/data/upload/"):
        name = PurePosixPath(name).name
    return file_name_of(name.lstrip("/") if parts.scheme else name, "the address of the image")


def _relations(results: list[Any], notes: Counter[str]) -> dict[Any, Any]:
    """Region -> the one it belongs to: relations go from the part to its object, unless they are called "has"."""
    parents: dict[Any, Any] = {}
    for entry in results:
        if entry.get("type") != "relation":
            continue
        labels = entry.get("labels") or []
        words = {str(label).strip().lower() for label in labels} if isinstance(labels, list) else set()
        if words and not words & {*_OF, *_HAS}:
            notes["relations of other kinds than 'part of' and 'has' (left out)"] += 1
            continue
        part, thing = str(entry.get("from_id")), str(entry.get("to_id"))
        if bool(words & set(_HAS)) != (entry.get("direction") == "left"):
            part, thing = thing, part
        parents[part] = thing
    return parents


def _region(
    entry: Mapping[str, Any], size: tuple[int, int], parents: Mapping[Any, Any], predicted: bool, notes: Counter[str]
) -> Shape | None:
    kind, value = str(entry.get("type")).lower(), entry.get("value")
    if kind not in _KINDS or not isinstance(value, Mapping):
        notes[f"regions of the kind {kind:.30} (left out)"] += 1
        return None
    if not value.get(kind):
        notes["regions without a label (left out)"] += 1
        return None
    labels = value[kind]
    if not isinstance(labels, list):
        raise ValueError(f"`{kind}` must be a list of labels, got {labels!r:.40}")
    if len(labels) > 1:
        notes["further labels of a region (left out)"] += 1
    if number(entry.get("image_rotation") or 0, "image_rotation"):
        raise ValueError("the image is rotated in the tool; turn the file upright, and label it so")
    found = _geometry(kind, value, size, notes)
    if found is None:
        return None
    said = _meta(entry)
    key = None if entry.get("id") is None else str(entry["id"])
    parent = entry.get("parentID") or parents.get(key)
    level = {"object": False, "part": True}
    score = entry.get("score", value.get("score")) if predicted else None
    return Shape(
        name_of(labels[0]), found[1], found[0], key=key, parent=None if parent is None else str(parent),
        part=next((level[word] for word in said if word in level), None), crowd="crowd" in said,
        score=None if score is None else number(score, "score"),
    )  # fmt: skip


def _meta(entry: Mapping[str, Any]) -> list[str]:
    """The words of a region's note."""
    meta = entry.get("meta")
    texts = meta.get("text") if isinstance(meta, Mapping) else None
    listed = texts if isinstance(texts, list) else [texts]
    return [word for text in listed if isinstance(text, str) for word in text.strip().lower().split()]


def _pixels(percent: Any, what: str, side: int) -> float:
    """A coordinate in pixels, without the error of percents: at half a pixel it would move a mask's edge."""
    return round(number(percent, what) * side / 100, 6)


def _geometry(kind: str, value: Mapping[str, Any], size: tuple[int, int], notes: Counter[str]) -> Any:
    """(segmentation, box xywh), None for a region without area."""
    if 0 in size:
        raise ValueError("neither `original_width` and `original_height` nor `data` says the size of the image")
    height, width = size
    if kind == "brushlabels":
        found = masks.pixels(brush.unpack(value["rle"], height, width), 0, 0, size)
        if found is None:
            notes["masks without a pixel (left out)"] += 1
        return found

    def wide(key: str) -> float:
        return _pixels(value[key], key, width)

    def high(key: str) -> float:
        return _pixels(value[key], key, height)

    turned = number(value.get("rotation") or 0, "rotation")
    if kind == "polygonlabels":
        points = [
            _pixels(coordinate, "a point", unit)
            for x, y in value["points"]
            for coordinate, unit in ((x, width), (y, height))
        ]
        return masks.outlines([points], size, notes)
    if kind == "ellipselabels":
        curve = masks.ellipse(wide("x"), high("y"), wide("radiusX"), high("radiusY"), turned)
        return masks.outlines([curve], size, notes)
    x, y, w, h = wide("x"), high("y"), wide("width"), high("height")
    if w <= 0 or h <= 0:
        notes["boxes without area (left out)"] += 1
        return None
    if not turned:
        return None, (x, y, w, h)
    return masks.outlines([masks.rectangle(x, y, w, h, turned, (x, y))], size, notes)


# -- writing -----------------------------------------------------------------------------------------------------------


def write(images: Iterable[AnnotatedImage], path: Path, names: Names) -> None:
    """Write a list of tasks, one by one; the file appears when it is whole. Images are named as files of the tool's
    disk (`/data/local-files/?d=NAME`). An instance of several polygons becomes a brush.

    Raises:
        ValueError: for an image whose size is not known.
    """
    del names
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write("[")
        for number_, image in enumerate(images, start=1):
            stream.write((",\n" if number_ > 1 else "\n") + json.dumps(_as_task(image, number_), ensure_ascii=False))
        stream.write("\n]\n")


def _as_task(image: AnnotatedImage, number_: int) -> dict[str, Any]:
    height, width = needs_size(image)
    listed = rows(image)
    results = [_result(entry, row, number_, (height, width)) for row, entry in enumerate(listed)]
    data = {"image": _LOCAL + quote(image.file_name), "width": width, "height": height}
    if any("score" in entry.region.extra for entry in listed):  # a model's: the tool shows them for correction
        return {"id": number_, "data": data, "annotations": [], "predictions": [{"id": number_, "result": results}]}
    made = {"id": number_, "completed_by": 1, "was_cancelled": False, "result": results}
    return {"id": number_, "data": data, "annotations": [made], "predictions": []}


def _result(entry: Row, row: int, number_: int, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    region = entry.region
    x, y, w, h = region.box
    kind = "rectangle"
    value: dict[str, Any] = {
        "x": 100 * x / width, "y": 100 * y / height, "width": 100 * w / width, "height": 100 * h / height, "rotation": 0
    }  # fmt: skip
    polygons = region.segmentation if isinstance(region.segmentation, list) else []
    if len(polygons) == 1:
        pairs = zip(polygons[0][::2], polygons[0][1::2], strict=True)
        kind, value = "polygon", {"points": [[100 * x / width, 100 * y / height] for x, y in pairs], "closed": True}
    elif region.segmentation:
        kind, value = "brush", {"format": "rle", "rle": brush.pack(decode(region.segmentation, height, width))}
    result: dict[str, Any] = {
        "id": f"{number_}-{row + 1}", "type": f"{kind}labels", "from_name": kind, "to_name": "image",
        "original_width": width, "original_height": height, "image_rotation": 0, "origin": "manual",
        "value": {**value, f"{kind}labels": [region.name]},
    }  # fmt: skip
    if entry.parent >= 0:
        result["parentID"] = f"{number_}-{entry.parent + 1}"
    words = [*(["part"] if entry.part and entry.parent < 0 else []), *(["crowd"] if region.crowd else [])]
    if words:
        result["meta"] = {"text": words}
    if "score" in region.extra:
        result["score"] = region.extra["score"]
    return result
