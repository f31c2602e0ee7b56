"""Parts found in close crops come back at their place in the photo, and what is not certain is not taught as absent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from partglee.annotate.closer_look import CloserLook
from partglee.basics.files import write_json
from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.structures import Prediction

CATEGORIES = [
    {"id": 1, "name": "person", "level": "object"},
    {"id": 2, "name": "person:hair", "level": "part"},
    {"id": 5, "name": "person:hat", "level": "part"},
]


class Colours:
    """In place of a predictor: a part is what has its colour, and the person is everything."""

    COLOURS = {"head": (200, 0, 0), "nose": (0, 200, 0), "eye": (0, 0, 200)}

    def __init__(self, scores: dict[str, float]) -> None:
        self.scores = scores
        self.sizes: list[tuple[int, ...]] = []

    def __call__(
        self, image: NDArray[np.uint8], vocabulary: dict[str, list[str]], *, score_threshold: float, strict: bool
    ) -> Any:
        assert strict  # a missing name must not be read as another one
        self.sizes.append(image.shape)
        height, width, _ = image.shape
        rows: list[tuple[str, float, NDArray[np.bool_]]] = [("person", 0.9, np.ones((height, width), bool))]
        for name in vocabulary["person"]:
            mask = (image == self.COLOURS.get(name, (1, 2, 3))).all(-1)
            if name == "head":
                mask = image.any(-1)
            halves = [mask & (np.arange(width) < width // 2), mask & (np.arange(width) >= width // 2)]
            for one in halves if name == "eye" else [mask]:
                if one.any() and self.scores[name] >= score_threshold:
                    rows.append((name, self.scores[name], one))
        boxes = [[*(np.argwhere(m).min(0)[::-1]), *(np.argwhere(m).max(0)[::-1] + 1)] for _, _, m in rows]
        return Prediction(
            boxes=torch.tensor(np.array(boxes), dtype=torch.float32),
            masks=torch.from_numpy(np.stack([mask for _, _, mask in rows])),
            scores=torch.tensor([score for _, score, _ in rows]),
            labels=torch.zeros(len(rows), dtype=torch.long),
            names=[name for name, _, _ in rows],
            level=torch.tensor([0] + [1] * (len(rows) - 1)),
            parent=torch.tensor([-1] + [0] * (len(rows) - 1)),
            image_size=(height, width),
        )


def photo(folder: Path) -> dict[str, Any]:
    """A person of 60 x 400 with a head of 40 x 50 around (100, 50); a nose and two eyes in it."""
    pixels = np.zeros((420, 200, 3), np.uint8)
    pixels[25:75, 80:120] = Colours.COLOURS["head"]
    pixels[50:56, 98:102] = Colours.COLOURS["nose"]
    pixels[40:44, 86:92] = pixels[40:44, 108:114] = Colours.COLOURS["eye"]
    Image.fromarray(pixels).save(folder / "one.png")
    person = {"id": 7, "image_id": 3, "category_id": 1, "bbox": [70, 25, 60, 390], "area": 9000.0, "iscrowd": 0}
    hair = {"id": 9, "image_id": 3, "category_id": 2, "bbox": [80, 25, 40, 10], "area": 300.0, "iscrowd": 0}
    images = [{"id": 3, "file_name": "one.png", "height": 420, "width": 200}]
    annotations = [person, {**hair, "parent_id": 7}]
    return {"info": {}, "images": images, "categories": CATEGORIES, "annotations": annotations}


def look(folder: Path, content: dict[str, Any], **scores: float) -> tuple[dict[str, Any], Colours]:
    asked = Colours({"head": 0.9, "nose": 0.9, "eye": 0.9, **scores})
    looking = CloserLook(predictor=asked, singles=("head", "nose"), pairs=("eye",))  # type: ignore[arg-type]
    return looking.extend(content, folder, content["images"]), asked


def test_parts_at_their_place(tmp_path: Path) -> None:
    content = photo(tmp_path)
    made, asked = look(tmp_path, content)
    assert asked.sizes == [(82, 82, 3), (50, 50, 3)]  # 0.21 of the height around the hair; then the head
    names = {entry["id"]: entry["name"] for entry in made["categories"]}
    assert [names[i] for i in sorted(names)] == [
        "person", "person:hair", "person:hat", "person:head", "person:nose", "person:eye",
    ]  # fmt: skip
    new = made["annotations"][2:]
    boxes = {(names[entry["category_id"]], *entry["bbox"]) for entry in new}
    assert ("person:nose", 98, 50, 4, 6) in boxes
    assert {box for box in boxes if box[0] == "person:eye"} == {
        ("person:eye", 86, 40, 6, 4), ("person:eye", 108, 40, 6, 4),
    }  # fmt: skip
    assert all(entry["parent_id"] == 7 and entry["score"] == 0.9 for entry in new)
    assert len({entry["id"] for entry in made["annotations"]}) == len(made["annotations"])
    assert made["images"][0]["not_exhaustive_category_ids"] == [] and content["images"][0].keys() == {
        "id", "file_name", "height", "width",
    }  # fmt: skip


def test_what_is_not_certain(tmp_path: Path) -> None:
    made, _ = look(tmp_path, photo(tmp_path), nose=0.29)
    write_json(made, tmp_path / "made.json")
    spec = DatasetSpec(name="made", annotations=str(tmp_path / "made.json"), images=str(tmp_path), reader=read_coco)
    records = spec.read()
    names = records.vocabulary.part_names
    record = records[0]
    assert record.negative_parts is not None
    assert {names[label] for label in record.negative_parts} | {names[part.label] for part in record.parts} == {
        "hair", "hat", "head", "eye",
    }  # fmt: skip
    assert sorted(names[part.label] for part in record.parts) == ["eye", "eye", "hair", "head"]


def test_a_person_without_hair_or_head(tmp_path: Path) -> None:
    content = photo(tmp_path)
    bald = {**content, "annotations": content["annotations"][:1]}
    made, asked = look(tmp_path, bald)
    assert asked.sizes == [] and made["annotations"] == bald["annotations"]
    assert made["images"][0]["neg_category_ids"] == [1, 2, 5]
    made, asked = look(tmp_path, content, head=0.1)
    assert len(asked.sizes) == 1 and len(made["annotations"]) == 2


def test_a_photo_that_cannot_be_read(tmp_path: Path) -> None:
    content = photo(tmp_path)
    person, hair = content["annotations"]
    content["images"].insert(0, {"id": 2, "file_name": "torn.png", "height": 420, "width": 200})
    content["annotations"] += [
        {**person, "id": 10, "image_id": 2}, {**person, "id": 11, "image_id": 2},
        {**hair, "id": 12, "image_id": 2, "parent_id": 10}, {**hair, "id": 13, "image_id": 2, "parent_id": 11},
    ]  # fmt: skip
    (tmp_path / "torn.png").write_bytes((tmp_path / "one.png").read_bytes()[:100])
    with pytest.warns(UserWarning, match=r"nothing is looked for: .*torn\.png") as told:
        made, _ = look(tmp_path, content)
    assert len(told) == 1, "once for the photo"
    assert {entry["image_id"] for entry in made["annotations"][6:]} == {3} and len(made["annotations"]) > 8
    torn = next(entry for entry in made["images"] if entry["id"] == 2)
    assert torn["neg_category_ids"] == [1, 2, 5], "what it was labelled with; of the new names nothing is said"
    (tmp_path / "torn.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"torn\.png"):
        look(tmp_path, content)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    content = photo(tmp_path)
    with pytest.raises(ValueError, match="no category 'person:hat'; it has"):
        look(tmp_path, {**content, "categories": CATEGORIES[:2]})
    nose = {"id": 6, "name": "person:nose", "level": "part"}
    with pytest.raises(ValueError, match="has 'person:nose' already; leave it out"):
        look(tmp_path, {**content, "categories": [*CATEGORIES, nose]})


def test_what_the_file_says_of_its_own_names_stays(tmp_path: Path) -> None:
    """The second photo's lists say that hats were not looked for, and that hair was not labelled in full."""
    content = photo(tmp_path)
    told = {**content["images"][0], "neg_category_ids": [1], "not_exhaustive_category_ids": [2]}
    made, _ = look(tmp_path, {**content, "images": [told]})
    assert made["images"][0]["neg_category_ids"] == [1, 6, 7, 8]
    assert made["images"][0]["not_exhaustive_category_ids"] == [2]


