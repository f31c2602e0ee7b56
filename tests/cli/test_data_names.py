"""`partglee data check | show` of every registered name: on miniatures, on folders with gaps, on nothing at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from partglee.cli import main
from partglee.data import get_dataset, list_datasets
from partglee.data.prepare import (
    ade20k_part_234,
    open_images,
    partimagenet,
    pascal_part_93,
    pascal_part_116,
    refer,
    sa1b,
    visual_genome,
)
from partglee.testing.miniatures import MINIATURES

SPLITS = ["--splits", "train", "val", "test"]
LIKE_TOY = ("car_parts", "clothing", "clothing_more", "coco", "faces", "pascal_part_nested", "photos")
"""Any hierarchical COCO file serves."""


def names() -> list[str]:
    """Those that the library registers: tests register more, with absolute paths or none."""
    specs = [get_dataset(name) for name in list_datasets()]
    return [spec.name for spec in specs if spec.annotations and not Path(spec.annotations).is_absolute()]


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every miniature with what the prepare scripts make of it."""
    root = tmp_path_factory.mktemp("datasets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTGLEE_DATASETS", str(root))
        for write in MINIATURES.values():
            write(root, num_images=3, seed=1)
        assert refer.main([]) == visual_genome.main([]) == 0
        assert sa1b.main(["--workers", "1"]) == open_images.main(["--workers", "1"]) == 0
        assert partimagenet.main(SPLITS) == pascal_part_93.main([]) == 0
        assert partimagenet.main(["--release", "seg", *SPLITS]) == 0
        assert pascal_part_116.main([]) == ade20k_part_234.main([]) == 0
        assert main(["data", "toy", "--images", "20", "--size", "64", "64"]) == 0
    for name in LIKE_TOY:
        shutil.copytree(root / "toy", root / name, dirs_exist_ok=True)
    shutil.copytree(root / "toy", root / "car_parts/trainingset")
    shutil.copytree(root / "toy", root / "pascal_part_nested/JPEGImages")
    shutil.copy(root / "toy/train.json", root / "photos/pseudo_labels.json")
    for split in ("val", "test"):
        shutil.copy(root / "toy/val.json", root / f"faces/small_{split}.json")
    return root


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", names())
def test_every_name(
    name: str, everything: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is wrong in what the library itself writes, but the miniatures are smaller than the data sets."""
    monkeypatch.setenv("PARTGLEE_DATASETS", str(everything))
    spec = get_dataset(name)
    if not spec.annotation_path.exists():  # no image of one object among so few
        assert name in ("pascal_part_train_one", "pascal_part_base_train_one")
        return
    assert main(["data", "check", name, "--no-draw"]) == 0
    out = capsys.readouterr().out
    assert "\n0 errors, " in out and "counts: " in out
    warnings = [line for line in out.splitlines() if line.startswith("warning")]
    assert all("count that is not" in line or "the reader left out" in line for line in warnings), out
    assert ("INSTEAD OF" in out) == bool(spec.counts.images or spec.counts.annotations)
    assert main(["data", "show", name, "--no-draw"]) == 0
    assert "images with each name:" in capsys.readouterr().out and not list(here.iterdir())


@pytest.mark.parametrize("name", names())
def test_nothing_on_disk(
    name: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(here / "nowhere"))
    path = str(get_dataset(name).annotation_path)
    assert main(["data", "check", name]) == 2
    error = capsys.readouterr().err
    assert path in error and "datasets/README.md" in error
    assert main(["data", "show", name]) == 2
    out, error = capsys.readouterr()
    assert f"  missing: {path}\n" in out and "should hold: " in out and path in error


@pytest.mark.parametrize(
    "name", ["sa1b_joint", "voc_obj_part_sem_seg_val_obj_condition", "ade_obj_part_sem_seg_val", "lvis_v1_val"]
)
def test_every_kind_of_reader_is_drawn(
    name: str, everything: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(everything))
    assert main(["data", "check", name, "--samples", "1"]) == 0
    assert capsys.readouterr().out.endswith(f"drew 1 images into {name}_pictures\n")
    assert [path.suffix for path in Path(f"{name}_pictures").iterdir()] == [".jpg"]


@pytest.mark.parametrize("name", ["partimagenet_joint_val", "voc_obj_part_sem_seg_val", "ade_obj_part_val"])
def test_images_that_are_missing(
    name: str, everything: Path, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(here / "copy"))
    folder = get_dataset(name).image_root.relative_to(here / "copy").parts[0]
    shutil.copytree(everything / folder, here / "copy" / folder)
    images = get_dataset(name).image_root
    shutil.rmtree(images)
    assert main(["data", "check", name]) == 1
    assert f"file or folder that is missing: {images}" in capsys.readouterr().out
    assert main(["data", "show", name]) == 0
    out = capsys.readouterr().out
    assert f"  missing: {images}\n" in out and "images with each name:" in out
