"""Object and referring data sets together: names that configurations use, miniatures that repeat themselves."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from partglee.data import get_dataset, list_datasets
from partglee.evaluation import EVALUATORS
from partglee.testing.miniatures import MINIATURES

SETS = ("coco", "lvis", "objects365", "openimages", "refcoco", "sa1b", "visual_genome")


@pytest.mark.parametrize("config", ["joint_r50", "joint_swinL"])
def test_object_sets_of_the_joint_configurations(root: Path, config: str) -> None:
    content = yaml.safe_load((root / "configs" / f"{config}.yaml").read_text())
    while "TRAIN" not in content.get("DATASETS", {}):
        content = yaml.safe_load((root / "configs" / content["_BASE_"]).read_text())
    names = {"sa1b_joint", "coco_2017_train", "vg_train_joint", "lvis_v1_train"}
    assert names <= set(content["DATASETS"]["TRAIN"]) and names <= set(list_datasets())


@pytest.mark.parametrize(
    ("name", "levels", "sampled", "backgrounds"),
    [
        ("coco_2017_train", (True, False), 0, ("labelled", "labelled")),
        ("lvis_v1_train", (True, False), 100, ("labelled", "labelled")),
        ("objects365_v2_train", (True, False), 100, ("labelled", "labelled")),
        ("openimage_joint_train", (True, True), 100, ("labelled", "labelled")),
        ("vg_train_joint", (True, True), 200, ("labelled", "unlabelled")),
        ("sa1b_joint", (True, True), 0, ("labelled", "labelled")),
        ("refcoco-unc-train", (True, False), 0, ("labelled", "labelled")),
    ],
)
def test_what_they_supervise(name: str, levels: tuple, sampled: int, backgrounds: tuple) -> None:
    spec = get_dataset(name)
    assert (spec.supervises_objects, spec.supervises_parts) == levels and spec.sampled_names == sampled
    assert (spec.object_background, spec.part_background) == backgrounds
    assert spec.evaluator in ("", *EVALUATORS)


@pytest.mark.parametrize("name", ["lvis_v1_val", "refcocog-umd-val", "objects365_v2_val", "openimage_joint_val"])
def test_files_that_are_missing_are_named(data_root: Path, name: str) -> None:
    with pytest.raises(ValueError, match="does not exist; is PARTGLEE_DATASETS set") as error:
        get_dataset(name).read()
    assert str(get_dataset(name).annotation_path) in str(error.value)


@pytest.mark.parametrize("name", SETS)
def test_equal_seeds_write_equal_files(tmp_path: Path, name: str) -> None:
    found = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        MINIATURES[name](tmp_path / folder, num_images=2, seed=seed)
        files = [path for path in sorted((tmp_path / folder).rglob("*")) if path.is_file()]
        assert files and not [path for path in files if path.name.startswith(".")]
        found.append({hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert found[0] == found[1] != found[2]
