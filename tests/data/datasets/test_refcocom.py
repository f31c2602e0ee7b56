"""RefCOCOm: parts and objects of the published files, masks as images; what does not fit together is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.data import Instance, get_dataset
from partglee.data.images import read_image
from partglee.data.segmentation import decode
from partglee.evaluation.expression_files import score_part_expressions
from partglee.testing.miniatures import MINIATURES

Rows = list[dict[str, Any]]


@pytest.fixture
def refcocom(data_root: Path) -> Path:
    MINIATURES["refcocom"](data_root, num_images=3, seed=1)
    return data_root / "RefCOCOm"


def rows(folder: Path, kind: str = "object_part", split: str = "val") -> Rows:
    made: Rows = json.loads((folder / "annotations" / f"{split}_{kind}.json").read_text())
    return made


@pytest.mark.parametrize("split", ["val", "testA", "testB"])
def test_every_segment_is_a_part_or_an_object(refcocom: Path, split: str) -> None:
    records = get_dataset(f"refcocom-{split}").read()
    parts = {row["segment_id"] for row in rows(refcocom, "part_only", split)}
    by_id = {row["segment_id"]: row for row in rows(refcocom, split=split)}
    told: dict[int, list[str]] = {}
    for index in range(len(records)):
        record = records[index]
        assert read_image(record.source).shape == (record.height, record.width, 3)
        assert record.image_id == int(record.file.stem[-12:])
        for level, things in ((0, record.objects), (1, record.parts)):
            for row, thing in enumerate(things):
                entry = by_id[thing.annotation_id]
                assert (thing.annotation_id in parts) == bool(level) and list(thing.box) == entry["bbox"]
                if level:
                    assert records.vocabulary.part_names[thing.label] == entry["cat"]
                image = np.asarray(Image.open(refcocom / "masks" / f"{thing.annotation_id}.png"))
                assert np.array_equal(decode(thing.segmentation, record.height, record.width), image > 0)
                said = [e for e in record.expressions if row in (e.parts if level else e.objects)]
                told[thing.annotation_id] = [one.text for one in said]
                assert all(one.of_parts == bool(level) and len(record.targets(one)) == 1 for one in said)
                assert [one.id for one in said] == [one["sent_id"] for one in entry["sentences"]]
    assert told == {key: [one["sent"] for one in row["sentences"]] for key, row in by_id.items()}
    counts = records.counts()  # type: ignore[attr-defined]
    assert counts["parts"] == len(parts) > 0 and counts["objects"] == len(by_id) - len(parts) > 0
    assert counts["expressions"] == sum(map(len, told.values()))
    assert counts["part expressions"] == sum(len(told[key]) for key in parts)


def counts_of(thing: Instance) -> str:
    assert isinstance(thing.segmentation, dict)
    return str(thing.segmentation["counts"].decode())


def test_answers_are_scored(refcocom: Path, tmp_path: Path) -> None:
    records = get_dataset("refcocom-val").read()
    lines = []
    for index in range(len(records)):
        record = records[index]
        for place, said in enumerate(record.expressions):
            (thing,) = record.targets(said)
            mask = {"size": [record.height, record.width], "counts": counts_of(thing)}
            result = {"score": 1.0, "bbox": [0, 0, 1, 1], "segmentation": mask}
            lines.append(
                {"image_id": record.image_id, "expression": place, "results": [] if said.of_parts else [result]}
            )
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    results = score_part_expressions(file, records)
    share = results["num_objects"] / (results["num_objects"] + results["num_parts"])
    assert (results["part/mIoU"], results["object/mIoU"]) == (0, 100)
    assert results["object&part/mIoU"] == pytest.approx(100 * share) and 0 < share < 1


def edit(folder: Path, change: Callable[[Rows], object], kind: str = "object_part") -> None:
    made = rows(folder, kind)
    change(made)
    (folder / "annotations" / f"val_{kind}.json").write_text(json.dumps(made))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made[0].pop("cat"), r"val_object_part.json, row 0 has no cat"),
        (lambda made: made[1].update(bbox=[1, 2, 3]), r"row 1: bbox must be four numbers"),
        (lambda made: made[1].update(bbox=[5, 5, 5, 9]), r"row 1: bbox \[5, 5, 5, 9\] has no area"),
        (lambda made: made[1].update(segment_id=made[0]["segment_id"]), r"row 1: segment \d+ is given twice"),
        (lambda made: made[1].update(sentences="a"), r"row 1: sentences must be a list"),
        (lambda made: made[1].update(cat=3), r"row 1: cat and img_name must be text, got 3"),
        (lambda made: made.append({**made[0], "segment_id": 1}), r"1 of \d+ masks are missing in .*such as 1.png"),
        (lambda made: made.clear(), r"segments of .*val_part_only.json \(such as \d+\) are not in"),
    ],
)
def test_files_that_do_not_fit(refcocom: Path, change: Callable[[Rows], object], message: str) -> None:
    edit(refcocom, change)
    with pytest.raises(ValueError, match=message):
        get_dataset("refcocom-val").read()


def test_masks_that_are_none(refcocom: Path) -> None:
    records = get_dataset("refcocom-val").read()
    first = rows(refcocom)[0]["segment_id"]
    file = refcocom / "masks" / f"{first}.png"
    size = Image.open(file).size
    Image.new("L", size, 1).save(file)
    with pytest.raises(ValueError, match=rf"{first}.png' has no pixel above 127"):
        records[0]
    Image.new("L", (3, 3), 255).save(file)
    with pytest.raises(ValueError, match=r"\(height, width\), another one of image"):
        records[0]


def test_empty_sentences_are_counted(refcocom: Path) -> None:
    edit(refcocom, lambda made: made[0]["sentences"].append({"sent": " "}))
    records = get_dataset("refcocom-val").read()
    assert records.issues == {"empty sentences (left out)": 1}  # type: ignore[attr-defined]
    assert (
        len(records[0].expressions)
        == sum(len(row["sentences"]) for row in rows(refcocom) if row["img_name"] == rows(refcocom)[0]["img_name"]) - 1
    )
