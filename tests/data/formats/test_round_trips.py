"""From the library's file through every tool's format and back: names, levels, links, masks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from partglee.cli import main
from partglee.data.formats import FORMATS, convert
from partglee.data.formats.shapes import rows
from partglee.data.segmentation import decode, encode_segmentation

H, W = 40, 60
WRITTEN = [key for key, form in FORMATS.items() if form.write is not None]


def square(x: float, y: float, side: float) -> list[float]:
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def ring() -> dict[str, Any]:
    """A mask with a hole, that no polygon of these tools has."""
    mask = np.zeros((H, W), bool)
    mask[5:25, 30:55] = True
    mask[10:20, 35:50] = False
    mask[39, 59] = True  # the last pixel
    encoded = encode_segmentation({"size": [H, W], "counts": _runs(mask)}, (H, W), what="ring")
    return {"size": [H, W], "counts": encoded["counts"].decode()}


def _runs(mask: NDArray[np.bool_]) -> list[int]:
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


def annotation(key: int, category: int, mask: Any, image: int = 7, **more: Any) -> dict[str, Any]:
    entry = {"id": key, "image_id": image, "category_id": category, "bbox": [2, 3, 20, 20], **more}
    return entry if mask is None else {**entry, "segmentation": mask}


CONTENT = {
    "images": [
        {"id": 7, "file_name": "street/a \u00e9&<\u732b>.png", "height": H, "width": W},
        {"id": 8, "file_name": "z.png", "height": H, "width": W},
    ],
    "categories": [
        {"id": 1, "name": "car", "level": "object"}, {"id": 2, "name": "traffic light", "level": "object"},
        {"id": 3, "name": "car:wheel", "level": "part"}, {"id": 4, "name": "car:spoke \"<&", "level": "part"},
    ],
    "annotations": [
        annotation(11, 1, [square(2, 3, 20), square(25.5, 3.25, 4)]),
        annotation(12, 1, ring()),
        annotation(13, 3, [square(4, 5, 6.125)], parent_id=12),
        annotation(14, 3, ring(), parent_id=11),
        annotation(15, 4, [square(5, 6, 3)], parent_id=13),  # a part of a part
        annotation(16, 3, None),  # its object is not known
        annotation(17, 2, None, iscrowd=1),
        annotation(21, 1, None, image=8),
        annotation(22, 3, None, image=8, parent_id=21),
    ],
}  # fmt: skip


def told(file: Path, key: str = "coco") -> list[tuple[str, list[Any]]]:
    """What a file says, one list for each image: name, level, row of the parent, crowd, mask or box."""
    images = []
    for image in FORMATS[key].read(file, Counter()):
        entries = []
        for region, parent, part in rows(image):
            has_mask = bool(region.segmentation)
            shape: Any = decode(region.segmentation, H, W).tolist() if has_mask else np.round(region.box, 3).tolist()
            entries.append((region.name, part, parent, region.crowd, shape))
        images.append((image.file_name, entries))
    return images


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.json"
    file.write_text(json.dumps(CONTENT))
    return file


def out(key: str, folder: Path) -> Path:
    return folder / (key if FORMATS[key].folder else f"{key}.xml" if key == "cvat" else f"{key}.json")


@pytest.mark.parametrize("key", WRITTEN)
def test_nothing_of_the_hierarchy_is_lost(key: str, source: Path, tmp_path: Path) -> None:
    there = convert(source, out(key, tmp_path), to_format=key)
    back = convert(out(key, tmp_path), tmp_path / "back.json")
    assert told(tmp_path / "back.json") == told(source)
    assert back.source.key == key, "the file is recognised by what it looks like"
    assert there.names == back.names
    assert (there.names.num_parts, there.names.linked) == (5, 4)
    assert not back.notes


def test_the_source_says_what_the_test_needs(source: Path) -> None:
    images = told(source)
    assert [name for name, _ in images] == [entry["file_name"] for entry in CONTENT["images"]]
    names = [(name, part, parent) for name, part, parent, *_ in images[0][1]]
    assert names == [
        ("car", False, -1), ("car:wheel", True, 0), ("car", False, -1), ("car:wheel", True, 2),
        ('car:spoke "<&', True, 3), ("traffic light", False, -1), ("car:wheel", True, -1),
    ]  # fmt: skip


@pytest.mark.parametrize("key", ["cvat", "labelme"])
def test_polygons_stay_polygons(key: str, source: Path, tmp_path: Path) -> None:
    convert(source, out(key, tmp_path), to_format=key)
    image = next(iter(FORMATS[key].read(out(key, tmp_path), Counter())))
    assert image.objects[0].segmentation == [square(2, 3, 20), square(25.5, 3.25, 4)]
    assert image.objects[1].parts[0].segmentation == [square(4, 5, 6.125)]


def test_predictions_become_what_a_person_corrects(tmp_path: Path) -> None:
    results = [
        {"id": 1, "name": "car", "level": "object", "bbox": [2, 3, 20, 20], "score": 0.75, "category_id": 0},
        {"id": 2, "name": "wheel", "level": "part", "bbox": [4, 5, 6, 6], "score": 0.5, "category_id": 0,
         "parent_id": 1, "segmentation": ring()},
    ]  # fmt: skip
    line = {"file_name": "a.png", "height": H, "width": W, "results": results}
    (tmp_path / "found.jsonl").write_text(json.dumps(line) + "\n")
    done = convert(tmp_path / "found.jsonl", tmp_path / "tasks.json", to_format="labelstudio", part_names="full")
    task = json.loads((tmp_path / "tasks.json").read_text())[0]
    assert task["annotations"] == [] and done.names.parts == {"car:wheel": {"car": 1}}
    assert [entry["score"] for entry in task["predictions"][0]["result"]] == [0.75, 0.5]
    assert task["predictions"][0]["result"][1]["parentID"] == task["predictions"][0]["result"][0]["id"]


def test_part_names(source: Path, tmp_path: Path) -> None:
    plain = convert(source, tmp_path / "plain.xml", part_names="plain")
    assert set(plain.names.parts) == {"wheel", 'spoke "<&', "car:wheel"}, "the one without a car keeps its name"
    with pytest.raises(ValueError, match="part names are written keep, full, plain"):
        convert(source, tmp_path / "x.xml", part_names="short")


def test_parts_of_two_objects_share_a_category_or_say_their_object(tmp_path: Path) -> None:
    xml = tmp_path / "a.xml"
    xml.write_text(GROUPS)
    convert(xml, tmp_path / "keep.json")
    with pytest.raises(ValueError, match="a part 'wheel' has no object, and other parts have names that say theirs"):
        convert(xml, tmp_path / "full.json", part_names="full")
    xml.write_text(GROUPS.replace('<box label="wheel" xtl="40" ytl="30" xbr="45" ybr="35"/>', ""))
    convert(xml, tmp_path / "full.json", part_names="full")
    keep = {entry["name"]: entry for entry in json.loads((tmp_path / "keep.json").read_text())["categories"]}
    full = {entry["name"] for entry in json.loads((tmp_path / "full.json").read_text())["categories"]}
    assert keep["wheel"]["level"] == "part" and keep["wheel"]["owners"] == ["car", "bus"]
    assert full == {"car", "bus", "car:wheel", "bus:wheel"}


GROUPS = """<?xml version="1.0"?>
<annotations><version>1.1</version><image id="0" name="a.png" width="60" height="40">
<box label="wheel" xtl="2" ytl="2" xbr="5" ybr="5" group_id="1"/>
<box label="car" xtl="1" ytl="1" xbr="20" ybr="20" group_id="1"/>
<box label="bus" xtl="30" ytl="1" xbr="50" ybr="20" group_id="2"/>
<box label="wheel" xtl="32" ytl="2" xbr="35" ybr="5" group_id="2"/>
<box label="wheel" xtl="40" ytl="30" xbr="45" ybr="35"/>
</image></annotations>"""


def test_groups_say_what_nothing_else_does(tmp_path: Path) -> None:
    """In a group of several names the largest box is the object; a wheel alone is a part since wheels are elsewhere."""
    (tmp_path / "a.xml").write_text(GROUPS)
    convert(tmp_path / "a.xml", tmp_path / "a.json")
    ((_, entries),) = told(tmp_path / "a.json")
    assert [entry[:3] for entry in entries] == [
        ("car", False, -1), ("wheel", True, 0), ("bus", False, -1), ("wheel", True, 2), ("wheel", True, -1)
    ]  # fmt: skip


def test_sizes_come_from_the_images_where_the_source_says_none(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    for entry in content["images"]:
        del entry["height"], entry["width"]
    content["annotations"] = [entry for entry in content["annotations"] if "segmentation" not in entry]
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"does not say its size; name the folder of the images \(--images DIR\)"):
        convert(tmp_path / "a.json", tmp_path / "a.xml")
    assert not (tmp_path / "a.xml").exists()
    for entry in content["images"]:
        (tmp_path / entry["file_name"]).parent.mkdir(exist_ok=True)
        Image.new("RGB", (W, H)).save(tmp_path / entry["file_name"])
    convert(tmp_path / "a.json", tmp_path / "a.xml", images=tmp_path)
    assert [image.height for image in FORMATS["cvat"].read(tmp_path / "a.xml", Counter())] == [H, H]


def test_the_command(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "convert", str(source), str(tmp_path / "a.xml")]) == 0
    said = capsys.readouterr().out
    assert "COCO JSON with parent_id -> CVAT for images 1.1 (XML)" in said
    assert "2 images, 4 objects of 2 names, 5 parts of 2 names, 4 of them with their object" in said
    assert main(["data", "convert", str(source), str(tmp_path / "b")]) == 2
    assert "does not say its format; add --to with one of coco, cvat" in capsys.readouterr().err
    assert main(["data", "convert", str(source), str(source)]) == 2
    assert "is the source; write to another place" in capsys.readouterr().err
    assert main(["data", "convert", str(source), str(tmp_path / "x.json"), "--to", "labelstudo"]) == 2
    assert "did you mean 'labelstudio'?" in capsys.readouterr().err


def test_what_a_format_cannot_hold_is_told(tmp_path: Path) -> None:
    content = json.loads(json.dumps(CONTENT))
    content["images"][0]["expressions"] = [{"text": "the car", "objects": [11]}]
    content["categories"].append({"id": 9, "name": "bus", "level": "object", "prompt": "a bus"})
    (tmp_path / "a.json").write_text(json.dumps(content))
    notes = convert(tmp_path / "a.json", tmp_path / "a.xml").notes
    assert notes["images with referring expressions, which are left out"] == 1
    assert notes["categories without an annotation, which are left out"] == 1
    assert notes["prompts of categories, which are left out"] == 1


def test_percents_move_no_edge(tmp_path: Path) -> None:
    """Coordinates at half a pixel: a difference in the fifteenth digit would move the mask."""
    random = np.random.RandomState(0)
    content = json.loads(json.dumps(CONTENT))
    content["images"] = [{"id": 7, "file_name": "a.png", "height": 427, "width": 639}]
    content["annotations"] = [
        annotation(key, 1, [(random.randint(0, 800, 12) / 2).tolist()]) for key in range(1, 60)
    ]  # fmt: skip
    (tmp_path / "a.json").write_text(json.dumps(content))
    convert(tmp_path / "a.json", tmp_path / "b.json", to_format="labelstudio")
    polygons = [
        [region.segmentation for image in FORMATS[key].read(tmp_path / name, Counter()) for region in image.objects]
        for key, name in (("coco", "a.json"), ("labelstudio", "b.json"))
    ]
    assert len(polygons[0]) == 59 and polygons[0] == polygons[1]
