"""FiftyOne's own dataset on disk: a folder with `metadata.json` and `samples.json`.
https://docs.voxel51.com/user_guide/dataset_creation/datasets.html#fiftyonedataset

Detections of the field `ground_truth`; a part has the attribute `parent`, the id of its object's detection, and each
has `level`. Masks are crops of the box, as NumPy arrays in zlib in base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.basics.files import whole_file, write_json
from partglee.data.annotations.json_stream import stream_lists
from partglee.data.annotations.values import file_name_of, flag
from partglee.data.formats import masks
from partglee.data.formats.names import Names
from partglee.data.formats.shapes import Row, Shape, name_of, needs_size, nested, number, rows, size_of, told
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.segmentation import MAX_PIXELS

FIELD = "ground_truth"
VERSION = "1.0.0"  # of FiftyOne, from which on a file of this form is read; newer ones migrate it
_LABELS = "fiftyone.core.labels"


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """One image for each sample: its field `ground_truth`, or else its first one with detections.

    Raises:
        ValueError: for a folder without `samples.json`, or a sample that cannot be read, with its number.
    """
    file = path / "samples.json" if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"'{path}' is no FiftyOne dataset: it has no samples.json (type fo.types.FiftyOneDataset)")
    count = 0
    for key, sample in stream_lists(file):
        if key != "samples" or sample is None:
            continue
        count += 1
        with told(f"FiftyOne file '{file}', sample {count}"):
            image = _sample(sample, notes)
        yield image
    if not count:
        raise ValueError(f"FiftyOne file '{file}' has no samples")


def _sample(sample: Any, notes: Counter[str]) -> AnnotatedImage:
    if not isinstance(sample, Mapping):
        raise ValueError(f"it must be an object {{...}}, got {sample!r:.40}")
    if sample.get("_media_type", "image") != "image":
        raise ValueError(f"it is no image, but {sample['_media_type']!r:.30}")
    name = file_name_of(sample["filepath"], "filepath")
    metadata = sample.get("metadata")
    size = size_of(metadata.get("height"), metadata.get("width")) if isinstance(metadata, Mapping) else (0, 0)
    shapes = []
    for place, entry in enumerate(_detections(sample, notes), start=1):
        with told(f"detection {place}"):
            shape = _shape(entry, size, notes)
        if shape is not None:
            shapes.append(shape)
    return nested(name.removeprefix("data/"), size, shapes, notes)


def _detections(sample: Mapping[str, Any], notes: Counter[str]) -> list[Any]:
    fields = {
        key: value for key, value in sample.items() if isinstance(value, Mapping) and value.get("_cls") == "Detections"
    }
    others = sum(isinstance(value, Mapping) and "_cls" in value for key, value in sample.items() if key != "metadata")
    if others > 1 or (others and not fields):
        notes["further label fields of a sample (left out)"] += others - bool(fields)
    if not fields:
        return []
    listed = fields.get(FIELD, next(iter(fields.values()))).get("detections") or []
    if not isinstance(listed, list):
        raise ValueError("`detections` must be a list")
    return listed


def _shape(entry: Any, size: tuple[int, int], notes: Counter[str]) -> Shape | None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"it must be an object {{...}}, got {entry!r:.40}")
    if 0 in size:
        raise ValueError("its sample has no metadata with width and height; run dataset.compute_metadata() and export")
    height, width = size
    name = name_of(entry["label"])
    x, y, w, h = (number(value, "bounding_box") for value in entry["bounding_box"])
    if w <= 0 or h <= 0:
        notes["boxes without area (left out)"] += 1
        return None
    found: Any = (None, (x * width, y * height, w * width, h * height))
    if entry.get("mask") is not None:
        mask = _resized(_mask(entry["mask"]), max(round(h * height), 1), max(round(w * width), 1), size)
        found = masks.pixels(mask, round(x * width), round(y * height), size) or found
    elif entry.get("mask_path"):
        notes["masks in files of their own (mask_path; the box is kept)"] += 1
    return Shape(
        name, found[1], found[0], key=_id(entry.get("_id")), parent=_id(_said(entry, "parent")),
        part={"object": False, "part": True}.get(str(_said(entry, "level"))),
        crowd=flag(_said(entry, "iscrowd"), "iscrowd"),
        score=None if entry.get("confidence") is None else number(entry["confidence"], "confidence"),
    )  # fmt: skip


def _id(value: Any) -> str | None:
    found = value.get("$oid") if isinstance(value, Mapping) else value
    return None if found in (None, "") else str(found)


def _said(entry: Mapping[str, Any], key: str) -> Any:
    """An attribute: a field of the detection, or in its older form an entry of `attributes`."""
    if key in entry:
        return entry[key]
    attributes = entry.get("attributes")
    value = attributes.get(key) if isinstance(attributes, Mapping) else None
    return value.get("value") if isinstance(value, Mapping) else value


_UNREADABLE = (
    zlib.error, binascii.Error, ValueError, EOFError, SyntaxError, TypeError, OverflowError, MemoryError,
)  # fmt: skip


def _mask(value: Any) -> NDArray[np.bool_]:
    """(h, w) from bytes of MongoDB's extended JSON, in its newer or its older form."""
    binary = value.get("$binary") if isinstance(value, Mapping) else None
    text = binary.get("base64") if isinstance(binary, Mapping) else binary
    if not isinstance(text, str):
        raise ValueError('its mask must be {"$binary": ...}')
    try:
        unpacker = zlib.decompressobj()
        content = unpacker.decompress(base64.b64decode(text, validate=True), MAX_PIXELS + 1024)
        if unpacker.unconsumed_tail:
            raise ValueError("it has more pixels than any mask")
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except _UNREADABLE as error:
        raise ValueError(f"its mask cannot be read ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or not array.size or array.dtype.kind not in "biu":
        raise ValueError("its mask must be a NumPy array of height and width")
    return array.astype(bool)


def _resized(mask: NDArray[np.bool_], height: int, width: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """A mask at the size of its box, by the nearest pixel."""
    if mask.shape == (height, width):
        return mask
    if height > 4 * size[0] or width > 4 * size[1]:
        raise ValueError(f"its box of {width} x {height} pixels is far larger than the image")
    y = (np.arange(height) * mask.shape[0]) // height
    x = (np.arange(width) * mask.shape[1]) // width
    return mask[np.ix_(y, x)]


# -- writing -----------------------------------------------------------------------------------------------------------


def write(images: Iterable[AnnotatedImage], path: Path, names: Names) -> None:
    """Write `samples.json`, sample by sample, then `metadata.json`. Images are not copied: file names are relative to
    the folder, or to the `rel_dir` of `fo.Dataset.from_dir`. A box with a mask is the box around its pixels.

    Raises:
        ValueError: for an image whose size is not known.
    """
    with whole_file(path / "samples.json") as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write('{"samples": [')
        for number_, image in enumerate(images):
            stream.write((",\n" if number_ else "\n") + json.dumps(_as_sample(image, number_)))
        stream.write("\n]}\n")
    write_json(_metadata(names), path / "metadata.json")


def _oid(*of: Any) -> str:
    """24 hexadecimal digits, the same for the same entry."""
    return hashlib.sha256("/".join(map(str, of)).encode()).hexdigest()[:24]


def _as_sample(image: AnnotatedImage, number_: int) -> dict[str, Any]:
    size = needs_size(image)
    detections = [_as_detection(entry, row, image.file_name, number_, size) for row, entry in enumerate(rows(image))]
    return {
        "_id": {"$oid": _oid(number_, image.file_name)}, "filepath": image.file_name, "tags": [],
        "metadata": {"_cls": "ImageMetadata", "height": size[0], "width": size[1]},
        "_media_type": "image", "_rand": int(_oid(image.file_name)[:8], 16) / 2**32,
        FIELD: {"_cls": "Detections", "detections": detections},
    }  # fmt: skip


def _as_detection(entry: Row, row: int, file_name: str, number_: int, size: tuple[int, int]) -> dict[str, Any]:
    height, width = size
    region = entry.region
    x, y, w, h = region.box
    mask: dict[str, Any] = {}
    if region.segmentation and (found := masks.crop_of(region, size)) is not None:
        crop, left, top = found
        x, y, w, h = left, top, crop.shape[1], crop.shape[0]
        stream = io.BytesIO()
        np.save(stream, crop, allow_pickle=False)
        packed = base64.b64encode(zlib.compress(stream.getvalue())).decode("ascii")
        mask = {"mask": {"$binary": {"base64": packed, "subType": "00"}}}
    parent = {"parent": _oid(number_, file_name, entry.parent)} if entry.parent >= 0 else {}
    score = {"confidence": region.extra["score"]} if "score" in region.extra else {}
    return {
        "_id": {"$oid": _oid(number_, file_name, row)}, "_cls": "Detection", "attributes": {}, "tags": [],
        "label": region.name, "bounding_box": [x / width, y / height, w / width, h / height], **mask, **score,
        "level": "part" if entry.part else "object", "iscrowd": int(region.crowd), **parent,
    }  # fmt: skip


def _metadata(names: Names) -> dict[str, Any]:
    """The document of the data set: its fields, and the names as its classes."""

    def field(name: str, kind: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "ftype": f"fiftyone.core.fields.{kind}", "db_field": name, "fields": [], **more}

    id_field = {**field("id", "ObjectIdField"), "db_field": "_id"}
    embedded = "EmbeddedDocumentField"
    return {
        "version": VERSION, "name": "partglee", "media_type": "image",
        "sample_fields": [
            id_field, field("filepath", "StringField"),
            field("tags", "ListField", subfield="fiftyone.core.fields.StringField"),
            field("metadata", embedded, embedded_doc_type="fiftyone.core.metadata.ImageMetadata"),
            field(FIELD, embedded, embedded_doc_type=f"{_LABELS}.Detections"),
        ],
        "info": {}, "classes": {FIELD: list(dict.fromkeys([*names.objects, *names.parts]))}, "default_classes": [],
        "mask_targets": {}, "default_mask_targets": {}, "saved_views": [], "annotation_runs": {}, "brain_methods": {},
        "evaluations": {}, "runs": {}, "workspaces": [],
    }  # fmt: skip
