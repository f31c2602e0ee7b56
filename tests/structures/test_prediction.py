"""Prediction: validation, the hierarchy, choosing rows, and the formats it is written in."""

from __future__ import annotations

import dataclasses
import json
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

from partglee.structures import Level, Prediction


def make(**changes: Any) -> Prediction:
    """Rows: wheel of car, car, person, door of car, a wheel of nobody."""
    masks = torch.zeros(5, 8, 12, dtype=torch.bool)
    for row in range(5):
        masks[row, row : row + 3, 1 : 4 + row] = True
    fields: dict[str, Any] = {
        "boxes": torch.tensor([[1, 0, 4, 3], [1, 1, 5, 4], [1, 2, 6, 5], [1, 3, 7, 6], [1.25, 4.1, 8, 7]]),
        "masks": masks,
        "scores": torch.tensor([0.5, 0.8, 0.9, 0.7, 0.3]),
        "labels": torch.tensor([0, 0, 1, 1, 0]),
        "names": ["wheel", "car", "person", "door", "wheel"],
        "level": torch.tensor([1, 0, 0, 1, 1]),
        "parent": torch.tensor([1, -1, -1, 1, -1]),
        "image_size": (8, 12),
        "file_name": "street.jpg",
    }
    return Prediction(**{**fields, **changes})


class TestReading:
    def test_hierarchy_by_score(self) -> None:
        prediction = make()
        assert prediction.objects() == [2, 1]
        assert prediction.parts_of(1) == [3, 0]
        assert prediction.parts_of(2) == []
        assert prediction.parts_without_object() == [4]
        assert len(prediction) == 5

    def test_parts_of_a_part(self) -> None:
        with pytest.raises(ValueError, match=r"row 3 \('door'\) is a part"):
            make().parts_of(3)

    @pytest.mark.parametrize("row", [-1, 5])
    def test_parts_of_no_row(self, row: int) -> None:
        with pytest.raises(IndexError, match=rf"there is no row {row} in 5 rows"):
            make().parts_of(row)

    def test_tree(self) -> None:
        assert make().tree().splitlines() == [
            "street.jpg: 2 objects, 3 parts",
            "person 0.90",
            "car 0.80",
            "├─ door 0.70",
            "└─ wheel 0.50",
            "(object not known)",
            "└─ wheel 0.30",
        ]

    def test_repr_is_short(self) -> None:
        expected = (
            "Prediction(2 objects, 3 parts: person, car; door, 2 wheel; with masks, image 12x8, file_name='street.jpg')"
        )
        assert repr(make()) == expected


