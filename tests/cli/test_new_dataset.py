"""A new data set is one file: training, its checks, evaluation and `partglee data` know it by name then."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from training_samples import SMALL

from partglee.cli import main
from partglee.data import catalog
from partglee.testing import TOY_VOCABULARY, write_name_table, write_toy_dataset

MODULE = '''
"""Photos of the street, in files of the common format."""

from partglee.data import Counts, DatasetSpec, read_coco, register, splits

READ = []


def read_street(spec):
    READ.append(spec.name)
    return read_coco(spec)


SPECS = splits(
    DatasetSpec(
        name="street_{split}",
        annotations="street/{split}.json",
        images="street",
        reader=read_street,
        part_background="inside",
        evaluator="joint",
        needs=("street/LICENCE",),
    ),
    train={"images": 6},
    val={"images": 2},
)
for spec in SPECS:
    register(spec)
'''


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root of data sets with two splits, and a folder with the one file that describes them."""
    for seed, (split, number) in enumerate((("train", 6), ("val", 2))):
        write_toy_dataset(tmp_path / "street", number, seed, (64, 96), name=split)
    (tmp_path / "street" / "LICENCE").write_text("do what you like")
    names = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts]
    write_name_table(tmp_path / "names.npz", names, width=16)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "street_parts.py").write_text(MODULE)
    monkeypatch.setattr(catalog, "_DATASETS", dict(catalog._DATASETS))
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path / "mine")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setitem(sys.modules, "street_parts", None)  # whatever is there is put back afterwards
    del sys.modules["street_parts"]
    return tmp_path


def train(place: Path, *more: Any, options: tuple[str, ...] = ()) -> int:
    values = [
        *SMALL, "DATASETS.CUSTOM", [], "DATASETS.TRAIN", ["street_train"], "DATASETS.TEST", ["street_val"],
        "MODEL.TEXT.TABLE.FILE", place / "names.npz", "OUTPUT_DIR", place / "run", "SOLVER.MAX_ITER", 2,
        "TEST.BEST", "", "MODEL.WEIGHTS", "",
        "INPUT.TRAIN.SIZE", [64, 64], "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 64,
    ]  # fmt: skip
    command = ["train", "--import", "street_parts", "--config-file", "finetune_example", "--num-gpus", "0", *options]
    return main([*command, *map(str, [*values, *more])])


def test_one_file_is_a_data_set(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is trained with and evaluated twice, and each of its files was read once by each run."""
    assert train(place, "TEST.PERIOD", 1) == 0
    assert sys.modules["street_parts"].READ == ["street_train", "street_val"]
    weights = ["MODEL.WEIGHTS", place / "run" / "model_final.safetensors", "OUTPUT_DIR", place / "again"]
    assert train(place, *weights, options=("--eval-only",)) == 0
    assert sys.modules["street_parts"].READ[2:] == ["street_val"]
    file = place / "again" / "predictions" / "street_val.jsonl"
    assert len(file.read_text().splitlines()) == 2
    capsys.readouterr()
    assert main(["eval", "--import", "street_parts", "--predictions", str(file), "--dataset", "street_val"]) == 0
    assert "street_val: " in capsys.readouterr().out
    assert [path.name for path in (place / "mine").iterdir()] == ["street_parts.py"]


def test_it_is_listed_shown_and_checked(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = ["--import", "street_parts"]
    assert main(["data", "list", *mine]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert listed["street_val"] == f"{place}/street/val.json, 2 images published"
    assert main(["data", "show", "street_val", "--no-draw", *mine]) == 0
    assert "holds: 2 images (published)" in capsys.readouterr().out
    assert main(["data", "check", "street_train", "--no-draw", *mine]) == 0
    assert "6 images (published)" in capsys.readouterr().out
    assert sys.modules["street_parts"].READ == ["street_val", "street_train"]
    assert main(["data", "check", "street_val", "--draw", str(place / "pictures"), *mine]) == 0
    assert sys.modules["street_parts"].READ[2:] == ["street_val"]  # its pictures are of the records that were checked
    assert len(list((place / "pictures").iterdir())) == 2


@pytest.mark.parametrize(
    ("lost", "check", "message"),
    [
        ("street/val.json", 2, "annotations of data set 'street_val' are not at"),
        ("street/LICENCE", 1, "street/LICENCE of data set 'street_train' are not at"),
    ],
)
def test_what_is_missing_is_told_by_its_place(
    lost: str, check: int, message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.move(place / lost, place / "away")
    assert train(place) == 2
    assert f"{message} {place / lost};" in capsys.readouterr().err
    for command in ("show", "check"):
        status = main(["data", command, "street_val", "--no-draw", "--import", "street_parts"])
        told = capsys.readouterr()
        assert str(place / lost) in told.out + told.err
    assert status == check


def test_without_the_import_it_is_unknown(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "street_val"]) == 2
    assert "no data set 'street_val'" in capsys.readouterr().err
