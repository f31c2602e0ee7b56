"""CVAT's XML, "CVAT for images 1.1". https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/

Objects and parts are one group (`group_id`); the attributes `id`, `parent_id` and `level` say which belongs to which.
Shapes that people add have none of them: then the group says it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr
from zlib import crc32

import numpy as np

from partglee.basics.files import whole_file
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
    side,
    size_of,
    told,
)
from partglee.data.prepare.files import AnnotatedImage

_CHUNK = 1 << 16
_SHAPES = ("box", "polygon", "mask", "ellipse")
_OTHERS = ("polyline", "points", "skeleton", "cuboid", "tag")
_LONGEST_RUNS = 1 << 24  # characters


# -- reading -----------------------------------------------------------------------------------------------------------


class _Element:
    """A shape of an image, with its attributes as CVAT's users define them."""

    def __init__(self, kind: str, values: Mapping[str, str]) -> None:
        self.kind, self.values = kind, values
        self.attributes: dict[str, str] = {}


class _Images:
    """What the XML parser has seen: whole images wait in `done`."""

    def __init__(self) -> None:
        self.done: list[tuple[Mapping[str, str], list[_Element]]] = []
        self.seen = 0
        self.root: str | None = None
        self.tracks = False
        self._image: tuple[Mapping[str, str], list[_Element]] | None = None
        self._shape: _Element | None = None
        self._attribute: str | None = None
        self._text: list[str] = []

    def start(self, tag: str, values: dict[str, str]) -> None:
        if self.root is None:
            self.root = tag
        self.tracks |= tag == "track"
        if tag == "image" and self._image is None:
            self._image = (values, [])
        elif self._image is not None and self._shape is None and tag in (*_SHAPES, *_OTHERS):
            self._shape = _Element(tag, values)
        elif self._shape is not None and tag == "attribute":
            self._attribute, self._text = values.get("name", ""), []

    def text(self, data: str) -> None:
        if self._attribute is not None:
            self._text.append(data)

    def end(self, tag: str) -> None:
        if tag == "attribute" and self._shape is not None and self._attribute is not None:
            self._shape.attributes[self._attribute] = "".join(self._text)
            self._attribute = None
        elif self._shape is not None and self._image is not None and tag == self._shape.kind:
            self._image[1].append(self._shape)
            self._shape = None
        elif tag == "image" and self._image is not None:
            self.done.append(self._image)
            self._image = None
            self.seen += 1