class TestValidation:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"boxes": torch.zeros(4, 4)}, r"boxes must be \(5, 4\) xyxy.*got \(4, 4\)"),
            ({"boxes": torch.zeros(5, 5)}, r"boxes must be \(5, 4\)"),
            ({"boxes": torch.full((5, 4), float("nan"))}, "boxes and scores must be finite"),
            ({"scores": torch.full((5,), float("inf"))}, "boxes and scores must be finite"),
            ({"scores": torch.zeros(3)}, r"scores must be \(5,\).*got \(3,\)"),
            ({"labels": torch.zeros(6, dtype=torch.long)}, r"labels must be \(5,\)"),
            ({"level": torch.zeros(1, dtype=torch.long)}, r"level must be \(5,\)"),
            ({"parent": torch.zeros(1, dtype=torch.long)}, r"parent must be \(5,\)"),
            ({"level": torch.tensor([1, 0, 0, 2, 1])}, r"level of row 3 \('door'\) must be 0 .* got 2"),
            ({"parent": torch.tensor([3, -1, -1, 1, -1])}, r"parent of row 0 \('wheel'\) must be the row of an object"),
            ({"parent": torch.tensor([9, -1, -1, 1, -1])}, r"parent of row 0 .* got 9"),
            ({"parent": torch.tensor([-2, -1, -1, 1, -1])}, r"parent of row 0 .* got -2"),
            ({"parent": torch.tensor([1, 2, -1, 1, -1])}, r"row 1 \('car'\) is an object, so its parent must be -1"),
            ({"masks": torch.zeros(5, 8, 11, dtype=torch.bool)}, r"masks must be \(5, 8, 12\) bool"),
            ({"masks": torch.zeros(5, 8, 12)}, r"masks must be .* got \(5, 8, 12\) torch.float32"),
            ({"image": np.zeros((8, 12), np.uint8)}, r"image must be \(8, 12, 3\) uint8"),
            ({"image": np.zeros((8, 12, 3))}, r"image must be .* float64"),
            ({"image_size": (0, 12)}, r"image_size must be .* got \(0, 12\)"),
        ],
    )
    def test_message_names_the_field(self, changes: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make(**changes)


class TestSelect:
    def test_parents_are_reindexed_and_parts_follow(self) -> None:
        chosen = make().select([3, 1, 4])
        assert chosen.names == ["door", "car", "wheel"]
        assert chosen.parent.tolist() == [1, -1, -1]
        assert torch.equal(chosen.boxes, make().boxes[[3, 1, 4]])
        assert chosen.masks is not None
        assert torch.equal(chosen.masks, make().masks[[3, 1, 4]])  # type: ignore[index]
        assert make().select([0, 2, 3, 4]).names == ["person", "wheel"]

    def test_bool(self) -> None:
        assert make().select(torch.tensor([True, True, False, False, False])).names == ["wheel", "car"]
        with pytest.raises(ValueError, match=r"must be \(5,\), got \(3,\)"):
            make().select(torch.ones(3, dtype=torch.bool))

    def test_parts_alone(self) -> None:
        """Without their objects they go, and that is said; or they stay, of no known object."""
        with pytest.warns(UserWarning, match=r"the 2 chosen rows are parts of objects .*keep_parts=True"):
            assert make()[[0, 3]].names == []
        kept = make().select([0, 3], keep_parts=True)
        assert kept.names == ["wheel", "door"] and kept.parent.tolist() == [-1, -1]
        assert [row.id for row in kept] == [1, 4]
        assert make()[make().level == Level.PART].names == ["wheel"], "the one of nobody"

    def test_wrong_rows(self) -> None:
        with pytest.raises(IndexError, match="no row 7"):
            make().select([7])
        with pytest.raises(IndexError, match="no row -6"):
            make().select([-6])
        assert make().select([-4]).names == make().select([1]).names
        with pytest.raises(ValueError, match="must differ"):
            make().select([1, 1])

    def test_filter(self) -> None:
        assert make().filter(0.75).names == ["car", "person"]
        assert make().filter(0.85, part_score_threshold=0.1).names == ["person", "wheel"]
        assert make().filter(0.5).names == ["wheel", "car", "person", "door"]
        assert len(make().filter(1.1)) == 0
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert make().filter(1.0, part_score_threshold=0.4).names == []  # as documented, without a word

    def test_nothing_left(self) -> None:
        empty = make().select([])
        assert empty.boxes.shape == (0, 4)
        assert empty.objects() == []
        assert empty.tree() == "street.jpg: 0 objects, 0 parts"


def same(a: Prediction, b: Prediction) -> bool:
    fields = ("boxes", "scores", "labels", "level", "parent", "ids")
    masks = a.masks is b.masks is None or (a.masks is not None and b.masks is not None and a.masks.equal(b.masks))
    rest = (a.names, a.image_size, a.file_name) == (b.names, b.image_size, b.file_name)
    return masks and rest and all(torch.equal(getattr(a, field), getattr(b, field)) for field in fields)


class TestFormats:
    def test_coco(self) -> None:
        rows = make().to_coco(image_id=42, object_category_ids=[10, 20], part_category_ids={0: 7, 1: 8})
        assert [row["category_id"] for row in rows] == [7, 10, 20, 8, 7]
        assert [row["id"] for row in rows] == [1, 2, 3, 4, 5]
        assert [row["parent_id"] for row in rows] == [2, None, None, 2, None]
        assert [row["level"] for row in rows] == ["part", "object", "object", "part", "part"]
        assert rows[1]["bbox"] == [1, 1, 4, 3]
        assert rows[0]["image_id"] == 42
        assert all(isinstance(row["segmentation"]["counts"], str) for row in rows)
        assert rle.area(rows[4]["segmentation"]) == 3 * 7
        json.dumps(rows)

    @pytest.mark.parametrize("changes", [{}, {"masks": None}, {"file_name": None}])
    def test_json_round_trip(self, changes: dict[str, Any]) -> None:
        prediction = make(**changes)
        line = prediction.to_json()
        assert "\n" not in line
        assert same(Prediction.from_json(line), prediction)

    def test_json_round_trip_of_nothing(self) -> None:
        empty = Prediction.empty(image_size=(1, 1))
        assert same(Prediction.from_json(empty.to_json()), empty)

    def test_json_of_something_else(self) -> None:
        for line in ("{}", "no json", "[1]"):
            with pytest.raises(ValueError, match=r"expected a line written by Prediction\.to_json"):
                Prediction.from_json(line)

    def test_coco_with_wrong_rows(self) -> None:
        rows = make().to_coco()
        with pytest.raises(ValueError, match="result 1 has parent_id 99"):
            Prediction.from_coco([rows[1], {**rows[0], "parent_id": 99}], image_size=(8, 12))
        with pytest.raises(ValueError, match=r"result 0 has no \['name'\]"):
            Prediction.from_coco([{k: v for k, v in rows[0].items() if k != "name"}], image_size=(8, 12))
        with pytest.raises(ValueError, match="mask 0 has size"):
            Prediction.from_coco([rows[1]], image_size=(9, 12))
        with pytest.raises(ValueError, match="level of result 0 must be"):
            Prediction.from_coco([{**rows[1], "level": "thing"}], image_size=(8, 12))

    def test_supervision(self) -> None:
        detections = make().to_supervision()
        assert len(detections) == 5
        assert detections.data["class_name"].tolist() == ["wheel", "car", "person", "door", "wheel"]
        assert detections.data["parent"].tolist() == [1, -1, -1, 1, -1]
        assert detections.data["id"].tolist() == [1, 2, 3, 4, 5]
        assert detections.data["parent_id"].tolist() == [2, 0, 0, 2, 0]
        objects = detections[detections.data["level"] == Level.OBJECT]
        assert objects.data["class_name"].tolist() == ["car", "person"]
        assert len(Prediction.empty(image_size=(4, 4)).to_supervision()) == 0

    def test_replace_and_device(self) -> None:
        assert same(dataclasses.replace(make()).to("cpu"), make())

    def test_draw(self) -> None:
        picture = make(image=np.full((8, 12, 3), 90, np.uint8)).draw(scale=1)
        assert picture.size == (12, 8)
