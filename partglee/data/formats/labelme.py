"""labelme: a folder with one JSON file for each image. https://github.com/wkentaro/labelme

`group_id` numbers the instances (shapes of one label and group are one instance, as the tool's own converters read
it); `parent_id`, a key that the tool keeps, is the `group_id` of the object, and the flag `part` marks the parts.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.basics.files import read_json, whole_file
from partglee.data.annotations.values import file_name_of, flag
from partglee.data.formats import masks
from partglee.data.formats.names import Names
from partglee.data.formats.shapes import (
    Row,
    Shape,
    linked_by_group,
    name_of,
    needs_size,
    nested,
    number,
    rows,
    size_of,
    told,
)
from partglee.data.images import DAMAGE
from partglee.data.prepare.files import AnnotatedImage

VERSION = "5.5.0"  # of the tool whose files these are like


# -- reading -----------------------------------------------------------------------------------------------------------


def files_of(folder: Path) -> list[Path]:
    """Annotation files of a folder and of those in it, sorted."""
    return sorted(file for file in folder.rglob("*.json") if not file.name.startswith("."))


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """One image for each file. Image names are relative to the folder that is read.

    Raises:
        ValueError: for a folder without files, or a file that is not the tool's, with the number of the shape.
    """
    files = files_of(path) if path.is_dir() else [path]
    if not files:
        raise ValueError(f"no labelme file (.json) in '{path}'")
    for file in files:
        content = read_json(file, "labelme file")
        folder = file.parent.relative_to(path) if path.is_dir() else Path()
        with told(f"labelme file '{file}'"):
            image = _image(content, folder.as_posix(), notes)
        yield image


def _image(content: Any, folder: str, notes: Counter[str]) -> AnnotatedImage:
    if not isinstance(content, Mapping) or not isinstance(content.get("shapes"), list):
        raise ValueError("it must be an object with a list of `shapes`, as labelme writes it")
    name = file_name_of(content["imagePath"], "imagePath").replace("\\", "/")
    size = size_of(content.get("imageHeight"), content.get("imageWidth"))
    shapes: dict[Any, Shape] = {}
    groups: dict[Any, Any] = {}
    same = _instances(content["shapes"])
    for place, entry in enumerate(content["shapes"], start=1):
        with told(f"shape {place}"):
            shape = _shape(entry, size, notes)
        if shape is None:
            continue
        group = shape.key
        key = ("shape", place) if group is None or (group, shape.name) not in same else ("group", group, shape.name)
        if key in shapes:
            shapes[key] = _joined(shapes[key], shape)
        else:
            shapes[key], groups[key] = replace(shape, key=key), group
    return nested(_beside(folder, name), size, _linked(shapes, groups), notes)


def _instances(entries: list[Any]) -> set[tuple[Any, Any]]:
    """(group, label) whose shapes are one instance: polygons that are all of their group, or say that they are."""
    labels: dict[Any, set[Any]] = {}
    said: set[Any] = set()
    for entry in entries:
        if isinstance(entry, Mapping) and isinstance(entry.get("group_id"), int) and isinstance(entry["label"], str):
            labels.setdefault(entry["group_id"], set()).add(entry["label"].strip())
            if "parent_id" in entry:
                said.add(entry["group_id"])
    return {(group, label) for group, names in labels.items() if len(names) == 1 or group in said for label in names}


def _linked(shapes: Mapping[Any, Shape], groups: Mapping[Any, Any]) -> list[Shape]:
    """Links by `parent_id` as keys; where a file has none, those of its groups."""
    by_group: dict[Any, Any] = {}
    for key, group in groups.items():
        if group is not None:
            by_group.setdefault(group, key)
    listed = [
        shape if shape.parent is None else replace(shape, parent=by_group.get(shape.parent, ("nothing", shape.parent)))
        for shape in shapes.values()
    ]
    return linked_by_group(listed, list(groups.values()))


def _joined(one: Shape, other: Shape) -> Shape:
    """Two outlines of one instance; of shapes that are no outlines the first stands."""
    if not (isinstance(one.segmentation, list) and isinstance(other.segmentation, list)):
        return one
    (x0, y0, w0, h0), (x1, y1, w1, h1) = one.box, other.box
    x, y = min(x0, x1), min(y0, y1)
    box = (x, y, max(x0 + w0, x1 + w1) - x, max(y0 + h0, y1 + h1) - y)
    return replace(one, segmentation=[*one.segmentation, *other.segmentation], box=box)


def _beside(folder: str, name: str) -> str:
    """`../photos/1.jpg` of a file in `labels` -> `photos/1.jpg`; as it is where it leads out of the folder read."""
    parts: list[str] = []
    for part in (*PurePosixPath(folder).parts, *PurePosixPath(name).parts):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return name if name.startswith("/") else "/".join(parts)


def _shape(entry: Any, size: tuple[int, int], notes: Counter[str]) -> Shape | None:
    if not isinstance(entry, Mapping):
        raise ValueError(f"it must be an object {{...}}, got {entry!r:.40}")
    name = name_of(entry["label"])
    kind = str(entry.get("shape_type") or "polygon")
    group, parent = entry.get("group_id"), entry.get("parent_id")
    for what, value in (("group_id", group), ("parent_id", parent)):
        if value is not None and type(value) is not int:
            raise ValueError(f"{what} must be a whole number or null, got {value!r:.40}")
    found = _geometry(kind, entry, size, notes)
    if found is None:
        return None
    flags = entry.get("flags") or {}
    if not isinstance(flags, Mapping):
        raise ValueError(f"flags must be an object, got {flags!r:.40}")
    part = flag(flags["part"], "the flag part") if "part" in flags else None
    crowd = flag(flags.get("crowd"), "the flag crowd")
    return Shape(name, found[1], found[0], key=group, parent=parent, part=part, crowd=crowd)


def _geometry(kind: str, entry: Mapping[str, Any], size: tuple[int, int], notes: Counter[str]) -> Any:
    """(segmentation, box xywh), None for a shape without area."""
    points = [(number(x, "a point"), number(y, "a point")) for x, y in entry["points"]]
    if kind == "polygon":
        return masks.outlines([[value for point in points for value in point]], size, notes)
    if kind == "circle" and len(points) == 2:  # its centre and a point on it
        (cx, cy), (x, y) = points
        radius = float(np.hypot(x - cx, y - cy))
        return masks.outlines([masks.ellipse(cx, cy, radius, radius)], size, notes)
    if kind in ("rectangle", "mask") and len(points) == 2:
        (x0, y0), (x1, y1) = np.sort(points, axis=0).tolist()
        if kind == "mask":
            found = masks.pixels(_crop(entry.get("mask"), size), round(x0), round(y0), size)
        else:
            found = (None, (x0, y0, x1 - x0, y1 - y0)) if x1 > x0 and y1 > y0 else None
        if found is None:
            notes["boxes and masks without area (left out)"] += 1
        return found
    if kind == "oriented_rectangle" or (kind in ("rectangle", "mask", "circle") and len(points) > 2):
        return masks.outlines([[value for point in points for value in point]], size, notes)
    notes[f"shapes of the kind {kind:.30} (left out)"] += 1
    return None


def _crop(text: Any, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The PNG of a `mask` shape."""
    if not isinstance(text, str):
        raise ValueError("a shape of the kind mask needs `mask`, a PNG in base64")
    try:
        with Image.open(io.BytesIO(base64.b64decode(text, validate=True)), formats=("PNG",)) as picture:
            if picture.height > max(size[0], 1) + 1 or picture.width > max(size[1], 1) + 1:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than the image")
            picture.load()
            values = np.asarray(picture)
    except (*DAMAGE, ValueError, binascii.Error, Image.DecompressionBombError) as error:
        raise ValueError(f"its mask is no readable PNG ({error})") from error
    return np.asarray(values if values.ndim == 2 else values.max(axis=-1)) > 0


