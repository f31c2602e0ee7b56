"""Triples of image, mask, caption and level: rows to records, in both forms; what is no triple is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fvcore.common.config import CfgNode as CN

from partglee.config import get_cfg
from partglee.data import DatasetSpec, Records
from partglee.data.annotations.coco_json import read_triples
from partglee.data.annotations.triples import write_triples
from partglee.data.catalog import get_dataset, register_custom
from partglee.data.checks.datasets import validate_dataset
from partglee.data.expression_views import expression_view
from partglee.data.referring import build_referring_loader
from partglee.data.segmentation import decode
from partglee.structures import Level
from partglee.testing.miniatures import MINIATURES
from partglee.testing.miniatures.shapes import run_lengths_of

Rows = list[dict[str, Any]]


def mask(*box: int) -> Any:
    """(6, 8), a rectangle of rows and columns."""
    made = np.zeros((6, 8), bool)
    made[box[0] : box[1], box[2] : box[3]] = True
    return run_lengths_of(made)


def car() -> Rows:
    """A car with two wheels of one caption, and the same car in a second image, of which nothing is said."""
    return [
        {"image": "a.jpg", "mask": mask(1, 5, 0, 7), "caption": "the red car", "level": "object", "region_id": 0,
         "name": "car"},
        {"image": "a.jpg", "mask": mask(4, 6, 0, 2), "caption": "wheel of the  red car", "level": "part",
         "region_id": 1, "name": "car:wheel", "parent": 0},
        {"image": "a.jpg", "mask": mask(4, 6, 5, 7), "caption": "wheel of the red car", "level": "part",
         "region_id": 2, "name": "car:wheel", "parent": 0},
        {"image": "b.jpg", "mask": mask(0, 3, 0, 3), "caption": None, "level": "object", "region_id": 0,
         "name": "Car"},
    ]  # fmt: skip


def read(folder: Path, rows: Rows, suffix: str = ".jsonl") -> Records:
    write_triples(rows, folder / f"t{suffix}")
    spec = DatasetSpec(name="t", annotations=str(folder / f"t{suffix}"), images=str(folder), reader=read_triples)
    return spec.read()


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_become_records(tmp_path: Path, suffix: str) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    records = read(tmp_path, car(), suffix)
    first, second = (records[row] for row in range(2))
    assert records.vocabulary.object_names == ("car",) and records.vocabulary.part_names == ("wheel",)
    assert (first.file, first.height, first.width, len(records)) == (tmp_path / "a.jpg", 6, 8, 2)
    assert [(said.text, said.objects, said.parts) for said in first.expressions] == [
        ("the red car", (0,), ()), ("wheel of the red car", (), (0, 1)),
    ]  # fmt: skip
    assert [part.parent for part in first.parts] == [0, 0] and first.parts[1].box == (5, 4, 7, 6)
    for thing, row in zip((*first.objects, *first.parts), car(), strict=False):
        assert np.array_equal(decode(thing.segmentation, 6, 8), decode(row["mask"], 6, 8))
    assert len(second.objects) == 1 and second.expressions == ()


def test_what_a_filter_dropped_is_passed_over(tmp_path: Path) -> None:
    rows = [{**row, "dropped": "clip" if place == 2 else "", "score": 0.5} for place, row in enumerate(car())]
    record = read(tmp_path, rows)[0]
    assert [said.parts for said in record.expressions] == [(), (0,)] and len(record.parts) == 1


def test_four_columns_are_enough(tmp_path: Path) -> None:
    """Without names there is one object and one part; other columns are not read; polygons bring their image's size."""
    rows: Rows = [
        {"image": "a.jpg", "mask": mask(0, 2, 0, 2), "caption": "a nose", "level": "part", "clip_score": 0.7},
        {"image": "a.jpg", "mask": [[0, 0, 4, 0, 4, 4, 0, 4]], "height": 6, "width": 8, "caption": "a dog",
         "level": "object"},
    ]  # fmt: skip
    records = read(tmp_path, rows)
    assert records.vocabulary.object_names == ("object",) and records.vocabulary.part_names == ("part",)
    said = {one.text: (one.objects, one.parts) for one in records[0].expressions}
    assert said == {"a nose": ((), (0,)), "a dog": ((0,), ())} and records[0].parts[0].parent == -1
    assert not records.issues  # triples have no boxes, and none is missed


def test_parquet_is_what_json_lines_are(tmp_path: Path) -> None:
    """More rows than are read at once; the reader gives the same records of both."""
    pytest.importorskip("pyarrow")
    rows = [
        {"image": f"{number // 3}.jpg", "mask": mask(0, 1 + number % 5, 0, 3), "caption": f"thing {number}",
         "level": ("object", "part")[number % 2]}
        for number in range(9000)
    ]  # fmt: skip
    lines, table = (read(tmp_path, rows, suffix) for suffix in (".jsonl", ".parquet"))
    assert len(lines) == len(table) == 3000
    assert all(lines[row] == table[row] for row in (0, 1, 1365, 1366, 2999))


