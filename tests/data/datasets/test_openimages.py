"""Open Images: CSV files of a miniature -> objects and human parts with parents, federated."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.open_images import HUMAN_PARTS, OWNERS
from partglee.data.prepare.open_images import main as openimages_main
from partglee.testing.miniatures import MINIATURES
from partglee.testing.miniatures.boxes_alone import CODES


@pytest.fixture
def folder(data_root: Path) -> Path:
    MINIATURES["openimages"](data_root, num_images=8, seed=8)
    return data_root / "openimages"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("name", "split", "prefix"), [("train", "train", "oidv6-"), ("val", "validation", "")])
def test_boxes_names_and_parents(folder: Path, name: str, split: str, prefix: str) -> None:
    assert openimages_main([]) == 0
    records = get_dataset(f"openimage_joint_{name}").read()
    vocabulary = records.vocabulary
    assert len(records) == 8 and set(vocabulary.part_prompts) == set(HUMAN_PARTS) and len(vocabulary.object_names) == 8
    assert all({vocabulary.object_names[row] for row in owners} == set(OWNERS) for owners in vocabulary.part_owner)
    raw = rows(folder / f"{prefix}{split}-annotations-bbox.csv")
    names = {code: kind for kind, code in CODES.items()}
    linked = 0
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)
        wanted = {
            (names[r["LabelName"]], round(float(r["XMin"]) * record.width), round(float(r["YMax"]) * record.height))
            for r in raw
            if r["ImageID"] == record.file.stem
        }
        found = {(vocabulary.object_prompts[i.label], round(i.box[0]), round(i.box[3])) for i in record.objects}
        found |= {(vocabulary.part_prompts[i.label], round(i.box[0]), round(i.box[3])) for i in record.parts}
        assert found == wanted
        groups = {r["LabelName"] for r in raw if r["ImageID"] == record.file.stem and r["IsGroupOf"] == "1"}
        assert {names[code] for code in groups} == {vocabulary.object_names[i.label] for i in record.objects if i.crowd}
        assert {vocabulary.object_names[label] for label in record.not_exhaustive_objects} == {names[c] for c in groups}
        for part in record.parts:
            if part.parent >= 0:
                person = record.objects[part.parent]
                assert vocabulary.object_names[person.label] in OWNERS and not person.crowd
                assert person.box[0] <= part.box[0] + 0.1 and person.box[3] >= part.box[3] - 0.1
                linked += 1
    assert linked


def test_what_was_looked_for(folder: Path, first_batch) -> None:
    assert openimages_main(["--splits", "train"]) == 0
    records = get_dataset("openimage_joint_train").read()
    raw = rows(folder / "train-annotations-human-imagelabels-boxable.csv")
    names = {code: kind for kind, code in CODES.items()}
    for record in records:
        absent = {names[r["LabelName"]] for r in raw if r["ImageID"] == record.file.stem and r["Confidence"] == "0"}
        found = {records.vocabulary.object_names[label] for label in record.negative_objects}
        found |= {records.vocabulary.part_prompts[label] for label in record.negative_parts}
        assert found == absent
    batch = first_batch("openimage_joint_train", 4)
    assert batch.names is not None
    objects, parts = batch.supervision.objects.negatives, batch.supervision.parts.negatives
    assert objects is not None and parts is not None and not objects.all() and not parts.all()
    beard = batch.names.part_prompts.index("Human beard")
    assert parts[:, beard].all() and not parts[:, batch.names.part_prompts.index("Human nose")].any()
    for target in batch.targets:
        assert (
            target.objects.masks is None and np.isin(target.part_parent.numpy(), range(-1, len(target.objects))).all()
        )


def test_the_file_passes_the_check(folder: Path) -> None:
    assert openimages_main([]) == 0
    content = json.loads((folder / "annotations" / "openimage_joint_train.json").read_text())
    report = validate(content, images=folder)
    assert not report.errors and report.summary["part names"] == 13


def test_images_that_are_missing_or_damaged_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = sorted((folder / "train").iterdir())
    first.unlink()
    second.write_bytes(b"no picture")
    assert openimages_main(["--splits", "train"]) == 0
    assert "2 left out: images missing or damaged" in capsys.readouterr().out
    records = get_dataset("openimage_joint_train").read()
    assert len(records) == 6 and not {first, second} & {record.file for record in records}


def test_titles_and_files_in_the_folder_of_annotations(folder: Path) -> None:
    """V7 has a line of titles in its class descriptions."""
    path = folder / "class-descriptions-boxable.csv"
    (folder / "annotations").mkdir()
    (folder / "annotations" / "oidv7-class-descriptions-boxable.csv").write_text(
        "LabelName,DisplayName\n" + path.read_text()
    )
    path.unlink()
    assert openimages_main(["--splits", "validation"]) == 0
    assert len(get_dataset("openimage_joint_val").read()) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "oidv6-train-annotations-bbox.csv").unlink(), "get it from Open Images' page"),
        (lambda f: (f / "oidv6-train-annotations-bbox.csv").write_text("ImageID,x\n"), "has no column LabelName"),
        (lambda f: (f / "class-descriptions-boxable.csv").write_text("/m/1,Man\n"), "class descriptions do not have"),
        (lambda f: (f / "class-descriptions-boxable.csv").write_text("Man\n"), "must hold lines"),
        (lambda f: [p.unlink() for p in (f / "train").iterdir()], "unpack them there"),
    ],
)
def test_what_the_script_refuses(folder: Path, change, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(folder)
    assert openimages_main([]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "annotations" / "openimage_joint_train.json").exists()
