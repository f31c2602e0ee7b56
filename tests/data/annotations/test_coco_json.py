"""Levels, names, links and splits of hierarchical COCO JSON."""

from __future__ import annotations

import logging
import pickle
from pathlib import Path

import numpy as np
import pytest
from coco_files import annotation, read, spec_of, two_images, write

from partglee.data import Expression, Instance
from partglee.data.annotations.categories import label_categories
from partglee.data.augmentation import ShortSide
from partglee.data.checks.content import validate
from partglee.data.mapper import Mapper
from partglee.structures import Vocabulary

IMAGE = {"id": 1, "file_name": "a.png", "height": 60, "width": 100}


def test_the_example(tmp_path: Path) -> None:
    records = read(tmp_path, two_images())
    assert records.vocabulary.to_dict() == {"car": ["left mirror", "right mirror", "wheel"], "dog": []}
    car, dog = records
    assert (car.file, car.height, car.width, car.image_id) == (tmp_path / "car.png", 60, 100, 1)
    wheel = (30.0, 40.0, 40.0, 40.0, 40.0, 50.0, 30.0, 50.0)
    assert car.parts[0] == Instance(label=2, box=(30, 40, 40, 50), segmentation=(wheel,), parent=0, annotation_id=11)
    assert [part.label for part in car.parts] == [2, 0] and [part.parent for part in car.parts] == [0, 0]
    assert [(o.label, o.box, o.annotation_id) for o in car.objects] == [(0, (20, 10, 80, 50), 13)]
    assert dog.parts == () and dog.objects[0].label == 1
    assert records.labels(0) == ({0}, {0, 2}) and records.size(1) == (50, 40)
    assert car.negative_objects is None and car.expressions == () and records.issues == {}
    assert len(records) == 2 and pickle.loads(pickle.dumps(records))[0] == car


@pytest.mark.parametrize(
    ("categories", "expected"),
    [
        ([("dog", ""), ("cat", "")], {"dog": [], "cat": []}),
        ([("dog:head", ""), ("dog:tail", "")], {"dog": ["head", "tail"]}),
        ([("dog", "object"), ("dog's head", "")], {"dog": ["head"]}),
        ([("dog", "object"), ("dog head", "part")], {"dog": ["head"]}),
        ([("dog", "OBJECT"), ("dog:head", "PART")], {"dog": ["head"]}),
        ([("bottle: red", "object")], {"bottle: red": []}),
        ([("car", "object"), ("wheel", "part")], {"car": ["wheel"]}),
        ([("wheel", "part"), ("door", "part")], {"object": ["wheel", "door"]}),
    ],
)
def test_vocabulary_of_the_file(categories: list[tuple[str, str]], expected: dict[str, list[str]]) -> None:
    key = "supercategory" if categories[0][1].isupper() else "level"
    entries = [{"id": 3 * i, "name": name, key: level} for i, (name, level) in enumerate(categories)]
    found = label_categories(entries, None)
    assert found.vocabulary.to_dict() == expected and (found.label >= 0).all()
    assert found.is_part.sum() == sum(map(len, expected.values()))


def test_parts_without_an_owner_are_shared() -> None:
    entries = [
        {"id": i, "name": name, "level": level}
        for i, (name, level) in enumerate([("car", "object"), ("bus", "object"), ("wheel", "part")])
    ]
    vocabulary = label_categories(entries, None).vocabulary
    assert vocabulary.part_prompts == ("wheel",) and vocabulary.part_owner == ((0, 1),)
    with pytest.raises(ValueError, match="'object:part'"):
        label_categories([*entries, {"id": 9, "name": "car:door"}], None)


def test_prompts_of_the_file() -> None:
    entries = [{"id": 1, "name": "tv", "prompt": "television"}, {"id": 2, "name": "tv:colied_tube", "prompt": "coil"}]
    vocabulary = label_categories(entries, None).vocabulary
    assert vocabulary.object_prompts == ("television",) and vocabulary.part_prompts == ("coil",)
    assert vocabulary.to_dict() == {"tv": ["colied_tube"]}


def test_category_order_and_gaps() -> None:
    entries = [{"id": 90, "name": "zebra"}, {"id": 3, "name": "ant"}, {"id": 91, "name": "ant:leg"}]
    found = label_categories(entries, None)
    assert found.vocabulary.object_names == ("ant", "zebra") and found.label.tolist() == [1, 0, 0]


