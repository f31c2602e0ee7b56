"""Writing hierarchical COCO JSON, whole and split into training and validation."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from partglee.basics.files import whole_file, write_json
from partglee.data.annotations.categories import split_part_name
from partglee.data.prepare.regions import Region

_MARK = '"made_by":"partglee"'


@dataclass(frozen=True, slots=True)
class AnnotatedImage:
    """One image with its objects; parts hang under their objects."""

    file_name: str  # relative to the image folder
    height: int
    width: int
    objects: tuple[Region, ...]
    image_id: int | None = None  # None: numbered in file order, from 1
    loose: tuple[Region, ...] = ()  # parts whose object is not known


def write_splits(
    images: Iterable[AnnotatedImage],
    output: str | Path,
    *,
    categories: Sequence[Mapping[str, Any]],
    description: str,
    val_share: float = 0.1,
) -> dict[str, Path]:
    """Write `train.json` and `val.json`; validation is the last share of the images in order of their file names.

    Returns:
        {"train": path, "val": path}

    Raises:
        ValueError: for no image at all, a share outside 0..1 (exclusive of 1), or a name that is no category.
    """
    if not 0 <= val_share < 1:
        raise ValueError(f"val_share must be in [0, 1), got {val_share}")
    ordered = sorted(images, key=lambda image: image.file_name)
    if not ordered:
        raise ValueError("no image was found; is the folder of raw data the right one?")
    numbered = [
        (image.image_id if image.image_id is not None else number, image)
        for number, image in enumerate(ordered, start=1)
    ]
    first = len(ordered) - num_validation(len(ordered), val_share)
    paths = {"train": Path(output) / "train.json", "val": Path(output) / "val.json"}
    for name, chosen in (("train", numbered[:first]), ("val", numbered[first:])):
        content = to_coco(chosen, categories, description=f"{description}, {name}")
        write_json(content, paths[name])
    return paths


def write_set(
    images: Iterable[AnnotatedImage],
    file: str | Path,
    *,
    categories: Sequence[Mapping[str, Any]],
    description: str,
    notes: Mapping[str, int] | None = None,
    replace: bool = False,
) -> dict[str, Any]:
    """Write all images, in the order given, into one file, with what the reader noted (recorded under `info`).

    Args:
        notes: what was left out or repaired -> how often; read when the last image is.
        replace: also take the place of a file that was not written by this function.

    Returns:
        The content, as it was written.

    Raises:
        ValueError: for no image at all, a name that is no category, or a file that someone else wrote.
    """
    path = Path(file)
    if path.is_file() and not replace and _MARK not in _head(path):
        raise ValueError(f"{path} is there and was not made by this script; move it away, or pass --replace")
    listed = list(images)
    if not listed:
        raise ValueError("no image was found; is the folder of raw data the right one?")
    numbered = [(number if image.image_id is None else image.image_id, image) for number, image in enumerate(listed, 1)]
    content = to_coco(numbered, categories, description=description)
    content["info"].update(notes=dict(notes or {}), parts_without_parent=sum(len(image.loose) for image in listed))
    write_json(content, path)
    return content


def _head(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.read(200)


def without_objects(images: Iterable[AnnotatedImage], objects: Collection[str]) -> Iterator[AnnotatedImage]:
    """The images without annotations of some objects and of their parts; an image that has no others stays."""

    def kept(regions: tuple[Region, ...]) -> tuple[Region, ...]:
        return tuple(r for r in regions if (split_part_name(r.name) or (r.name, ""))[0] not in objects)

    for image in images:
        yield replace(image, objects=kept(image.objects), loose=kept(image.loose))


def num_validation(count: int, share: float) -> int:
    """Images of `count` that go to validation: the share rounded, at least one of two or more when the share is > 0."""
    if share <= 0 or count < 2:
        return 0
    return max(1, round(count * share))


def to_coco(
    images: Sequence[tuple[int, AnnotatedImage]], categories: Sequence[Mapping[str, Any]], *, description: str
) -> dict[str, Any]:
    """(image id, image) pairs -> the dict of a hierarchical COCO file; annotation ids from 1."""
    category_ids = {str(entry["name"]): entry["id"] for entry in categories}
    annotations: list[dict[str, Any]] = []

    def add(image_id: int, region: Region, parent: int | None) -> int:
        if region.name not in category_ids:
            raise ValueError(f"{region.name!r} is not among the categories {sorted(category_ids)[:8]} ...")
        number = len(annotations) + 1
        annotations.append(to_annotation(region, number, image_id=image_id, category_id=category_ids[region.name]))
        if parent is not None:
            annotations[-1]["parent_id"] = parent
        return number

    for image_id, image in images:
        for region in image.objects:
            parent = add(image_id, region, None)
            for part in region.parts:
                add(image_id, part, parent)
        for part in image.loose:
            add(image_id, part, None)
    return {
        "info": {"made_by": "partglee", "description": description},
        "images": [
            {"id": number, "file_name": image.file_name, "height": image.height, "width": image.width}
            for number, image in images
        ],
        "categories": [dict(entry) for entry in categories],
        "annotations": annotations,
    }


def to_annotation(region: Region, number: int, *, image_id: Any, category_id: Any) -> dict[str, Any]:
    """A region as the entry `number` of a hierarchical COCO file; a part's `parent_id` is for whoever knows it."""
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [round(value, 2) for value in region.box],
        "area": round(region.area, 2),
        "iscrowd": int(region.crowd),
        "segmentation": region.segmentation,
        **region.extra,
    }


class StreamedFile:
    """A hierarchical COCO file whose annotations go to disk one by one; images are kept until the end."""

    def __init__(self, stream: TextIO) -> None:
        self.images: list[dict[str, Any]] = []
        self._stream = stream
        self._separator = ""

    def add(self, annotation: Mapping[str, Any]) -> None:
        """Write one annotation."""
        self._stream.write(self._separator + json.dumps(annotation, separators=(",", ":")))
        self._separator = ","


@contextmanager
def streamed_file(file: Path, *, categories: Sequence[Mapping[str, Any]], description: str) -> Iterator[StreamedFile]:
    """A file that is written entry by entry and appears when the block ends well."""
    with whole_file(file) as beside, beside.open("w", encoding="utf-8") as stream:
        head = {"info": {"made_by": "partglee", "description": description}, "categories": categories}
        stream.write(json.dumps(head)[:-1] + ', "annotations": [')
        streamed = StreamedFile(stream)
        yield streamed
        stream.write(f'], "images": {json.dumps(streamed.images)}}}')