def damaged(change: Callable[[Rows], object]) -> Rows:
    rows = car()
    change(rows)
    return rows


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[1].pop("level"), r"row 2 of triples .*t.jsonl' has no level"),
        (lambda rows: rows[1].update(level="region"), r"row 2 .*\(image 'a.jpg'\): level must be 'object' or 'part'"),
        (lambda rows: rows[0].update(caption=3), r"row 1 .*caption must be text, got 3"),
        (lambda rows: rows[0].update(caption="\ud800"), r"row 1 .*caption '\\ud800' holds"),
        (lambda rows: rows[0].update(mask={"size": [6, 8], "counts": "0"}), r"row 1 .*run lengths"),
        (lambda rows: rows[2].update(mask=mask(0, 0, 0, 0)), r"row 3 .*its mask has no pixel"),
        (lambda rows: rows[2].update(height=7, width=8), r"row 3 .*its mask is of \(6, 8\) .*the image of \(7, 8\)"),
        (lambda rows: rows[2].update(mask=run_lengths_of(np.ones((3, 3), bool))), r"row 3 .*of \(3, 3\)"),
        (lambda rows: rows[2].update(mask=[[0, 0, 1, 0, 1, 1]]), r"row 3 .*give height and width"),
        (lambda rows: rows[2].update(mask="abc"), r"row 3 .*mask must be run lengths .* got 'abc'"),
        (lambda rows: rows[2].update(region_id=1), r"row 3 .*region_id 1 is that of another row"),
        (lambda rows: rows[1].update(parent=-2), r"row 2 .*region_id must be at least 0 and parent at least -1"),
        (lambda rows: rows.append(rows[0]), r"row 5 .*image 'a.jpg'.*came before.*sort the rows by image"),
        (lambda rows: rows.clear(), r"hold no row"),
    ],
)  # fmt: skip
def test_what_is_no_triple(tmp_path: Path, change: Callable[[Rows], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, damaged(change))


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl").write_text(json.dumps(car()[0]) + '\n{"image": "a')
    spec = DatasetSpec(name="t", annotations=str(tmp_path / "cut.jsonl"), images=str(tmp_path), reader=read_triples)
    with pytest.raises(ValueError, match=r"line 2 of triples .*cut.jsonl' is not JSON"):
        spec.read()
    with pytest.raises(ValueError, match=r"triples are .jsonl or .parquet files, got .*t.csv"):
        write_triples(car(), tmp_path / "t.csv")
    pytest.importorskip("pyarrow")
    with pytest.raises(ValueError, match="Parquet holds run lengths"):
        write_triples([{**car()[0], "mask": [[0, 0, 1, 0, 1, 1]]}], tmp_path / "t.parquet")
    assert not list(tmp_path.glob("*.parquet"))  # files appear whole
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and nothing else")
    spec = DatasetSpec(name="t", annotations=str(tmp_path / "t.parquet"), images=str(tmp_path), reader=read_triples)
    with pytest.raises(ValueError, match="not readable Parquet"):
        spec.read()


# -- training on them --------------------------------------------------------------------------------------------------


@pytest.fixture
def configured(data_root: Path) -> CN:
    MINIATURES["mres_triples"](data_root, num_images=8, seed=0)
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [{"NAME": "mini_triples", "ANNOTATIONS": "triples/train.jsonl", "IMAGES": "triples/images"}]
    cfg.DATASETS.TRAIN = ["mini_triples"]
    cfg.SOLVER.BATCH_SIZE, cfg.DATALOADER.NUM_WORKERS = 2, 0
    cfg.INPUT.TRAIN.MODE, cfg.INPUT.TRAIN.SIZE, cfg.INPUT.TRAIN.EXPRESSIONS = "squash", [32, 32], 20
    register_custom(cfg)
    return cfg


def drawn(cfg: CN, steps: int = 12) -> list[Any]:
    batches = iter(build_referring_loader(cfg))
    return [next(batches) for _ in range(steps)]


@pytest.mark.parametrize("levels", ["both", "object", "part"])
def test_levels_are_a_switch(configured: CN, levels: str) -> None:
    configured.INPUT.TRAIN.LEVELS = levels
    found = {int(level) for batch in drawn(configured) for level in batch.level}
    wanted = {"both": {Level.OBJECT, Level.PART}, "object": {Level.OBJECT}, "part": {Level.PART}}[levels]
    assert found == {int(level) for level in wanted}


def test_shares_are_nested(configured: CN) -> None:
    files = {}
    for share in (0.2, 0.5, 1.0):
        configured.DATASETS.SHARE = share
        files[share] = {Path(file).name for batch in drawn(configured) for file in batch.files}
    assert [len(some) for some in files.values()] == [2, 4, 8]
    assert files[0.2] < files[0.5] < files[1.0] and files[0.2] == {"0000.jpg", "0001.jpg"}


def test_a_level_that_nothing_is_said_of(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'t': none of its 1 expressions can be trained on with .*LEVELS 'part'"):
        expression_view(read(tmp_path, car()[:1]), name="t", most=1, level="part")


def test_it_is_a_data_set_like_any_other(configured: CN) -> None:
    """Scored at both levels, checked by `partglee data check`."""
    spec = get_dataset("mini_triples")
    report = validate_dataset(spec)
    assert spec.evaluator == "referring_parts" and not report.errors, report.text()
