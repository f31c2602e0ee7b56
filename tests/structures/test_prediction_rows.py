"""Rows with attributes, ids that stay, one id space, tables, crops and files."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from partglee.structures import Grounding, Level, Prediction, PredictionRow, Vocabulary

VOCABULARY = Vocabulary({"car": ["wheel", "door"], "bus": ["wheel"], "person": []})
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def make(**changes: Any) -> Prediction:
    """Rows: wheel of bus, car, bus, door of car, wheel of car, a wheel of nobody."""
    masks = torch.zeros(6, 8, 12, dtype=torch.bool)
    for row in range(6):
        masks[row, row : row + 2, 1:5] = True
    fields: dict[str, Any] = {
        "boxes": torch.tensor([[1.0, row, 5, row + 2] for row in range(6)]),
        "masks": masks,
        "scores": torch.tensor([0.5, 0.8, 0.9, 0.7, 0.3, 0.2]),
        "labels": torch.tensor([2, 0, 1, 1, 0, 0]),
        "names": ["wheel", "car", "bus", "door", "wheel", "wheel"],
        "level": torch.tensor([1, 0, 0, 1, 1, 1]),
        "parent": torch.tensor([2, -1, -1, 1, 1, -1]),
        "image_size": (8, 12),
        "image": PIXELS,
        "vocabulary": VOCABULARY,
    }
    return Prediction(**{**fields, **changes})


class TestRows:
    def test_iteration(self) -> None:
        rows = list(make())
        assert [row.name for row in rows] == make().names and [row.index for row in rows] == list(range(6))
        car, door = rows[1], rows[3]
        assert (car.level, car.is_part, car.parent, car.score, car.box) == (
            Level.OBJECT, False, None, pytest.approx(0.8), (1, 1, 5, 3),
        )  # fmt: skip
        assert [part.name for part in car.parts] == ["door", "wheel"] and door.parts == []
        assert door.is_part and door.parent is not None and door.parent.index == 1 and door.parent.id == car.id == 2
        assert door.mask is not None and torch.equal(door.mask, make().masks[3])  # type: ignore[index]
        assert rows[5].parent is None and make(masks=None)[0].mask is None

    def test_places(self) -> None:
        prediction = make()
        row = prediction[-1]
        assert isinstance(row, PredictionRow) and row.index == 5 and prediction[np.int64(2)].name == "bus"
        assert prediction[1:3].names == ["car", "bus"]
        assert prediction[[2, 0]].names == ["bus", "wheel"]
        assert prediction[np.array([False, True, True, False, False, False])].names == ["car", "bus"]
        assert prediction[prediction.scores > 0.6].names == ["car", "bus", "door"]
        assert len(prediction[[]]) == 0 and len(prediction[[True] + [False] * 5]) == 0  # a wheel without its bus
        assert prediction[torch.tensor(1)].name == prediction[np.array(1)].name == "car"
        assert prediction[[-1, 1]].names == prediction[[5, 1]].names and len(prediction[[-1, 1]])
        for row_number in (6, -7):
            with pytest.raises(IndexError, match=f"no row {row_number} in 6 rows"):
                prediction[row_number]
        with pytest.raises(TypeError, match="expected a row number"):
            prediction["car"]  # type: ignore[call-overload]
        for rows in ([0.5], [[0, 1]], torch.tensor(True), True, None, b"a", ["0"]):
            with pytest.raises(TypeError, match="expected a row number"):
                prediction[rows]  # type: ignore[call-overload]

    def test_repr_tells(self) -> None:
        prediction = make()
        assert repr(prediction[1]) == "object 'car' 0.80 (row 1, id 2, box 1 1 5 3, 2 parts)"
        assert repr(prediction[3]) == "part 'door' 0.70 (row 3, id 4, box 1 3 5 5, of car)"
        assert repr(prediction) == "Prediction(2 objects, 4 parts: bus, car; door, 3 wheel; with masks, image 12x8)"
        assert repr(Prediction.empty(image_size=(3, 4))) == "Prediction(0 objects, 0 parts; with masks, image 4x3)"
        many = make(names=["a", "b", "c", "d", "e", "f"], level=torch.zeros(6), parent=torch.full((6,), -1))
        assert "6 objects, 0 parts: c, b, d, a, ...; " in repr(many)

    def test_a_view_changes_with_its_prediction(self) -> None:
        prediction = make()
        row = prediction[0]
        prediction.scores[0] = 0.25
        assert row.score == 0.25


class TestIds:
    def test_they_survive_selection(self) -> None:
        prediction = make()
        few = prediction.select([4, 1, 3])
        assert few.ids is not None and few.ids.tolist() == [5, 2, 4]
        assert [row["id"] for row in few.to_coco()] == [5, 2, 4]
        assert [row["parent_id"] for row in few.to_coco()] == [2, None, 2]
        assert few.row_of(2) == 1 and few.filter(0.6).row_of(4) == 1
        assert few.to_supervision().data["parent_id"].tolist() == [2, 0, 2]
        with pytest.raises(KeyError, match="no row has the id 1"):
            few.row_of(1)
        again = Prediction.from_json(few.to_json())
        assert again.ids is not None and again.ids.tolist() == [5, 2, 4] and again.parent.tolist() == [1, -1, 1]

    def test_they_are_given_and_checked(self) -> None:
        assert [row.id for row in make(ids=[9, 8, 7, 6, 5, 4])] == [9, 8, 7, 6, 5, 4]
        assert [row["id"] for row in make().to_coco(first_id=100)] == [100, 101, 102, 103, 104, 105]
        with pytest.raises(ValueError, match="unlike each other"):
            make(ids=[1, 1, 2, 3, 4, 5])
        with pytest.raises(ValueError, match=r"ids must be \(6,\)"):
            make(ids=[1, 2])

    def test_a_grounding_keeps_them(self) -> None:
        answer = Grounding.of(make(), expression="a car", no_target_score=0.2).select([2])
        assert isinstance(answer, Grounding) and answer.expression == "a car" and answer[0].id == 3
        assert repr(answer).startswith("Grounding(1 object")


class TestOneIdSpace:
    def test_coco(self) -> None:
        prediction = make()
        rows = prediction.to_coco()
        assert [row["category_id"] for row in rows] == [5, 0, 1, 4, 3, 3]  # car bus person | car wheel, car door, ...
        assert [row["label"] for row in rows] == prediction.labels.tolist()
        names = {category["id"]: category["name"] for category in prediction.categories()}
        assert names == {0: "car", 1: "bus", 2: "person", 3: "car:wheel", 4: "car:door", 5: "bus:wheel"}
        for row in rows:  # a category says the level and the name of its rows
            assert names[row["category_id"]].rpartition(":")[2] == row["name"]
        assert prediction.categories()[3]["supercategory"] == "car"
        again = Prediction.from_coco(rows, image_size=(8, 12), vocabulary=VOCABULARY)
        assert torch.equal(again.labels, prediction.labels) and again.to_coco() == rows

    def test_shared_part_names(self) -> None:
        shared = Vocabulary({"car": ["wheel"], "bus": ["wheel"]}, part_format="{part}")
        assert make(vocabulary=shared).categories()[2] == {
            "id": 2, "name": "wheel", "supercategory": "part", "level": "part",
        }  # fmt: skip

    def test_without_a_vocabulary(self) -> None:
        prediction = make(vocabulary=None)
        assert [row["category_id"] for row in prediction.to_coco()] == [4, 0, 1, 3, 2, 2]
        with pytest.raises(ValueError, match="does not know its vocabulary"):
            prediction.categories()

    def test_supervision(self) -> None:
        detections = make().to_supervision()
        assert detections.class_id is not None
        pairs = set(zip(detections.class_id.tolist(), detections.data["class_name"].tolist(), strict=True))
        assert pairs == {(0, "car"), (1, "bus"), (3, "wheel"), (4, "door")}  # a name has one colour
        assert detections.data["label"].tolist() == make().labels.tolist()
        without = make(vocabulary=None).to_supervision()
        pairs = set(zip(without.class_id.tolist(), without.data["class_name"].tolist(), strict=True))  # type: ignore[union-attr]
        assert len(pairs) == len({number for number, _ in pairs}) == len({name for _, name in pairs}) == 4

    def test_the_old_form_by_option(self) -> None:
        with pytest.warns(DeprecationWarning, match=r"to_coco\(ids_per_level=True\)"):
            assert [row["category_id"] for row in make().to_coco(ids_per_level=True)] == make().labels.tolist()
        with pytest.warns(DeprecationWarning, match=r"to_supervision\(ids_per_level=True\)"):
            old = make().to_supervision(ids_per_level=True)
        assert old.class_id is not None and old.class_id.tolist() == make().labels.tolist()

    def test_files_of_before_are_read(self) -> None:
        rows: list[dict[str, Any]] = [{**row} for row in make().to_coco()]
        for row in rows:
            row["category_id"] = row.pop("label")
        assert torch.equal(Prediction.from_coco(rows, image_size=(8, 12)).labels, make().labels)


class TestPictures:
    @pytest.mark.parametrize(("name", "form"), [("a.jpg", "JPEG"), ("b/c.PNG", "PNG"), ("d.webp", "WEBP")])
    def test_save(self, tmp_path: Path, name: str, form: str) -> None:
        saved = make().save(tmp_path / name)
        assert saved == tmp_path / name
        with Image.open(saved) as picture:
            assert picture.format == form and picture.size == (12, 8)
        assert [path.name for path in saved.parent.iterdir() if path.is_file()] == [saved.name]

    def test_save_data(self, tmp_path: Path) -> None:
        again = Prediction.from_json(make().save(tmp_path / "found.json").read_text())
        assert again.names == make().names

    def test_save_as_something_else(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"use \.jpg, .*\.json for data"):
            make().save(tmp_path / "found.xyz")
        with pytest.raises(ValueError, match="no image to draw on"):
            make(image=None).save(tmp_path / "found.jpg")
        assert list(tmp_path.iterdir()) == []

    def test_notebooks(self) -> None:
        data = make()._repr_png_()
        assert data is not None
        assert Image.open(io.BytesIO(data)).size == (12, 8)
        assert make(image=None)._repr_png_() is None

    def test_show(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[Image.Image] = []
        monkeypatch.setattr(Image.Image, "show", lambda self: shown.append(self))
        make().show()
        assert shown[0].size == (12, 8)

    def test_crop(self) -> None:
        prediction = make()
        assert np.array_equal(np.asarray(prediction.crop(2)), PIXELS[2:4, 1:5])
        assert np.array_equal(np.asarray(prediction[2].crop(margin=0.5)), PIXELS[1:5, 0:7])
        prediction.boxes[2] = torch.tensor([0.5, 1.5, 99.0, 99.0])
        assert prediction.crop(2).size == (12, 7)
        cut = np.asarray(prediction.crop(2, cut_out=True))
        assert cut.shape == (7, 12, 4) and np.array_equal(cut[..., 3] > 0, prediction.masks[2, 1:].numpy())  # type: ignore[index]
        for wrong, message in (({"image": None}, "no image to crop"), ({"masks": None}, "boxes alone")):
            with pytest.raises(ValueError, match=message):
                make(**wrong).crop(0, cut_out=True)
        with pytest.raises(ValueError, match="margin must not be negative"):
            make().crop(0, margin=-1)
        with pytest.raises(ValueError, match=r"row 0 \('wheel'\) has no pixel"):
            make(boxes=torch.full((6, 4), 20.0)).crop(0)
        with pytest.raises(IndexError, match="no row 6"):
            make().crop(6)


class _Table(dict):
    """As much of `pandas.DataFrame` as is asked for: columns of one length."""

    def __init__(self, columns: dict[str, Any]) -> None:
        super().__init__({name: list(values) for name, values in columns.items()})
        assert len({len(values) for values in self.values()}) == 1


class TestTables:
    def columns(self, prediction: Prediction) -> Any:
        return prediction.to_pandas()

    def test_columns(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fake = SimpleNamespace(DataFrame=_Table, array=lambda values, dtype: values)
        monkeypatch.setitem(sys.modules, "pandas", fake)  # type: ignore[arg-type]
        table = self.columns(make())
        assert table["name"] == make().names and table["id"] == [1, 2, 3, 4, 5, 6]
        assert table["parent_id"] == [3, None, None, 2, 2, None] and table["parent_name"][3] == "car"
        assert table["level"][:2] == ["part", "object"] and table["area"] == [8] * 5 + [8]
        assert [table[side][3] for side in ("xmin", "ymin", "xmax", "ymax")] == [1, 3, 5, 5]
        assert self.columns(make(masks=None))["area"] == [None] * 6

    def test_in_pandas(self) -> None:
        pandas = pytest.importorskip("pandas")
        table = make().to_pandas()
        assert isinstance(table, pandas.DataFrame) and table.shape == (6, 11)
        assert table.loc[table.parent_id == 2, "name"].tolist() == ["door", "wheel"]
        assert table.parent_id.isna().sum() == 3
        assert len(Prediction.empty(image_size=(3, 4)).to_pandas()) == 0

    def test_without_pandas(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "pandas", None)
        with pytest.raises(ImportError, match="pip install pandas"):
            make().to_pandas()
