"""Visual Genome: both raw forms of a miniature -> phrases with levels -> records and batches."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.vg_levels import part_name
from partglee.data.prepare.visual_genome import main as visual_genome_main
from partglee.testing.miniatures import MINIATURES


@pytest.fixture
def folder(data_root: Path) -> Path:
    MINIATURES["visual_genome"](data_root, num_images=8, seed=6)
    return data_root / "visual_genome"


def test_phrases_become_objects_and_parts(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert visual_genome_main([]) == 0
    assert "8 images" in capsys.readouterr().out
    records = get_dataset("vg_train_joint").read()
    raw = json.loads((folder / "objects.json").read_text())
    vocabulary = records.vocabulary
    objects, parts = set(vocabulary.object_prompts), set(vocabulary.part_prompts)
    assert not objects & parts and objects | parts == {t["names"][0] for e in raw for t in e["objects"]}
    assert {"man", "red car", "giraffe", "building", "tree"} & objects and "shirt" not in parts
    assert all(part_name(name) for name in parts) and parts
    for record, entry in zip(records, raw, strict=True):
        assert record.image_id == entry["image_id"] and read_image(record.source).shape[0] == record.height
        found = [(i, vocabulary.object_prompts[i.label]) for i in record.objects]
        found += [(i, vocabulary.part_prompts[i.label]) for i in record.parts]
        wanted = sorted((t["x"], t["y"], t["x"] + t["w"], t["y"] + t["h"], t["names"][0]) for t in entry["objects"])
        assert sorted((*i.box, name) for i, name in found) == wanted
        for part in record.parts:
            owner = record.objects[part.parent].label
            assert part.parent >= 0 and owner in vocabulary.part_owner[part.label]
        assert all(i.segmentation is None for i, _ in found)


def test_the_file_passes_the_check(folder: Path) -> None:
    assert visual_genome_main([]) == 0
    content = json.loads((folder / "annotations" / "train_joint.json").read_text())
    report = validate(content, images=folder / "images")
    assert not report.errors and not report.warnings and report.summary["parts with a parent"] > 0


@pytest.mark.parametrize("key", ["caption_with_token", "object_name", "caption"])
def test_the_lvis_style_file_gives_the_same(folder: Path, key: str) -> None:
    assert visual_genome_main([]) == 0
    output = folder / "annotations" / "train_joint.json"
    wanted = json.loads(output.read_text())
    path = folder / "annotations" / "train_from_objects.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        name = entry.pop("object_name")
        entry["caption"] = "not this one"
        entry[key] = name
    path.write_text(json.dumps(content))
    assert visual_genome_main([str(path)]) == 0
    found = json.loads(output.read_text())
    assert found["annotations"] == wanted["annotations"] and found["categories"] == wanted["categories"]


def test_folders_of_the_download_and_images_of_coco(folder: Path) -> None:
    (folder / "images" / "VG_100K").mkdir()
    without = folder / "val.json"
    without.write_text(json.dumps({"images": [{"id": 501}, {"id": 503}, {"id": 7}]}))
    assert visual_genome_main(["--without", str(without)]) == 0
    records = get_dataset("vg_train_joint").read()
    assert [record.image_id for record in records] == [2, 4, 5, 6, 7, 8]
    assert records[0].file == folder / "images" / "VG_100K_1" / "2.jpg"


def test_blank_phrases_and_flat_boxes_are_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = json.loads((folder / "objects.json").read_text())
    raw[0]["objects"] += [
        {"names": [" "], "x": 1, "y": 1, "w": 2, "h": 2},
        {"names": ["x"], "x": 1, "y": 1, "w": 0, "h": 2},
    ]
    raw.append({"image_id": 99, "objects": []})
    (folder / "objects.json").write_text(json.dumps(raw))
    assert visual_genome_main([]) == 0
    told = capsys.readouterr().out
    assert "1 left out: boxes without a phrase" in told and "1 left out: boxes of no size" in told
    assert "1 left out: images without size" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "image_data.json").unlink(), "get it from Visual Genome's page"),
        (lambda f: (f / "objects.json").write_text("{}"), "expected a list"),
        (lambda f: (f / "objects.json").write_text('[{"image_id": 1'), "cut off"),
    ],
)
def test_files_that_are_not_there_or_broken(
    folder: Path, change, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(folder)
    assert visual_genome_main([]) == 2
    assert message in capsys.readouterr().err
    assert not (folder / "annotations" / "train_joint.json").exists()


def test_a_batch(folder: Path, first_batch) -> None:
    assert visual_genome_main([]) == 0
    batch = first_batch("vg_train_joint", 4)
    assert batch.names is not None
    assert batch.supervision.objects.background == (True,) * 4 and batch.supervision.parts.background == (False,) * 4
    assert all(len(target.objects) and target.objects.masks is None for target in batch.targets)
    assert any(len(target.parts) and (target.part_parent >= 0).all() for target in batch.targets)
