"""Files as the tools themselves write them, read; and what their own readers need of ours."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import supervision
from PIL import Image

from partglee.data.formats import FORMATS, brush, convert, masks
from partglee.data.formats import supervision as supervision_format
from partglee.data.formats.shapes import rows
from partglee.data.segmentation import decode
from partglee.structures import Prediction


def read(key: str, path: Path, notes: Counter[str] | None = None) -> list[Any]:
    return list(FORMATS[key].read(path, Counter() if notes is None else notes))


def names(image: Any) -> list[tuple[str, int, bool]]:
    return [(region.name, parent, part) for region, parent, part in rows(image)]


# -- Label Studio

MASK = np.zeros((12, 20), bool)
MASK[3:9, 2:7] = True
MASK[4, 4] = False
MASK[9:12] = np.random.RandomState(0).rand(3, 20) > 0.5
# `label_studio_sdk.converter.brush.mask2rle` of that mask: single values and repeated ones.
PACKED = [
    0, 0, 3, 192, 57, 27, 254, 247, 0, 194, 127, 248, 236, 2, 127, 248, 192, 39, 255, 199, 96, 24, 79, 255, 29, 128, 97,
    63, 252, 118, 1, 132, 255, 241, 216, 6, 19, 255, 198, 96, 23, 255, 227, 0, 143, 254, 48, 9, 255, 227, 0, 191, 255,
    108, 3, 9, 255, 198, 1, 31, 252, 96, 17, 255, 198, 1, 63, 252, 224, 17, 255, 198, 1, 31, 252, 96, 24, 79, 254, 112,
    8, 255, 227, 0, 159, 254, 248, 4, 127, 241, 128, 71, 255, 108, 2, 63, 251, 96, 0,
]  # fmt: skip


def slow_unpack(packed: list[int]) -> list[int]:
    """rle-pack of thi.ng, as its description says, bit by bit."""
    bits = "".join(f"{value:08b}" for value in packed)
    at = 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated, length = take(1), 0
        length = take(sizes[take(2)]) + 1
        values += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    return values


def test_a_brush_of_label_studio() -> None:
    assert brush.unpack(PACKED, 12, 20).tolist() == MASK.tolist()
    for seed in range(6):
        mask = np.random.RandomState(seed).rand(9, 31) > seed / 5
        assert brush.unpack(brush.pack(mask), 9, 31).tolist() == mask.tolist()
        assert slow_unpack(brush.pack(mask)) == np.repeat(mask.ravel() * 255, 4).tolist()
    wide = np.zeros((200, 400), bool)  # runs of more than 65536 values
    wide[199] = True
    assert (brush.unpack(brush.pack(wide), 200, 400) == wide).all()


def literal(values: list[int]) -> list[int]:
    """A block of values as they are, as the tool writes noise."""
    bits = f"{len(values):032b}{7:05b}" + "".join(f"{w - 1:04b}" for w in (3, 4, 8, 16))
    bits += f"0{2:02b}{len(values) - 1:08b}" + "".join(f"{value:08b}" for value in values)
    bits += "0" * (-len(bits) % 8)
    return [int(bits[at : at + 8], 2) for at in range(0, len(bits), 8)]


def test_a_brush_of_single_values() -> None:
    values = [0, 0, 0, 0, 255, 255, 255, 255, 10, 20, 30, 0, 1, 2, 3, 4]
    assert slow_unpack(literal(values)) == values
    assert brush.unpack(literal(values), 2, 2).tolist() == [[False, True], [False, True]], "what is not transparent"


def region(key: str, kind: str, label: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": key, "type": kind, "value": {**value, kind: [label]}, "from_name": "label", "to_name": "image",
        "original_width": 20, "original_height": 12, "image_rotation": 0, "origin": "manual", **more,
    }  # fmt: skip


BOX = {"x": 10, "y": 25, "width": 50, "height": 50, "rotation": 0}


def export(*results: Any, **task: Any) -> list[Any]:
    """The JSON export of one task, with the keys that the tool writes beside those that are read."""
    made = {
        "id": 5, "completed_by": 1, "was_cancelled": False, "ground_truth": False, "lead_time": 12.5, "task": 3,
        "result": list(results), "result_count": len(results),
    }  # fmt: skip
    data = {"image": "/data/upload/1/27ad8e9c-a%20b.png"}
    return [{"id": 3, "annotations": [made], "predictions": [], "data": data, "meta": {}, "project": 1, **task}]


def test_an_export_of_label_studio(tmp_path: Path) -> None:
    file = tmp_path / "project-1-at-2026-01-01.json"
    file.write_text(
        json.dumps(
            export(
                region("a", "rectanglelabels", "Car", BOX),
                region("b", "brushlabels", "Wheel", {"format": "rle", "rle": PACKED}, parentID="a"),
                region("c", "polygonlabels", "Door", {"points": [[0, 0], [50, 0], [50, 50]], "closed": True}),
                region("d", "ellipselabels", "Lamp", {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0}),
                region("e", "keypointlabels", "Point", {"x": 1, "y": 1, "width": 1}),
                {"from_id": "c", "to_id": "a", "type": "relation", "direction": "right", "labels": ["part of"]},
                {"from_id": "a", "to_id": "d", "type": "relation", "direction": "right", "labels": ["has"]},
            )
        )
    )
    notes: Counter[str] = Counter()
    (image,) = read("labelstudio", file, notes)
    assert image.file_name == "27ad8e9c-a b.png" and (image.height, image.width) == (12, 20)
    assert names(image) == [("Car", -1, False), ("Wheel", 0, True), ("Door", 0, True), ("Lamp", 0, True)]
    car, wheel, door, lamp = (entry.region for entry in rows(image))
    assert car.box == (2, 3, 10, 6)
    assert decode(wheel.segmentation, 12, 20).tolist() == MASK.tolist()
    assert door.segmentation == [[0, 0, 10, 0, 10, 6]]
    assert np.allclose(lamp.box, (8, 3.6, 4, 4.8), atol=0.02) and abs(lamp.area - np.pi * 2 * 2.4) < 0.1
    assert notes == {"regions of the kind keypointlabels (left out)": 1}


def test_a_turned_box_of_label_studio_turns_around_its_corner(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    turned = {"x": 50, "y": 0, "width": 25, "height": 50, "rotation": 90}
    file.write_text(json.dumps(export(region("a", "rectanglelabels", "Car", turned))))
    (image,) = read("labelstudio", file)
    assert np.allclose(np.array(image.objects[0].box), (4, 0, 6, 5)), "5 x 6 pixels at (10, 0), turned to the left"


def test_a_task_without_annotation_has_its_prediction(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    predicted = [{"id": 1, "model_version": "x", "score": 0.5, "result": [region("a", "rectanglelabels", "Car", BOX,
                                                                                 score=0.25)]}]  # fmt: skip
    cancelled = [{"id": 1, "was_cancelled": True, "result": [region("b", "rectanglelabels", "Bus", BOX)]}]
    file.write_text(json.dumps(export(annotations=cancelled, predictions=predicted)))
    (image,) = read("labelstudio", file)
    assert [(r.name, r.extra["score"]) for r in image.objects] == [("Car", 0.25)]


# -- CVAT

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <job><id>1</id><size>2</size><mode>annotation</mode><overlap>0</overlap><bugtracker></bugtracker>
      <labels><label><name>car</name><color>#66ff66</color><type>any</type><attributes>
      <attribute><name>model</name><mutable>False</mutable><input_type>text</input_type><default_value></default_value>
      <values></values></attribute></attributes></label></labels>
    </job>
    <dumped>2026-01-01 10:00:00.000000+00:00</dumped>
  </meta>
  <image id="0" name="folder/0001.jpg" subset="default" task_id="1" width="20" height="12">
    <polygon label="car" source="manual" occluded="0" points="2.50,3.00;12.00,3.00;12.00,9.00" z_order="0" group_id="4">
      <attribute name="model">a &lt; b</attribute>
    </polygon>
    <mask label="wheel" source="semi-auto" occluded="0" rle="1, 2, 2, 1, 3" left="4" top="5" width="3" height="3" z_order="1" group_id="4">
    </mask>
    <box label="person" source="manual" occluded="1" xtl="1.00" ytl="2.00" xbr="5.00" ybr="4.00" z_order="0" rotation="90.00">
    </box>
    <ellipse label="ball" source="manual" occluded="0" cx="10.00" cy="6.00" rx="4.00" ry="2.00" z_order="0">
    </ellipse>
    <polyline label="lane" source="manual" occluded="0" points="0.00,0.00;5.00,5.00" z_order="0">
    </polyline>
    <tag label="day" source="manual">
    </tag>
  </image>
  <image id="1" name="folder/0002.jpg" width="20" height="12">
  </image>
</annotations>
"""  # noqa: E501


