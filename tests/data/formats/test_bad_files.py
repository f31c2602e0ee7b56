"""Files that are not what they should be: one line that names the file and the place, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from partglee.data import DatasetSpec, read_coco
from partglee.data.formats import convert, format_of

AT = 'left="0" top="0"'
IMAGE = '<image id="0" name="a.png" width="20" height="12">{}</image>'
BOX = {"x": 10, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["car"]}
REGION = {"id": "a", "type": "rectanglelabels", "original_width": 20, "original_height": 12, "value": BOX}
SHAPE = {"label": "car", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}


def xml(shapes: str) -> str:
    return f"<annotations>{IMAGE.format(shapes)}</annotations>"


def tasks(**change: Any) -> str:
    return json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": [{**REGION, **change}]}]}])


def labelme(**change: Any) -> str:
    shapes = [{**SHAPE, **change}]
    return json.dumps({"shapes": shapes, "imagePath": "a.png", "imageHeight": 12, "imageWidth": 20})


def sample(**change: Any) -> str:
    found = {"_cls": "Detection", "label": "car", "bounding_box": [0.1, 0.1, 0.5, 0.5], **change}
    fields = {"metadata": {"height": 12, "width": 20}, "ground_truth": {"_cls": "Detections", "detections": [found]}}
    return json.dumps({"samples": [{"filepath": "a.png", **fields}]})


def rows(**change: Any) -> str:
    row = {"x_min": 1, "y_min": 1, "x_max": 5, "y_max": 5, "class_name": "car", "file_name": "a.png", **change}
    return json.dumps([row])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xml", "<annotations><image", "is not readable XML: unclosed token"),
        ("a.xml", "<html/>", "begins with <html>"),
        ("a.xml", "<annotations><version>1.1</version></annotations>", "has no <image>"),
        ("a.xml", "<annotations><track id='0'/></annotations>", "is of a video"),
        ("a.xml", '<!DOCTYPE a [<!ENTITY b "c">]><annotations/>', "declares a document type"),
        ("a.xml", xml('<box label="car" xtl="a" ytl="1" xbr="5" ybr="5"/>'), r"1 \(a.png\): shape 1 \(box\): xtl must"),
        ("a.xml", xml('<box label=" " xtl="0" ytl="1" xbr="5" ybr="5"/>'), "its label is blank"),
        ("a.xml", xml('<polygon label="car" points="1,2;3"/>'), "a point must be a number"),
        ("a.xml", xml(f'<mask label="a" rle="1, 2" {AT} width="2" height="2"/>'), "do not cover 2 x 2 pixels"),
        ("a.xml", xml(f'<mask label="a" rle="1" {AT} width="99999" height="99999"/>'), "does not fit an image"),
        ("a.json", "[1]", "task 1: a task must have `data`"),
        ("a.json", "[", "is not JSON as expected at character 1"),
        ("a.json", tasks(original_width=None), r"task 1: region 1 \(a\): neither"),
        ("a.json", tasks(value={**BOX, "x": "?"}), r"task 1: region 1 \(a\): x must be a number"),
        ("a.json", tasks(type="brushlabels", value={"rle": [1, 2], "brushlabels": ["b"]}), "its `rle` ends too early"),
        ("a.json", tasks(image_rotation=90), "the image is rotated in the tool"),
        ("labelme/a.json", "{}", "a list of `shapes`"),
        ("labelme/a.json", labelme(points=[[1], [2]]), "shape 1: "),
        ("labelme/a.json", labelme(group_id="one"), "group_id must be a whole number or null"),
        ("labelme/a.json", labelme(shape_type="mask", mask="AAAA"), "its mask is no readable PNG"),
        ("fiftyone/samples.json", sample(bounding_box=[1, 2]), "sample 1: detection 1: "),
        ("fiftyone/samples.json", sample(mask={"$binary": "AAAA"}), "its mask cannot be read"),
        ("fiftyone/samples.json", '{"samples": []}', "has no samples"),
        ("a.json", rows(x_max="?"), "row 1: x_max must be a number"),
        ("a.json", rows(rle="PPP", height=12, width=20), "row 1: its mask"),
        ("a.jsonl", '{"file_name": "a.png"}', "line 1 of predictions file"),
        ("a.json", '{"images": [], "annotations": []}', "has no categories"),
    ],
)  # fmt: skip
def test_a_bad_file_is_refused(name: str, content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    source = file if file.parent == tmp_path else file.parent
    key = name.split("/")[0] if "/" in name else None
    with pytest.raises(ValueError, match=said) as caught:
        convert(source, tmp_path / "out" / "a.json", from_format=key, to_format="coco")
    assert str(file) in str(caught.value)
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_what_a_file_is(tmp_path: Path) -> None:
    for name, content, key in (
        ("a.xml", xml(""), "cvat"), ("b.json", tasks(), "labelstudio"), ("c.json", rows(), "supervision"),
        ("d.json", '{"images": []}', "coco"), ("e.jsonl", "{}", "predictions"), ("f.json", labelme(), "labelme"),
    ):  # fmt: skip
        (tmp_path / name).write_text(content)
        assert format_of(tmp_path / name).key == key, name
    (tmp_path / "g.txt").write_text("car 1 2 3 4")
    with pytest.raises(ValueError, match="looks like none of coco, cvat"):
        format_of(tmp_path / "g.txt")
    with pytest.raises(ValueError, match="does not exist"):
        format_of(tmp_path / "h.txt")


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(xml('<box label="car" xtl="0" ytl="1" xbr="5" ybr="5"/>'))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.json").write_text("{}")
    with pytest.raises(ValueError, match="is not empty; name a new one"):
        convert(tmp_path / "a.xml", tmp_path / "out", to_format="labelme")


def test_links_in_a_circle_and_to_nothing_are_cut_and_counted(tmp_path: Path) -> None:
    def box(key: str, parent: str) -> str:
        return (
            f'<box label="x{key}" xtl="0" ytl="1" xbr="5" ybr="5"><attribute name="id">{key}</attribute>'
            f'<attribute name="parent_id">{parent}</attribute></box>'
        )

    chain = "".join(box(str(number), str(number - 1)) for number in range(11, 41))
    (tmp_path / "a.xml").write_text(xml(box("1", "2") + box("2", "1") + box("3", "3") + box("4", "99") + chain))
    done = convert(tmp_path / "a.xml", tmp_path / "a.json")
    assert sum(done.notes.values()) > 3
    annotations = json.loads((tmp_path / "a.json").read_text())["annotations"]
    assert len(annotations) == 34
    parent = {entry["id"]: entry.get("parent_id") for entry in annotations}
    for key in parent:
        steps = 0
        while parent[key]:
            key, steps = parent[key], steps + 1
            assert steps <= 16


@pytest.mark.parametrize("key", ["coco", "cvat", "labelstudio", "labelme", "fiftyone"])
@pytest.mark.parametrize("categories", [[], [{"id": 1, "name": "car"}]])
def test_images_without_objects_alone(key: str, categories: list[dict[str, object]], tmp_path: Path) -> None:
    """A file of which nothing is annotated goes through every format that lists images, and back."""
    images = [{"id": 1, "file_name": "a.jpg", "height": 9, "width": 8}]
    (tmp_path / "in.json").write_text(json.dumps({"images": images, "categories": categories, "annotations": []}))
    convert(tmp_path / "in.json", tmp_path / "there", to_format=key)
    convert(tmp_path / "there", tmp_path / "back.json", from_format=key, to_format="coco")
    back = json.loads((tmp_path / "back.json").read_text())
    assert [(image["file_name"], image["height"], image["width"]) for image in back["images"]] == [("a.jpg", 9, 8)]
    assert back["annotations"] == []


def test_a_file_without_categories_names_nothing_to_train_on(tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(
        json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}], "categories": [], "annotations": []})
    )
    spec = DatasetSpec(name="empty", annotations=str(tmp_path / "in.json"), images="", reader=read_coco)
    with pytest.raises(ValueError, match="lists no categories"):
        read_coco(spec)
