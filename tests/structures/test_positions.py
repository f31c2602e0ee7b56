"""Equal parts told apart by their boxes, on cars drawn with numbers."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from partglee.engine import Predictor
from partglee.structures import Prediction, Vocabulary
from partglee.structures.positions import PositionRules, positions, with_positions

OWN = PositionRules(frame="own")


def words(*parts: tuple[str, float, float], rules: PositionRules | None = None, flip: bool = False) -> list[str]:
    """Of parts of 4 x 4 pixels at (x, y) in an object of 100 x 100; flip: of the mirrored picture."""
    boxes = [(0.0, 0.0, 100.0, 100.0), *((x - 2, y - 2, x + 2, y + 2) for _, x, y in parts)]
    found = np.array(boxes)
    if flip:
        found[:, [0, 2]] = 100 - found[:, [2, 0]]
    names = ["car", *(name for name, *_ in parts)]
    return positions(names, found, [-1, *[0] * len(parts)], rules=rules)[1:]


def test_what_lies_side_by_side() -> None:
    pair = (("mirror", 10, 30), ("mirror", 90, 30))
    assert words(*pair) == ["left", "right"] and words(*pair, flip=True) == ["right", "left"]
    assert words(("wheel", 20, 90), ("wheel", 80, 90)) == ["left", "right"], "nothing tells where the front is"


def test_the_own_left_of_what_faces_the_viewer_is_the_right_of_the_picture() -> None:
    front = (("mirror", 10, 30), ("mirror", 90, 30), ("headlight", 20, 60), ("headlight", 80, 60))
    rear = (("mirror", 10, 30), ("mirror", 90, 30), ("taillight", 20, 60), ("taillight", 80, 60))
    assert words(*front) == words(*rear) == ["left", "right"] * 2
    assert words(*front, rules=OWN) == ["right", "left"] * 2
    assert words(*rear, rules=OWN) == ["left", "right"] * 2
    assert words(*front[:2], rules=OWN) == ["", ""], "nothing tells which end is seen"


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("rules", [None, OWN])
def test_front_and_rear_where_a_side_is_seen(flip: bool, rules: PositionRules | None) -> None:
    side = (("headlight", 5, 60), ("taillight", 95, 60), ("wheel", 20, 90), ("wheel", 80, 90), ("door", 40, 50),
            ("door", 60, 50))  # fmt: skip
    assert words(*side, rules=rules, flip=flip)[2:] == ["front", "rear", "front", "rear"]
    assert words(side[0], *side[2:], rules=rules, flip=flip)[1:] == ["front", "rear", "front", "rear"]
    assert words(side[1], *side[2:], rules=rules, flip=flip)[1:] == ["front", "rear", "front", "rear"]


def test_upper_and_lower() -> None:
    assert words(("lip", 50, 60), ("lip", 51, 75)) == ["upper", "lower"]
    assert words(("drawer", 50, 10), ("drawer", 50, 50), ("drawer", 50, 90)) == ["upper", "", "lower"]
    square = (("knob", 10, 10), ("knob", 90, 10), ("knob", 10, 90), ("knob", 90, 90))
    assert words(*square) == ["upper left", "upper right", "lower left", "lower right"]
    assert words(("lens", 10, 30), ("lens", 90, 60)) == ["left", "right"], "of two the longer way alone"


def test_what_is_not_told_apart() -> None:
    assert words(("mirror", 10, 30)) == [""], "the only one"
    assert words(("mirror", 50, 30), ("mirror", 54, 31)) == ["", ""], "too near to each other"
    assert words(("Mirror", 10, 30), ("mirror ", 90, 30)) == ["left", "right"], "case and white space do not count"
    names, boxes = (
        ["car", "car", "wheel", "wheel"],
        np.array([[0, 0, 50, 50], [50, 0, 99, 50], [1, 1, 5, 5], [60, 1, 65, 5]]),
    )
    assert positions(names, boxes, [-1, -1, 0, 1]) == [""] * 4, "of two cars"
    assert positions(names, boxes, [-1, -1, -1, -1]) == [""] * 4, "of no known object"
    assert positions([], np.zeros((0, 4)), []) == []


def test_a_prediction_is_renamed_and_else_the_same() -> None:
    found = Prediction(
        boxes=[[0, 0, 100, 100], [10, 80, 20, 90], [80, 80, 90, 90], [40, 5, 60, 20]], scores=[0.9, 0.8, 0.7, 0.6],
        labels=[0, 0, 0, 1], names=["car", "wheel", "wheel", "windshield"], level=[0, 1, 1, 1], parent=[-1, 0, 0, 0],
        image_size=(100, 100),
    )  # fmt: skip
    named = with_positions(found)
    assert named.names == ["car", "left wheel", "right wheel", "windshield"]
    assert named.labels.tolist() == found.labels.tolist() and named.parts_of(0) == found.parts_of(0)
    assert found.names[1] == "wheel", "the one that was given stays as it is"
    assert with_positions(found, rules=PositionRules(min_gap=0.8)).names == found.names


def test_bad_rules() -> None:
    with pytest.raises(ValueError, match="frame must be 'image' or 'own', got 'world'"):
        PositionRules(frame="world")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="min_gap must be a share"):
        PositionRules(min_gap=1.5)


def test_the_tool_counts_what_people_said(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One car from the front, whose left mirror is at the right of the picture; one from the side."""
    labels = ["left_mirror", "right_mirror", "front_left_light", "front_left_door", "back_left_door", "wheel"]
    places = [
        (1, 0, 90, 30),
        (1, 1, 10, 30),
        (1, 2, 50, 60),
        (2, 2, 5, 60),
        (2, 3, 40, 50),
        (2, 4, 70, 50),
        (2, 5, 9, 9),
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": key, "name": name} for key, name in enumerate(labels)],
        "annotations": [
            {"id": key, "image_id": image, "category_id": label, "segmentation": [[x, y, x + 9, y, x + 9, y + 9]]}
            for key, (image, label, x, y) in enumerate(places)
        ],
    }  # fmt: skip
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    monkeypatch.setattr(sys, "argv", ["measure_positions.py", str(tmp_path)])
    with pytest.raises(SystemExit) as status:
        runpy.run_path(str(root / "tools" / "measure_positions.py"), run_name="__main__")
    assert status.value.code == 0
    image, own = capsys.readouterr().out.split("frame own")
    assert "left/right  all         all                  2      2      2      0  0.0 %" in image
    assert "left/right  all         all                  2      2      2      2  100.0 %" in own
    for text in (image, own):
        assert "front/back  door        from the front       2      2      2      2  100.0 %" in text

    def finds(file: Path, vocabulary: Vocabulary) -> Prediction:
        """The doors of the second car a pixel beside where people drew them, one mirror of the first, and its light."""
        assert vocabulary.part_columns("car")
        boxes = {"a.jpg": [(0, 0, 100, 70), (90, 30, 99, 39), (50, 60, 59, 69)],
                 "b.jpg": [(0, 0, 100, 70), (41, 50, 50, 59), (70, 51, 79, 60), (5, 60, 14, 69)],
                 }[file.name]  # fmt: skip
        names = {"a.jpg": ["car", "mirror", "headlight"], "b.jpg": ["car", "door", "door", "headlight"]}[file.name]
        count = len(boxes)
        return Prediction(
            boxes=torch.tensor(boxes, dtype=torch.float32), scores=torch.ones(count), names=names,
            labels=torch.arange(count), level=torch.tensor([0] + [1] * (count - 1)),
            parent=torch.tensor([-1] + [0] * (count - 1)), image_size=(100, 100),
        )  # fmt: skip

    monkeypatch.setattr(Predictor, "from_pretrained", lambda weights: finds)
    monkeypatch.setattr(sys, "argv", ["measure_positions.py", str(tmp_path), "--weights", "any"])
    with pytest.raises(SystemExit) as status:
        runpy.run_path(str(root / "tools" / "measure_positions.py"), run_name="__main__")
    image = capsys.readouterr().out.partition("frame own")[0]
    assert status.value.code == 0 and "left/right  all         all                  2      1      0      0  -" in image
    assert "front/back  door        from the front       2      2      2      2  100.0 %" in image