def test_an_export_of_cvat(tmp_path: Path) -> None:
    (tmp_path / "annotations.xml").write_text(CVAT)
    notes: Counter[str] = Counter()
    first, second = read("cvat", tmp_path, notes)
    assert (first.file_name, second.file_name) == ("folder/0001.jpg", "folder/0002.jpg")
    assert names(first) == [("car", -1, False), ("wheel", 0, True), ("person", -1, False), ("ball", -1, False)]
    assert second.objects == ()
    car, wheel, person, ball = (entry.region for entry in rows(first))
    assert car.segmentation == [[2.5, 3, 12, 3, 12, 9]]
    mask = np.zeros((12, 20), bool)
    mask[5, 5:7] = mask[6, 6] = True  # 1 unset, 2 set, 2 unset, 1 set, 3 unset, row by row
    assert decode(wheel.segmentation, 12, 20).tolist() == mask.tolist()
    assert np.allclose(person.box, (2, 1, 2, 4)), "a box turns around its centre"
    assert np.allclose(ball.box, (6, 4, 8, 4), atol=0.02)
    assert notes == {"CVAT shapes of the kind polyline (left out)": 1, "CVAT shapes of the kind tag (left out)": 1}


def test_row_runs_are_the_slow_ones() -> None:
    for seed in range(4):
        mask = np.random.RandomState(seed).rand(5, 7) > 0.4
        runs = masks.pixel_runs(mask)
        flat = [bool(place % 2) for place, run in enumerate(runs) for _ in range(run)]
        assert flat == mask.ravel().tolist()
        assert masks.run_pixels(runs, 5, 7).tolist() == mask.tolist()