def test_given_vocabulary_selects(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        records = read(tmp_path, two_images(), vocabulary="zebra; Car: WHEEL")
    car, dog = records
    assert [o.label for o in car.objects] == [1] and [(p.label, p.parent) for p in car.parts] == [(0, 0)]
    assert dog.objects == () and "dog" in caplog.text and "3 categories" in caplog.text
    with pytest.raises(ValueError, match="none of the file's categories"):
        read(tmp_path, two_images(), vocabulary="zebra")


def test_builtin_vocabulary_of_names_that_only_begin_with_the_object() -> None:
    entries = [{"id": 0, "name": "Quadruped Head"}, {"id": 1, "name": "Bottle Mouth"}]
    vocabulary = Vocabulary.builtin("partimagenet")
    found = label_categories(entries, vocabulary)
    assert found.is_part.all() and [vocabulary.part_names[c] for c in found.label] == ["head", "mouth"]


def test_paco_links(tmp_path: Path) -> None:
    """Objects name themselves; parts name their object."""
    content = {
        "images": [IMAGE],
        "categories": [
            {"id": 1, "name": "car_(automobile)", "supercategory": "OBJECT"},
            {"id": 2, "name": "car_(automobile):antenna", "supercategory": "PART"},
        ],
        "annotations": [
            annotation(4, 1, (0, 0, 50, 50), obj_ann_id=4),
            annotation(5, 1, (0, 0, 60, 50), obj_ann_id=5),
            annotation(6, 2, (0, 0, 6, 6), obj_ann_id=5),
        ],
    }
    record = read(tmp_path, content)[0]
    assert [o.parent for o in record.objects] == [-1, -1] and record.parts[0].parent == 1


def test_parts_of_parts_and_cycles(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "car:door"}, {"id": 3, "name": "car:handle"}]
    content = {
        "images": [IMAGE],
        "categories": categories,
        "annotations": [
            annotation(1, 1, (0, 0, 50, 50)),
            annotation(2, 2, (0, 0, 9, 9), parent_id=1),
            annotation(3, 3, (0, 0, 9, 9), parent_id=2),
            annotation(4, 2, (0, 0, 9, 9), parent_id=5),
            annotation(5, 3, (0, 0, 9, 9), parent_id=4),
        ],
    }
    assert [part.parent for part in read(tmp_path, content)[0].parts] == [0, 0, -1, -1]


def test_federated_names(tmp_path: Path) -> None:
    content = two_images()
    content["images"][0] |= {"neg_category_ids": [2, 8, 99], "not_exhaustive_category_ids": [9]}
    records = read(tmp_path, content)
    assert (records[0].negative_objects, records[0].negative_parts) == ({1}, {1})
    assert (records[0].not_exhaustive_objects, records[0].not_exhaustive_parts) == (set(), {2})
    assert records[1].negative_objects == frozenset()  # nobody looked: not the same as None


def test_lvis_file_names_and_missing_sizes(tmp_path: Path) -> None:
    content = two_images()
    content["images"] = [
        {"id": 1, "coco_url": "http://images.example.org/train2017/000000000001.jpg"},
        {"id": 2, "file_name": "späte/ü.jpg", "height": 10, "width": 0},
    ]
    records = read(tmp_path, content)
    assert (
        records[0].file == tmp_path / "train2017" / "000000000001.jpg" and records[1].file == tmp_path / "späte/ü.jpg"
    )
    assert (records[0].height, records[0].width) == (0, 0) == records.size(1)
    assert records.issues == {"images without a size (read from the image file)": 2}


def test_expressions(tmp_path: Path) -> None:
    content = two_images()
    content["images"][0]["expressions"] = ["the car", "left thing"]
    content["images"][1]["expressions"] = [["a dog"]]
    records = read(tmp_path, content)
    assert records[0].expressions == (Expression("the car", (0,)), Expression("left thing", (0,)))
    assert records[1].expressions == (Expression("a dog", (0,)),)
    content["images"][1]["expressions"] = [["a dog"], ["a cat"]]
    records = read(tmp_path, content)
    with pytest.raises(ValueError, match="expressions for 2 objects but 1 objects"):
        records[1]