def read(path: Path, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of a file, or of the `annotations.xml` in a folder.

    Raises:
        ValueError: for a file that is no XML, of a video, with a document type, or with a shape that cannot be read.
    """
    file = path / "annotations.xml" if path.is_dir() else path
    count = 0
    for count, (values, elements) in enumerate(_parsed(file), start=1):
        with told(f"CVAT file '{file}', image {count} ({values.get('name', 'without a name'):.80})"):
            image = _image(values, elements, notes)
        yield image
    if not count:
        raise ValueError(f"CVAT file '{file}' has no <image>; export the task as 'CVAT for images 1.1'")


def _parsed(file: Path) -> Iterator[tuple[Mapping[str, str], list[_Element]]]:
    images = _Images()
    parser = expat.ParserCreate()
    parser.StartElementHandler = images.start
    parser.EndElementHandler = images.end
    parser.CharacterDataHandler = images.text
    parser.StartDoctypeDeclHandler = _refuse_doctype
    with file.open("rb") as stream:
        while True:
            block = stream.read(_CHUNK)
            try:
                parser.Parse(block, not block)
            except (expat.ExpatError, ValueError, LookupError) as error:
                raise ValueError(f"CVAT file '{file}' is not readable XML: {error}") from error
            if images.root not in (None, "annotations"):
                raise ValueError(f"'{file}' is not CVAT's XML: it begins with <{images.root}>, not <annotations>")
            if images.tracks:
                raise ValueError(f"CVAT file '{file}' is of a video (<track>); export it as 'CVAT for images 1.1'")
            yield from images.done
            images.done.clear()
            if not block:
                return


def _refuse_doctype(*_: Any) -> None:
    raise ValueError("it declares a document type, which no CVAT does")


def _image(values: Mapping[str, str], elements: list[_Element], notes: Counter[str]) -> AnnotatedImage:
    size = size_of(values.get("height"), values.get("width"))
    shapes: dict[Any, Shape] = {}
    groups: dict[Any, str | None] = {}
    for place, element in enumerate(elements, start=1):
        if element.kind in _OTHERS:
            notes[f"CVAT shapes of the kind {element.kind} (left out)"] += 1
            continue
        with told(f"shape {place} ({element.kind})"):
            shape = _shape(element, size, notes)
        if shape is None:
            continue
        key: Any = ("shape", place) if shape.key is None else shape.key
        if key in shapes and _same_instance(shapes[key], shape):
            shape = _joined(shapes[key], shape)
        elif key in shapes:  # a copy that someone made in CVAT has the id of its original
            key = ("shape", place)
        shapes[key] = shape
        group = element.values.get("group_id") or None
        groups[key] = None if group == "0" else group
    listed = linked_by_group(list(shapes.values()), list(groups.values()))
    return nested(file_name_of(values["name"], "its name"), size, listed, notes)


def _same_instance(one: Shape, other: Shape) -> bool:
    polygons = isinstance(one.segmentation, list) and isinstance(other.segmentation, list)
    return polygons and (one.name, one.parent, one.part) == (other.name, other.parent, other.part)


def _joined(one: Shape, other: Shape) -> Shape:
    (x0, y0, w0, h0), (x1, y1, w1, h1) = one.box, other.box
    x, y = min(x0, x1), min(y0, y1)
    box = (x, y, max(x0 + w0, x1 + w1) - x, max(y0 + h0, y1 + h1) - y)
    return replace(one, segmentation=[*one.segmentation, *other.segmentation], box=box)


def _shape(element: _Element, size: tuple[int, int], notes: Counter[str]) -> Shape | None:
    name = name_of(element.values["label"])
    found = _geometry(element.kind, element.values, size, notes)
    if found is None:
        return None
    said = element.attributes
    level = said.get("level", "").strip().lower()
    return Shape(
        name, found[1], found[0], key=said.get("id", "").strip() or None,
        parent=said.get("parent_id", "").strip() or None, part={"object": False, "part": True}.get(level),
        crowd=flag(said.get("crowd"), "the attribute crowd"),
    )  # fmt: skip


def _geometry(kind: str, values: Mapping[str, str], size: tuple[int, int], notes: Counter[str]) -> Any:
    """(segmentation, box xywh), None for a shape without area."""
    turned = number(values.get("rotation") or 0, "rotation")
    if kind == "box":
        x0, y0, x1, y1 = (number(values[key], key) for key in ("xtl", "ytl", "xbr", "ybr"))
        if x1 <= x0 or y1 <= y0:
            notes["boxes without area (left out)"] += 1
            return None
        if not turned:
            return None, (x0, y0, x1 - x0, y1 - y0)
        corners = masks.rectangle(x0, y0, x1 - x0, y1 - y0, turned, ((x0 + x1) / 2, (y0 + y1) / 2))
        return masks.outlines([corners], size, notes)
    if kind == "ellipse":
        cx, cy, rx, ry = (number(values[key], key) for key in ("cx", "cy", "rx", "ry"))
        return masks.outlines([masks.ellipse(cx, cy, rx, ry, turned)], size, notes)
    if kind == "polygon":
        points = [number(value, "a point") for pair in values["points"].split(";") for value in _pair(pair)]
        return masks.outlines([points], size, notes)
    left, top, width, height = (int(number(values[key], key)) for key in ("left", "top", "width", "height"))
    if not (0 < side(width, "width") * side(height, "height") <= 4 * max(size[0] * size[1], 1)):
        raise ValueError(f"a mask of {width} x {height} pixels does not fit an image of {size[1]} x {size[0]}")
    if len(values["rle"]) > _LONGEST_RUNS:
        raise ValueError("its run lengths are longer than any image needs")
    runs = [int(number(run, "a run length")) for run in values["rle"].split(",")]
    found = masks.pixels(masks.run_pixels(runs, height, width), left, top, size)
    if found is None:
        notes["masks without a pixel (left out)"] += 1
    return found


def _pair(text: str) -> tuple[str, str]:
    x, _, y = text.partition(",")
    return x, y


# -- writing -----------------------------------------------------------------------------------------------------------

_ATTRIBUTES = (  # name, input type, default, values
    ("id", "text", "", ""), ("parent_id", "text", "", ""), ("level", "select", "", "\nobject\npart"),
    ("crowd", "checkbox", "false", "false"),
)  # fmt: skip


def write(images: Iterable[AnnotatedImage], path: Path, names: Names) -> None:
    """Write a file, image by image; it appears when it is whole.

    Raises:
        ValueError: for an image whose size is not known.
    """
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as stream:
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n')
        stream.write(_meta(names))
        for number_, image in enumerate(images):
            height, width = needs_size(image)
            stream.write(
                f'  <image id="{number_}" name={_quoted(image.file_name)} width="{width}" height="{height}">\n'
            )
            listed = rows(image)
            groups = _groups(listed)
            for row, entry in enumerate(listed):
                stream.write("".join(_shape_lines(entry, row, groups[row], (height, width))))
            stream.write("  </image>\n")
        stream.write("</annotations>\n")


def _meta(names: Names) -> str:
    """Labels with their attributes, as a task of CVAT says them."""
    attributes = "".join(
        f"            <attribute>\n              <name>{name}</name>\n              <mutable>False</mutable>\n"
        f"              <input_type>{kind}</input_type>\n              <default_value>{default}</default_value>\n"
        f"              <values>{values}</values>\n            </attribute>\n"
        for name, kind, default, values in _ATTRIBUTES
    )
    labels = "".join(
        f"        <label>\n          <name>{_text(name)}</name>\n          <color>#{_color(name)}</color>\n"
        f"          <type>any</type>\n          <attributes>\n{attributes}          </attributes>\n        </label>\n"
        for name in dict.fromkeys([*names.objects, *names.parts])
    )
    return (
        f"  <meta>\n    <task>\n      <size>{names.images}</size>\n      <mode>annotation</mode>\n"
        f"      <labels>\n{labels}      </labels>\n    </task>\n  </meta>\n"
    )


def _color(name: str) -> str:
    return f"{crc32(name.encode()) & 0xFFFFFF:06x}"


def _groups(listed: list[Row]) -> list[int]:
    """Of each row its group: 1, 2, ... for each object with parts, 0 for those alone."""
    tops: list[int] = []
    for row, entry in enumerate(listed):
        tops.append(row if entry.parent < 0 else tops[entry.parent])
    groups: dict[int, int] = {}
    for row, top in enumerate(tops):
        if top != row:
            groups.setdefault(top, len(groups) + 1)
    return [groups.get(top, 0) for top in tops]


def _shape_lines(entry: Row, row: int, group: int, size: tuple[int, int]) -> Iterator[str]:
    region = entry.region
    said = {"id": str(row + 1), "parent_id": str(entry.parent + 1) if entry.parent >= 0 else "",
            "level": "part" if entry.part else "object", "crowd": str(region.crowd).lower()}  # fmt: skip
    attributes = "".join(f'      <attribute name="{name}">{value}</attribute>\n' for name, value in said.items())
    common = f'label={_quoted(region.name)} source="manual" occluded="0"'
    tail = f' z_order="0"{f""" group_id="{group}" """.rstrip() if group else ""}'
    if isinstance(region.segmentation, dict):
        found = masks.crop_of(region, size)
        if found is not None:
            crop, left, top = found
            runs = ", ".join(map(str, masks.pixel_runs(np.asarray(crop))))
            place = f'left="{left}" top="{top}" width="{crop.shape[1]}" height="{crop.shape[0]}"'
            yield f'    <mask {common} rle="{runs}" {place}{tail}>\n{attributes}    </mask>\n'
            return
    if region.segmentation and not isinstance(region.segmentation, dict):
        for polygon in region.segmentation:
            points = ";".join(f"{_short(x)},{_short(y)}" for x, y in zip(polygon[::2], polygon[1::2], strict=True))
            yield f'    <polygon {common} points="{points}"{tail}>\n{attributes}    </polygon>\n'
        return
    x, y, w, h = region.box
    corners = f'xtl="{_short(x)}" ytl="{_short(y)}" xbr="{_short(x + w)}" ybr="{_short(y + h)}"'
    yield f"    <box {common} {corners}{tail}>\n{attributes}    </box>\n"


def _short(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if "." in f"{value:.3f}" else f"{value:.3f}"


# What XML has no way to write.
_CONTROL = dict.fromkeys([*(code for code in range(32) if code not in (9, 10, 13)), 0xFFFE, 0xFFFF])


def _text(value: str) -> str:
    return escape(value.translate(_CONTROL))


def _quoted(value: str) -> str:
    return quoteattr(value.translate(_CONTROL))
