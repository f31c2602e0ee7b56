"""Tables in Lance: rows as in Parquet, one data set of the catalogue, what is missing told. Needs pylance."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from annotate_stages import images, job_of
from PIL import Image

from partglee.annotate import open_source, run_local
from partglee.annotate.export import samples
from partglee.annotate.sources import load
from partglee.annotate.tables import read_table

NAMES = [f"i{number:03d}" for number in range(20)]


def rows(job: Any) -> list[Any]:
    return [
        row for name in ("images", "regions") for s in range(job.num_shards) for row in read_table(job.table(name, s))
    ]


def test_without_pylance_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "lance", None)
    from partglee.cli import main

    (tmp_path / "photos").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "photos" / "a.png")
    out = tmp_path / "out"
    (tmp_path / "x.lance").mkdir()
    with pytest.raises(ValueError, match="pip install 'partglee\\[lance\\]'"):
        next(iter(open_source(str(tmp_path / "x.lance")).items))
    assert main(["annotate", "pseudo_labels", str(tmp_path / "photos"), str(out), "--set", "tables=lance"]) == 2
    assert not out.exists()


def test_catalogue_has_the_rows_of_parquet(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="pylance is not installed")
    stages = ["invent", {"stage": "trouble", "folder": str(tmp_path)}]
    names = [*NAMES, "later1"]
    jobs = {form: job_of(tmp_path / form, names, stages, tables=form) for form in ("lance", "parquet")}
    for job in jobs.values():
        assert run_local(job, workers=2).failed == 1
    assert rows(jobs["lance"]) == rows(jobs["parquet"])
    for name in ("images", "regions"):
        data = lance.dataset(str(tmp_path / "lance" / f"{name}.lance"))
        assert data.to_table().to_pylist() == [
            row for s in range(3) for row in read_table(jobs["parquet"].table(name, s))
        ]
    (tmp_path / "mended").touch()
    assert run_local(jobs["lance"], retry_failed=True).failed == 0
    assert lance.dataset(str(tmp_path / "lance" / "images.lance")).to_table()["image_id"].to_pylist() == names
    assert len(list(samples(jobs["lance"]))) == 21


def test_what_a_killed_run_leaves_goes(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="pylance is not installed")
    job = job_of(tmp_path, NAMES, ["invent"], tables="lance")
    run_local(job)
    whole = rows(job)
    job.marker(1).unlink()  # as if it had been killed before the shard was finished
    for name in ("images", "regions"):
        (tmp_path / f"{name}.lance" / "data" / "loose.lance").write_bytes(b"cut o")
    assert run_local(job_of(tmp_path, NAMES, ["invent"], tables="lance")).ran == 8
    assert rows(job) == whole
    assert images(job) == NAMES
    assert lance.dataset(str(tmp_path / "images.lance")).count_rows() == 20
    run_local(job)
    assert len(list((tmp_path / "images.lance" / "data").iterdir())) == 3, "what no shard names is removed"
    assert not list((tmp_path / "regions.lance" / "data").glob("loose*"))


def test_images_of_a_lance_data_set(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="pylance is not installed")
    import pyarrow as pa

    def png(shade: int) -> bytes:
        stream = io.BytesIO()
        Image.fromarray(np.full((6, 8, 3), shade, np.uint8)).save(stream, format="PNG")
        return stream.getvalue()

    (tmp_path / "there.png").write_bytes(png(40))
    place = str(tmp_path / "a.lance")
    lance.write_dataset(pa.table({"image": [png(10), png(20)], "image_id": ["p", "q"]}), place)
    lance.write_dataset(pa.table({"image": [png(30)], "image_id": ["r"]}), place, mode="append")
    items = list(open_source(place).items)
    assert {item.image_id: int(load(item, seed=0).image[0, 0, 0]) for item in items} == {"p": 10, "q": 20, "r": 30}
    lance.dataset(place).delete("image_id = 'p'")
    assert int(load(items[1], seed=0).image[0, 0, 0]) == 20, "rows are of the version that was listed"
    lance.write_dataset(pa.table({"image": [str(tmp_path / "there.png")]}), str(tmp_path / "b.lance"))
    found = list(open_source([str(tmp_path / "*.lance")]).items)
    assert [item.image_id for item in found] == ["q", "r", "b/0"]
    assert int(load(found[2], seed=0).image[0, 0, 0]) == 40
    lance.write_dataset(pa.table({"picture": [b""]}), str(tmp_path / "wrong.lance"))
    with pytest.raises(ValueError, match="no column `image`"):
        list(open_source(str(tmp_path / "wrong.lance")).items)
    (tmp_path / "empty.lance").mkdir()
    with pytest.raises(ValueError, match=r"empty\.lance is no Lance data set"):
        list(open_source(str(tmp_path / "empty.lance")).items)
