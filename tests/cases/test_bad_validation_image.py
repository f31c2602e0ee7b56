"""A validation image that cannot be read, or has another size than its annotations: told, and no end of a training."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.checkpoint import read_weights
from partglee.cli import main
from partglee.config import load_config
from partglee.data.build import build_test_loader
from partglee.data.catalog import DataSets, get_dataset, register_custom
from partglee.data.expression_views import kept_rows
from partglee.engine.preflight import check_data
from partglee.evaluation import dataset_evaluator
from partglee.testing import TOY_VOCABULARY, write_name_table, write_toy_dataset

SMALL = [
    "INPUT.TRAIN.SIZE", [64, 64], "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 96, "CRITERION.NUM_POINTS", 64,
    "DATALOADER.NUM_WORKERS", 0, "SOLVER.MAX_ITER", 2, "SOLVER.BATCH_SIZE", 2, "SOLVER.LOG_PERIOD", 1,
    "SOLVER.EMA_DECAY", 0.0, "TEST.PERIOD", 1, "TEST.IMAGES", 0, "MODEL.WEIGHTS", "",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad_image")
    write_toy_dataset(folder / "good", 4, 3, (64, 96))
    write_name_table(folder / "names.npz", [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts], width=16)
    for damage in ("cut", "size"):
        shutil.copytree(folder / "good", folder / damage)
        image = victim(folder / damage)
        if damage == "cut":
            image.write_bytes(image.read_bytes()[: image.stat().st_size // 2])
        else:
            Image.fromarray(np.zeros((96, 64, 3), np.uint8)).save(image)
    return folder


def victim(folder: Path) -> Path:
    return sorted(folder.rglob("*.jpg"))[1]


def values(place: Path, damage: str, *more: Any) -> list[Any]:
    """Trains on good images, evaluates on the same with one damaged; names of data sets are those of this folder."""
    sets = [
        {"NAME": f"{name}_{place.name}", "ANNOTATIONS": str(place / name / "annotations.json"),
         "IMAGES": str(place / name)}
        for name in dict.fromkeys(("good", damage))
    ]  # fmt: skip
    names = [["good_" + place.name], [f"{damage}_{place.name}"]]
    return [
        *SMALL, "MODEL.EMBED_DIM", 32, "MODEL.FFN_DIM", 32, "MODEL.NUM_HEADS", 4, "MODEL.EARLY_FUSION.INNER_DIM", 16,
        "MODEL.TEXT.TABLE.WIDTH", 16, "MODEL.BACKBONE.NAME", "test_efficientnet", "DATASETS.CUSTOM", sets,
        "DATASETS.TRAIN", names[0], "DATASETS.TEST", names[1], "MODEL.TEXT.TABLE.FILE", place / "names.npz", *more,
    ]  # fmt: skip


def train(place: Path, damage: str, output: Path, *more: Any, options: tuple[str, ...] = ()) -> int:
    best = ["TEST.BEST", f"{damage}_{place.name}/object/box/AP50"]
    said = [*values(place, damage), *best, "OUTPUT_DIR", output, *more]
    return main(["train", "--config-file", "finetune_example", "--num-gpus", "0", *options, *map(str, said)])


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_the_training_goes_on(place: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(place, damage, tmp_path) == 1
    said = capsys.readouterr().out
    name = victim(place / damage).name
    before, _, after = said.partition(" 1/2 eta")
    assert "1 of 4 images looked at cannot be evaluated" in before and name in before
    assert "the evaluation after step 1 failed" in after and name in after and " 2/2 eta" in after
    assert "trained to the end, but 2 evaluations failed" in after
    assert read_weights(tmp_path / "model_final.safetensors")
    assert not list((tmp_path / "predictions").glob("*"))  # half a file is not left behind


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_left_out_and_counted(place: Path, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(place, damage, tmp_path, "TEST.LENIENT", True) == 0
    assert "1 images cannot be evaluated" in capsys.readouterr().out
    file = tmp_path / "predictions" / f"{damage}_{place.name}.jsonl"
    assert len(file.read_text().splitlines()) == 3
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    counts = [v for line in lines for k, v in line.items() if k.endswith("issues/images left out")]
    assert counts == [1.0, 1.0]


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_an_evaluation_alone_is_refused_before_it_starts(place: Path, damage: str) -> None:
    cfg = load_config("finetune_example", values(place, damage))
    register_custom(cfg)
    with pytest.raises(ValueError, match=rf"1 of 4 images looked at .*{victim(place / damage).name}.*TEST.LENIENT"):
        check_data(cfg, train=False, data=DataSets())
    cfg.TEST.LENIENT = True
    check_data(cfg, train=False, data=DataSets())


@pytest.mark.parametrize("damage", ["cut", "size"])
def test_data_check_names_it(place: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / damage / "annotations.json"
    assert main(["data", "check", str(file), "--images", str(place / damage), "--no-draw"]) == 1
    said = capsys.readouterr().out
    assert victim(place / damage).name in said and "1 errors" in said


@pytest.mark.parametrize("evaluator", ["joint", "coco"])
def test_annotations_go_with_their_image(place: Path, evaluator: str) -> None:
    """The truth without rows holds what the others hold, whether it comes from records or from the file."""
    cfg = load_config("finetune_example", values(place, "good"))
    loader = build_test_loader(cfg, f"good_{place.name}")
    left, places = kept_rows(loader.records, {1})
    assert places == {0: 0, 2: 1, 3: 2}
    truth = dataset_evaluator(get_dataset(f"good_{place.name}"), left, key=evaluator).ground_truth
    expected = [loader.records[row] for row in (0, 2, 3)]
    assert sorted(truth.image_ids) == [record.image_id for record in expected]
    assert len(truth.category) == sum(len(record.objects) + len(record.parts) for record in expected)


def test_the_shared_case(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    shutil.copytree(shared / "cases" / "C07_val_bad_image", work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("PARTGLEE_DATASETS", str(work))
    for case in ("size", "cut"):
        options = ["--config-file", f"{case}.yaml", "--num-gpus", "0", "OUTPUT_DIR", str(tmp_path / case)]
        assert main(["train", *options]) == 1
        assert (tmp_path / case / "model_final.safetensors").is_file()