def test_a_neighbours_parts_are_not_its(tmp_path: Path) -> None:
    content = photo(tmp_path)
    asked = Colours({"head": 0.9, "nose": 0.5, "eye": 0.9})

    def two(image: NDArray[np.uint8], vocabulary: dict[str, list[str]], **options: Any) -> Prediction:
        """The person in the middle, and one at the left edge whose nose has the better score."""
        own = asked(image, vocabulary, **options)
        width = image.shape[1]
        edge = torch.zeros(1, *image.shape[:2], dtype=torch.bool)
        edge[:, :5, : width // 8] = True
        box = torch.tensor([[0.0, 0.0, width / 8, 5.0]])
        number = len(own)
        return Prediction(
            boxes=torch.cat((own.boxes, box, box)),
            masks=torch.cat((torch.as_tensor(own.masks), edge, edge)),
            scores=torch.cat((own.scores, torch.tensor([0.99, 0.99]))),
            labels=torch.zeros(number + 2, dtype=torch.long),
            names=[*own.names, "person", "nose"],
            level=torch.cat((own.level, torch.tensor([0, 1]))),
            parent=torch.cat((own.parent, torch.tensor([-1, number]))),
            image_size=own.image_size,
        )

    looking = CloserLook(predictor=two, singles=("head", "nose"), pairs=("eye",))  # type: ignore[arg-type]
    made = looking.extend(content, tmp_path, content["images"])
    noses = [entry for entry in made["annotations"] if entry["category_id"] == 7]
    assert [entry["bbox"] for entry in noses] == [[98, 50, 4, 6]] and noses[0]["score"] == 0.5


def test_a_threshold_that_is_no_score(tmp_path: Path) -> None:
    looking = CloserLook(predictor=Colours({}), threshold=30)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threshold must be a score from 0 to 1, got 30"):
        looking.extend(photo(tmp_path), tmp_path, [])