def test_crowds_and_boxes_over_the_edge(tmp_path: Path) -> None:
    content = two_images()
    content["annotations"] = [
        annotation(1, 1, (-5, -5, 500, 20), iscrowd=1),
        annotation(2, 2, (200, 0, 300, 20)),
        annotation(3, 2, (90, 0, 101, 20)),
    ]
    write(tmp_path, content)
    record = (records := spec_of(tmp_path).read())[0]
    boxes = [((-5, -5, 500, 20), True), ((200, 0, 300, 20), False), ((90, 0, 101, 20), False)]
    assert [(o.box, o.crowd) for o in record.objects] == boxes  # as the file has them, for the evaluators too
    assert records.labels(0) == ({1}, frozenset())
    assert records.issues == {
        "polygons that reach more than one image side outside of their image (left out)": 2,
        "boxes outside of their image (kept in evaluation, never trained with)": 1,
        "boxes over the edge of their image (kept in evaluation, cut off in training)": 1,
    }
    mapper = Mapper(
        vocabulary=records.vocabulary, augmentation=ShortSide(short_sides=(60,), max_side=100, flip=0.0)
    )  # fmt: skip
    assert mapper(record, np.random.default_rng(0)).objects.boxes.tolist() == [[90, 0, 100, 20]]
    content["annotations"][1]["image_id"] = 2  # 40 wide
    assert read(tmp_path, content)[1].objects[0].box == (200, 0, 300, 20)


def test_select(tmp_path: Path) -> None:
    content = two_images()
    content["images"] = [{**IMAGE, "id": i + 1, "file_name": f"{i}.png"} for i in range(7)]
    shares = [(0.0, 0.6), (0.6, 0.9), (0.9, 1.0)]
    parts = [read(tmp_path, content, select=share) for share in shares]
    names = [records.file_name(i) for records in parts for i in range(len(records))]
    assert names == [f"{i}.png" for i in range(7)] and [len(p) for p in parts] == [4, 2, 1]
    assert len(list(parts[1])) == 2
    with pytest.raises(ValueError, match="leaves none of 7 images"):
        read(tmp_path, content, select=(0.5, 0.51))


def test_parts_that_list_their_owners_share_a_column(tmp_path: Path) -> None:
    """`owners` says which objects may have a part whose name does not; the name itself is not taken apart."""
    categories = [
        {"id": 1, "name": "car", "level": "object"},
        {"id": 2, "name": "bike", "level": "object"},
        {"id": 3, "name": "dog", "level": "object"},
        {"id": 4, "name": "wheel", "level": "part", "owners": ["bike", "car"]},
        {"id": 5, "name": "car window", "level": "part", "owners": ["car"]},
    ]
    image = {"id": 1, "file_name": "a.png", "height": 60, "width": 100}
    content = {
        "images": [image],
        "categories": categories,
        "annotations": [
            annotation(1, 1, (0, 0, 50, 50)),
            annotation(2, 4, (5, 30, 15, 40), parent_id=1),
            annotation(3, 5, (5, 5, 15, 15), parent_id=1),
        ],
    }
    records = read(tmp_path, content)
    vocabulary = records.vocabulary
    assert vocabulary.to_dict() == {"car": ["wheel", "car window"], "bike": ["wheel"], "dog": []}
    assert vocabulary.part_prompts == ("wheel", "car window") and vocabulary.part_owner == ((0, 1), (0,))
    assert [(part.label, part.parent) for part in records[0].parts] == [(0, 0), (1, 0)]
    assert not validate(content).errors and not validate(content).warnings


def test_links_through_many_levels_of_parts_reach_the_object(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "object", "level": "object"}, {"id": 2, "name": "part", "level": "part"}]
    image = {"id": 1, "file_name": "a.png", "height": 60, "width": 100}
    chain = [annotation(9, 1, (0, 0, 50, 50))]
    chain += [annotation(10 + level, 2, (0, 0, 40, 40), parent_id=9 + level) for level in range(11)]
    chain += [annotation(40, 2, (0, 0, 40, 40), parent_id=41), annotation(41, 2, (0, 0, 40, 40), parent_id=40)]
    records = read(tmp_path, {"images": [image], "categories": categories, "annotations": chain})
    assert [part.parent for part in records[0].parts] == [0] * 11 + [-1, -1]  # two that name each other have none