def test_what_cvat_needs_is_written(tmp_path: Path) -> None:
    """The labels with their attributes before the images: a task of them takes the file."""
    (tmp_path / "a.xml").write_text(CVAT)
    convert(tmp_path / "a.xml", tmp_path / "b.xml")
    root = ElementTree.parse(tmp_path / "b.xml").getroot()
    assert [child.tag for child in root] == ["version", "meta", "image", "image"]
    labels = {label.findtext("name"): label for label in root.iter("label")}
    assert set(labels) == {"car", "wheel", "person", "ball"}
    known = {entry.findtext("name") for entry in labels["car"].iter("attribute")}
    used = {entry.get("name") for image in root.iter("image") for entry in image.iter("attribute")}
    assert known == used == {"id", "parent_id", "level", "crowd"}
    assert {shape.get("group_id") for shape in root.iter("image") for shape in shape if shape.get("group_id")} == {"1"}


# -- labelme


def labelme_shape(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    shape = {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}
    return {**shape, "mask": None, **more}


def labelme_file(*shapes: Any) -> str:
    content = {"version": "5.5.0", "flags": {}, "shapes": list(shapes), "imagePath": "..\\photos\\a.jpg",
               "imageData": None, "imageHeight": 12, "imageWidth": 20}  # fmt: skip
    return json.dumps(content)


TRIANGLE = [[2, 2], [12, 2], [2, 8]]


def test_a_folder_of_labelme(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    # As the tool writes it: the PNG of a crop, its corners inclusive.
    stream = io.BytesIO()
    Image.fromarray(MASK[3:9, 2:7].astype(np.uint8) * 255).save(stream, "PNG")
    text = base64.b64encode(stream.getvalue()).decode()
    (tmp_path / "labels" / "a.json").write_text(
        labelme_file(
            labelme_shape("wheel", [[3, 3], [5, 5]], "rectangle", group_id=1),
            labelme_shape("wheel", [[7, 3], [9, 5]], "rectangle", group_id=1),
            labelme_shape("car", TRIANGLE, group_id=1),
            labelme_shape("sky", TRIANGLE, group_id=2),
            labelme_shape("sky", [[15, 2], [18, 2], [15, 8]], group_id=2),
            labelme_shape("ball", [[10, 6], [13, 6]], "circle"),
            labelme_shape("dog", [[2, 3], [6, 8]], "mask", mask=text),
            labelme_shape("lane", [[1, 1], [2, 2]], "line"),
        )
    )
    notes: Counter[str] = Counter()
    (image,) = read("labelme", tmp_path, notes)
    assert image.file_name == "photos/a.jpg"
    assert names(image) == [
        ("car", -1, False), ("wheel", 0, True), ("wheel", 0, True), ("sky", -1, False), ("ball", -1, False),
        ("dog", -1, False),
    ]  # fmt: skip
    sky, ball, dog = image.objects[1:]
    assert len(sky.segmentation) == 2, "one label in a group: one instance"
    assert np.allclose(ball.box, (7, 3, 6, 6), atol=0.02)
    expected = np.zeros((12, 20), bool)
    expected[3:9, 2:7] = MASK[3:9, 2:7]
    assert decode(dog.segmentation, 12, 20).tolist() == expected.tolist()
    assert notes == {"shapes of the kind line (left out)": 1}


def test_labelme_takes_what_is_written(tmp_path: Path) -> None:
    """The rules of its reader: keys, points as lists of two numbers, whole group ids, flags true or false."""
    (tmp_path / "a.xml").write_text(CVAT)
    convert(tmp_path / "a.xml", tmp_path / "out", to_format="labelme")
    content = json.loads((tmp_path / "out" / "folder" / "0001.json").read_text())
    assert (content["imagePath"], content["imageHeight"], content["imageWidth"]) == ("0001.jpg", 12, 20)
    assert content["imageData"] is None and {"version", "flags"} <= set(content)
    for shape in content["shapes"]:
        assert {"label", "points", "group_id", "shape_type", "flags", "description", "mask"} <= set(shape)
        assert all(isinstance(point, list) and len(point) == 2 for point in shape["points"])
        assert type(shape["group_id"]) is int and all(type(value) is bool for value in shape["flags"].values())


# -- FiftyOne

# Of `fo.Detections(...).to_dict(extended=True)`, FiftyOne 1.x: a mask of 10 x 20 pixels, a custom attribute.
DETECTIONS = json.loads(
    """{"_cls": "Detections", "detections": [
    {"_id": {"$oid": "6b0b4cefc70b6dd333072a7f"}, "_cls": "Detection", "attributes": {}, "tags": [], "label": "car",
     "bounding_box": [0.1, 0.2, 0.2, 0.16666666666666666], "mask": {"$binary": {"base64":
     "eJyb7BfqGxDJyFDGUK2eklqcXKRupaBek2SorqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RqGBjoKRgaaOgq1CmQCLgbiASMYkCdGcwAAL+Ab1Q==",
     "subType": "00"}}, "level": "object"},
    {"_id": {"$oid": "6b0b4cefc70b6dd333072a80"}, "_cls": "Detection", "attributes": {}, "tags": [], "label": "wheel",
     "bounding_box": [0.1, 0.2, 0.1, 0.1], "confidence": 0.5, "parent": "6b0b4cefc70b6dd333072a7f",
     "level": "part"}]}"""
)


def samples(**more: Any) -> str:
    sample = {
        "_id": {"$oid": "6b0b4cefc70b6dd333072a81"}, "filepath": "data/img.png", "tags": ["x"], "_rand": 0.5,
        "metadata": {"_cls": "ImageMetadata", "size_bytes": 5, "mime_type": "image/png", "width": 100, "height": 60,
                     "num_channels": 3},
        "_media_type": "image", **more,
    }  # fmt: skip
    return json.dumps({"samples": [sample]})


def test_a_dataset_of_fiftyone(tmp_path: Path) -> None:
    (tmp_path / "samples.json").write_text(samples(found={"_cls": "Classification"}, ground_truth=DETECTIONS))
    notes: Counter[str] = Counter()
    (image,) = read("fiftyone", tmp_path, notes)
    assert image.file_name == "img.png"
    assert names(image) == [("car", -1, False), ("wheel", 0, True)]
    mask = np.zeros((60, 100), bool)
    mask[14:17, 13:19] = True  # [2:5, 3:9] of the crop, which begins at (10, 12)
    assert decode(image.objects[0].segmentation, 60, 100).tolist() == mask.tolist()
    assert image.objects[0].parts[0].box == pytest.approx((10, 12, 10, 6))
    assert image.objects[0].parts[0].extra == {"score": 0.5}
    assert notes == {"further label fields of a sample (left out)": 1}


def test_fiftyone_takes_what_is_written(tmp_path: Path) -> None:
    """Ids of 24 hexadecimal digits, a mask that NumPy reads out of zlib, relative boxes, fields that are declared."""
    import io

    (tmp_path / "a.xml").write_text(CVAT)
    convert(tmp_path / "a.xml", tmp_path / "out", to_format="fiftyone")
    sample, other = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
    declared = {
        entry["name"] for entry in json.loads((tmp_path / "out" / "metadata.json").read_text())["sample_fields"]
    }
    assert declared == {"id" if key == "_id" else key for key in sample if key not in ("_media_type", "_rand")}
    found = sample["ground_truth"]["detections"]
    ids = [entry["_id"]["$oid"] for entry in (*found, sample, other)]
    assert all(re.fullmatch("[0-9a-f]{24}", key) for key in ids) and len(set(ids)) == len(ids)
    mask = np.load(io.BytesIO(zlib.decompress(base64.b64decode(found[1]["mask"]["$binary"]["base64"]))))
    assert mask.tolist() == [[True, True], [False, True]]
    assert found[1]["bounding_box"] == pytest.approx([5 / 20, 5 / 12, 2 / 20, 2 / 12])
    assert found[1]["parent"] == found[0]["_id"]["$oid"]


# -- supervision


def test_detections_and_back(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(CVAT)
    image = read("cvat", tmp_path / "a.xml")[0]
    detections = supervision_format.to_detections(image, ["car", "wheel", "person", "ball"])
    assert isinstance(detections, supervision.Detections) and len(detections) == 4
    assert detections.data["parent"].tolist() == [-1, 0, -1, -1]
    back = supervision_format.from_detections(detections, file_name=image.file_name, size=(12, 20))
    assert names(back) == names(image)
    for one, other in zip(rows(image), rows(back), strict=True):
        assert (decode(one.region.segmentation, 12, 20) == decode(other.region.segmentation, 12, 20)).all()


def test_our_predictions_as_detections() -> None:
    found = Prediction(
        boxes=[[1, 1, 9, 9], [2, 2, 4, 4]], scores=[0.5, 0.25], labels=[0, 0], names=["car", "wheel"], level=[0, 1],
        parent=[-1, 0], image_size=(12, 20),
    )  # fmt: skip
    image = supervision_format.from_detections(found.to_supervision(), file_name="a.png", size=(12, 20))
    assert names(image) == [("car", -1, False), ("wheel", 0, True)]
    assert image.objects[0].extra == {"score": 0.5}


def test_rows_of_its_sink(tmp_path: Path) -> None:
    """What the sink writes is read, and our rows have its keys in its order, before those that are ours."""
    (tmp_path / "a.xml").write_text(CVAT)
    image = read("cvat", tmp_path / "a.xml")[0]
    detections = supervision_format.to_detections(image, ["car", "wheel", "person", "ball"])
    with supervision.JSONSink(str(tmp_path / "sink.json")) as sink:
        sink.append(detections, custom_data={"file_name": "a.png", "height": 12, "width": 20})
    (read_back,) = read("supervision", tmp_path / "sink.json")
    assert names(read_back) == names(image), "masks are what the sink leaves out"
    convert(tmp_path / "a.xml", tmp_path / "ours.json", to_format="supervision")
    theirs, ours = (json.loads((tmp_path / f"{name}.json").read_text())[0] for name in ("sink", "ours"))
    assert list(ours) == [*theirs, "rle"]