# -- writing -----------------------------------------------------------------------------------------------------------


def write(images: Iterable[AnnotatedImage], path: Path, names: Names) -> None:
    """Write `FOLDER/IMAGE.json` for each image, named and placed as the image; each file appears whole.

    Raises:
        ValueError: for two images of one name but for the ending, an absolute name, or an image of unknown size.
    """
    del names
    seen: set[str] = set()
    for image in images:
        place = PurePosixPath(image.file_name)
        if place.is_absolute() or ".." in place.parts:
            raise ValueError(f"image {image.file_name!r} leads out of the folder that labelme's files are written to")
        target = place.with_suffix(".json")
        if str(target) in seen:
            raise ValueError(f"two images would have the labelme file '{target}'; give them different names")
        seen.add(str(target))
        with whole_file(path / target) as beside:
            beside.write_text(json.dumps(_as_file(image, place.name), ensure_ascii=False, indent=2), encoding="utf-8")


def _as_file(image: AnnotatedImage, name: str) -> dict[str, Any]:
    height, width = needs_size(image)
    shapes = [shape for row, entry in enumerate(rows(image)) for shape in _as_shapes(entry, row, (height, width))]
    return {
        "version": VERSION, "flags": {}, "shapes": shapes, "imagePath": name, "imageData": None,
        "imageHeight": height, "imageWidth": width,
    }  # fmt: skip


def _as_shapes(entry: Row, row: int, size: tuple[int, int]) -> Iterator[dict[str, Any]]:
    region = entry.region
    common = {
        "label": region.name, "group_id": row + 1, "parent_id": entry.parent + 1 if entry.parent >= 0 else None,
        "description": "", "flags": {"part": entry.part, **({"crowd": True} if region.crowd else {})}, "mask": None,
    }  # fmt: skip
    if isinstance(region.segmentation, dict) and (found := masks.crop_of(region, size)) is not None:
        crop, left, top = found
        stream = io.BytesIO()
        Image.fromarray(crop.astype(np.uint8) * 255).save(stream, format="PNG")
        corners = [[left, top], [left + crop.shape[1] - 1, top + crop.shape[0] - 1]]
        mask = base64.b64encode(stream.getvalue()).decode("ascii")
        yield {**common, "points": corners, "shape_type": "mask", "mask": mask}
        return
    for polygon in region.segmentation if isinstance(region.segmentation, list) else ():
        points = [list(point) for point in zip(polygon[::2], polygon[1::2], strict=True)]
        yield {**common, "points": points, "shape_type": "polygon"}
    if not region.segmentation:
        x, y, w, h = region.box
        yield {**common, "points": [[x, y], [x + w, y + h]], "shape_type": "rectangle"}
