"""PACO in its true form: parents, attributes, gaps in the category ids, objects without a mask, missing frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from partglee.cli import main
from partglee.data import get_dataset
from partglee.data.annotations.coco_json import CocoRecords
from partglee.data.images import read_image
from partglee.data.segmentation import decode
from partglee.evaluation import build_evaluator
from partglee.evaluation.category_map import CategoryMap
from partglee.evaluation.ground_truth import GroundTruth
from partglee.structures import Vocabulary
from partglee.testing.miniatures import MINIATURES

NAMES = [f"paco_{source}_v1_{split}" for source in ("lvis", "ego4d") for split in ("train", "val", "test")]


def read(name: str) -> CocoRecords:
    records = get_dataset(name).read()
    assert isinstance(records, CocoRecords)
    return records


@pytest.mark.parametrize("name", NAMES)
def test_every_split_reads_with_its_images(name: str, data_root: Path) -> None:
    MINIATURES[name.split("_v1_")[0]](data_root, num_images=2, seed=1)
    records = read(name)
    assert len(records) == 2 and records.issues == {}
    for record in records:
        assert read_image(record.source).shape == (record.height, record.width, 3)
    assert get_dataset(name).evaluator == "paco"


def test_published_counts() -> None:
    counts = [get_dataset(name).counts for name in NAMES]
    assert [(c.images, (c.objects or 0) + (c.parts or 0)) for c in counts] == [
        (45790, 612188), (2410, 31739), (9443, 131902), (15667, 116363), (825, 6056), (9892, 75288),
    ]  # fmt: skip


def test_the_name_of_joint_training_is_the_file_of_lvis() -> None:
    joint, lvis = get_dataset("paco_joint_v1_train"), get_dataset("paco_lvis_v1_train")
    assert (joint.annotations, joint.images, joint.counts) == (lvis.annotations, lvis.images, lvis.counts)


def test_ids_with_gaps_and_irregular_order_become_the_right_names(data_root: Path) -> None:
    """75 objects from LVIS id 23 to 1196, parts from 2000 to 2455 in an order that no rule gives."""
    MINIATURES["paco_lvis"](data_root, num_images=6, seed=2)
    content = json.loads((data_root / "paco/annotations/paco_lvis_v1_train.json").read_text())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    assert (
        len(names) == 531 and max(names) == 2455 and names[2000] == "car_(automobile):antenna" and names[378] == "dog"
    )
    records = read("paco_lvis_v1_train")
    assert records.vocabulary == Vocabulary.builtin("paco")
    wanted = {entry["id"]: names[entry["category_id"]] for entry in content["annotations"]}
    found = {}
    for record in records:
        for instance in record.objects:
            found[instance.annotation_id] = records.vocabulary.object_names[instance.label]
        for instance in record.parts:
            owner = records.vocabulary.object_names[records.vocabulary.part_owner[instance.label][0]]
            found[instance.annotation_id] = f"{owner}:{records.vocabulary.part_names[instance.label]}"
    assert found == wanted and any(":" in name for name in wanted.values())


def test_parents_and_attributes(data_root: Path) -> None:
    MINIATURES["paco_lvis"](data_root, num_images=4, seed=3)
    content = json.loads((data_root / "paco/annotations/paco_lvis_v1_val.json").read_text())
    entries = {entry["id"]: entry for entry in content["annotations"]}
    seen = 0
    for record in read("paco_lvis_v1_val"):
        for part in record.parts:
            parent = record.objects[part.parent]
            assert part.parent >= 0 and entries[part.annotation_id]["obj_ann_id"] == parent.annotation_id
            inside = decode(part.segmentation, record.height, record.width)
            assert not (inside & ~decode(parent.segmentation, record.height, record.width)).any()
            seen += 1
        for instance in (*record.objects, *record.parts):
            assert instance.attributes == tuple(entries[instance.annotation_id]["attribute_ids"]) != ()
    assert seen


def test_federated_lists_reach_both_levels(data_root: Path) -> None:
    MINIATURES["paco_lvis"](data_root, num_images=3, seed=4)
    records = read("paco_lvis_v1_train")
    vocabulary = records.vocabulary
    dog, head = vocabulary.object_row("dog"), vocabulary.part_columns("dog")[vocabulary.parts_of("dog").index("head")]
    record = next(r for r in records if dog not in {o.label for o in r.objects})
    assert record.negative_objects is not None and dog in record.negative_objects
    assert record.negative_parts is not None and head in record.negative_parts
    assert any(r.not_exhaustive_parts for r in records)


def test_ego4d_objects_without_a_mask_keep_their_box(data_root: Path) -> None:
    MINIATURES["paco_ego4d"](data_root, num_images=2, seed=0)
    path = data_root / "paco/annotations/paco_ego4d_v1_train.json"
    content = json.loads(path.read_text())
    target = next(entry for entry in content["annotations"] if entry["obj_ann_id"] == entry["id"])
    target["segmentation"] = []
    path.write_text(json.dumps(content))
    found = {o.annotation_id: o for record in read("paco_ego4d_v1_train") for o in record.objects}
    x, y, w, h = target["bbox"]
    assert found[target["id"]].segmentation is None and found[target["id"]].box == (x, y, x + w, y + h)


def test_a_missing_frame_is_named(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    MINIATURES["paco_ego4d"](data_root, num_images=2, seed=0)
    record = read("paco_ego4d_v1_val")[1]
    record.file.unlink()
    assert main(["data", "check", "paco_ego4d_v1_val", "--no-draw"]) == 1
    assert record.file.name in capsys.readouterr().out


def test_perfect_predictions_score_100(data_root: Path) -> None:
    """The evaluator that the specification names reads the file, with ids far apart."""
    MINIATURES["paco_lvis"](data_root, num_images=3, seed=5)
    spec = get_dataset("paco_lvis_v1_val")
    truth = GroundTruth.load(spec.annotation_path)
    names = CategoryMap(ground_truth=truth, vocabulary=read(spec.name).vocabulary)
    evaluator = build_evaluator(spec.evaluator, ground_truth=truth, category_map=names)
    content = json.loads(spec.annotation_path.read_text())
    for image in content["images"]:
        mine = [entry for entry in content["annotations"] if entry["image_id"] == image["id"]]
        evaluator.process(image["id"], [{**entry, "score": 0.9} for entry in mine])
    results = evaluator.evaluate()
    assert [results["segm/APobj"], results["segm/APopart"]] == pytest.approx([100, 100])
    assert truth.categories.is_part.sum() == 456 and not np.isnan(results["bbox/AP"])
