"""Objects365 v2: a miniature in its own format."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partglee.cli import main
from partglee.data import get_dataset
from partglee.data.images import read_image
from partglee.evaluation import EVALUATORS
from partglee.structures import Vocabulary
from partglee.testing.miniatures import MINIATURES


@pytest.fixture
def objects365(data_root: Path) -> Path:
    MINIATURES["objects365"](data_root, num_images=6, seed=7)
    return data_root / "Objects365v2"


@pytest.mark.parametrize("split", ["train", "val"])
def test_names_boxes_and_crowds(objects365: Path, split: str) -> None:
    spec = get_dataset(f"objects365_v2_{split}")
    records = spec.read()
    raw = json.loads(spec.annotation_path.read_text())
    assert len(records) == 6 and spec.evaluator in EVALUATORS
    assert records.vocabulary.object_names == Vocabulary.builtin("objects365").object_names
    entries = {entry["id"]: entry for entry in raw["annotations"]}
    names = {entry["id"]: entry["name"] for entry in raw["categories"]}
    seen = 0
    for record, image in zip(records, raw["images"], strict=True):
        assert record.file == objects365 / split / "/".join(image["file_name"].split("/")[2:])
        assert read_image(record.source).shape == (record.height, record.width, 3)
        for instance in record.objects:
            entry = entries[instance.annotation_id]
            assert records.vocabulary.object_names[instance.label] == names[entry["category_id"]]
            assert instance.crowd == bool(entry["iscrowd"]) and instance.segmentation is None
            seen += instance.crowd
    assert seen and sum(len(record.objects) for record in records) == len(entries)


def test_names_without_the_folders_of_the_archives(objects365: Path) -> None:
    """Files that others have mended read the same."""
    spec = get_dataset("objects365_v2_val")
    raw = json.loads(spec.annotation_path.read_text())
    wanted = [record.file for record in spec.read()]
    for image in raw["images"]:
        image["file_name"] = image["file_name"].split("/", 2)[2]
    spec.annotation_path.write_text(json.dumps(raw))
    assert [record.file for record in spec.read()] == wanted


def test_the_check_finds_images_and_misses_one(objects365: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "objects365_v2_val", "--no-draw"]) == 0
    gone = get_dataset("objects365_v2_val").read()[1].file
    gone.unlink()
    capsys.readouterr()
    assert main(["data", "check", "objects365_v2_val", "--no-draw"]) == 1
    assert gone.name in capsys.readouterr().out


def test_a_batch_skips_crowds_and_samples_names(objects365: Path, first_batch) -> None:
    batch = first_batch("objects365_v2_train", 4)
    assert batch.names is not None and len(batch.names.object_prompts) == 100
    assert batch.supervision.parts.background == (False,) * 4  # nothing is known of parts
    assert batch.supervision.objects.negatives is None  # every name was looked for
    rows = {str(record.file): record for record in get_dataset("objects365_v2_train").read()}
    for file, target in zip(batch.files, batch.targets, strict=True):
        assert len(target.objects) == sum(not instance.crowd for instance in rows[file].objects)
        assert target.objects.masks is None
