"""Inputs: what each kind lists, and that every image is read as it was written."""

from __future__ import annotations

import io
import json
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.annotate import masks, open_source, read_recipe
from partglee.annotate.shard import run_items
from partglee.annotate.sources import load
from partglee.basics.masks import decode
from partglee.data.prepare.sa1b import prepare_shard
from partglee.data.prepare.visual_genome import main as visual_genome_main
from partglee.structures import Vocabulary
from partglee.testing import write_toy_dataset
from partglee.testing.miniatures import MINIATURES


def picture(shade: int) -> Image.Image:
    return Image.fromarray(np.full((6, 8, 3), shade, np.uint8))


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    picture(shade).save(stream, format="PNG")
    return stream.getvalue()


def shades(source: Any) -> dict[str, int]:
    """Image id -> the grey it was written with."""
    return {item.image_id: int(load(item, seed=0).image[0, 0, 0]) for item in source.items}


def test_folders_and_patterns(tmp_path: Path) -> None:
    for folder, shade in (("a", 10), ("b", 20)):
        (tmp_path / folder).mkdir()
        picture(shade).save(tmp_path / folder / "same.png")
    assert shades(open_source(str(tmp_path / "a"))) == {"same.png": 10}
    assert shades(open_source(str(tmp_path / "*" / "*.png"))) == {"a/same.png": 10, "b/same.png": 20}
    assert shades(open_source(str(tmp_path / "a" / "same.png"))) == {"same.png": 10}
    with pytest.raises(FileNotFoundError):
        list(open_source(str(tmp_path / "none.png")).items)
    with pytest.raises(ValueError, match="no input"):
        open_source([])


def test_webdataset_tars(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name, content in (("k/1.png", png(30)), ("k/1.json", b"{}"), ("k/2.png", png(40))):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    assert shades(open_source(str(tmp_path / "*.tar"))) == {"x/k/1.png": 30, "x/k/2.png": 40}
    item = next(iter(open_source(str(tmp_path / "x.tar")).items))
    assert load(item, seed=0, keep_content=True).content == png(30)
    with tarfile.open(tmp_path / "up.tar", "w") as tar:
        for name in ("./1.png", "../../2.png", "/k/../3.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png(50))
            tar.addfile(member, io.BytesIO(png(50)))
    assert shades(open_source(str(tmp_path / "up.tar"))) == {"up/1.png": 50, "up/2.png": 50, "up/3.png": 50}
    (tmp_path / "cut.tar").write_bytes((tmp_path / "x.tar").read_bytes()[:700])
    with pytest.raises(ValueError, match="is no tar, or is cut off"):
        list(open_source(str(tmp_path / "cut.tar")).items)


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    picture(50).save(tmp_path / "there.png")
    rows = {"image": [png(10), png(20), png(30)], "image_id": ["p", "q", "r"]}
    parquet.write_table(pa.table(rows), tmp_path / "bytes.parquet", row_group_size=2)
    assert shades(open_source(str(tmp_path / "bytes.parquet"))) == {"p": 10, "q": 20, "r": 30}
    hugging = [{"bytes": png(60), "path": None}, {"bytes": None, "path": str(tmp_path / "there.png")}]
    parquet.write_table(pa.table({"image": hugging}), tmp_path / "structs.parquet")
    assert shades(open_source(str(tmp_path / "structs.parquet"))) == {"structs/0": 60, "structs/1": 50}
    assert len(shades(open_source(str(tmp_path)))) == 5, "a folder of tables"
    parquet.write_table(pa.table({"picture": [png(1)]}), tmp_path / "wrong.parquet")
    with pytest.raises(ValueError, match="no column `image`"):
        list(open_source(str(tmp_path / "wrong.parquet")).items)


def test_coco_files_bring_their_boxes_and_masks(tmp_path: Path) -> None:
    file = write_toy_dataset(tmp_path, num_images=2)
    truth = json.loads(file.read_text())
    plain = open_source(str(file))
    assert "region.box" in plain.columns and "region.mask" not in plain.columns
    source = open_source(str(file), images=str(tmp_path), masks=True)
    assert "region.mask" in source.columns
    names = {entry["id"]: entry["name"] for entry in truth["categories"]}
    for item in source.items:
        assert json.loads(json.dumps(item.how)) == item.how, "jobs keep their list of images as JSON"
        sample = load(item, seed=0)
        image = next(entry for entry in truth["images"] if entry["file_name"] == item.image_id)
        wanted = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
        assert len(sample.regions) == len(wanted) > 0
        for region in sample.regions:
            x0, y0, x1, y1 = region.box
            match = [e for e in wanted if np.allclose(e["bbox"], (x0, y0, x1 - x0, y1 - y0), atol=0.01)
                     and names[e["category_id"]].rpartition(":")[2] == region.name]  # fmt: skip
            assert match, region
            mask = decode(region.mask, *sample.size)
            assert any(np.array_equal(mask, decode(e["segmentation"], *sample.size)) for e in match)
            if region.level == "part":
                assert sample.regions[region.parent].level == "object"
    with pytest.raises(ValueError, match="goes with a COCO file"):
        open_source(str(tmp_path), images=str(tmp_path))
    with pytest.raises(ValueError, match="of one kind, got coco, files"):
        open_source([str(tmp_path), str(file)])


def test_data_sets_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    with pytest.raises(ValueError, match="no data set 'objects366'"):
        list(open_source("dataset:objects366").items)
    MINIATURES["objects365"](tmp_path, num_images=3, seed=7)
    items = list(open_source("dataset:objects365_v2_train").items)
    assert len(items) == 3
    first = load(items[0], seed=0)
    assert first.regions and first.regions[0].name in Vocabulary.builtin("objects365").object_names
    assert not Path(items[0].image_id).is_absolute()
    MINIATURES["visual_genome"](tmp_path, num_images=3, seed=7)
    assert visual_genome_main([]) == 0
    genome = [load(item, seed=0) for item in open_source("dataset:vg_train_joint").items]
    assert len(genome) == 3 and {region.level for sample in genome for region in sample.regions} == {"object", "part"}


def test_boxes_of_data_sets_by_name_get_masks_and_captions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Objects365 and Visual Genome as they are published, through the engine of MRES; a segmenter that fills boxes."""

    def fill(pixels: Any, boxes: Any) -> list[Any]:
        rows, columns = np.indices(pixels.shape[:2])
        return [(columns >= x0) & (columns < x1) & (rows >= y0) & (rows < y1) for x0, y0, x1, y1 in boxes]

    monkeypatch.setitem(sys.modules, "segmenter_of_a_test", SimpleNamespace(make=lambda weights: fill))
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    MINIATURES["objects365"](tmp_path, num_images=2, seed=7)
    MINIATURES["visual_genome"](tmp_path, num_images=2, seed=7)
    assert visual_genome_main([]) == 0
    recipe = read_recipe("mres", ["objects.enabled=false", "masks.enabled=true", "vocabulary.enabled=false",
                                  "masks.segmenter=segmenter_of_a_test:make", "parts.enabled=false"])  # fmt: skip
    for stage in recipe.stages:
        stage.open()
    for name in ("objects365_v2_train", "vg_train_joint"):
        source = open_source(f"dataset:{name}")
        recipe.check(source.columns)
        rows = run_items(list(enumerate(source.items)), recipe.stages, seed=0)
        kept = [row for row in rows.regions if not row["dropped"]]
        assert len(rows.images) == 2 and not rows.failures and kept
        assert all(row["caption"] and masks.areas([row["mask"]])[0] > 0 for row in kept)
        if name.startswith("vg"):
            assert any(row["level"] == "part" and " of the " in row["caption"] for row in kept)


def test_sa1b_as_it_is_downloaded(tmp_path: Path) -> None:
    """Levels of the recipe are those that `prepare_sa1b.py` writes, of a tar and of the folder it was unpacked to."""
    MINIATURES["sa1b"](tmp_path, num_images=3, seed=3)
    tar = tmp_path / "SA1B" / "sa_000000.tar"
    prepare_shard(tar, tmp_path / "SA1B")
    truth = json.loads((tmp_path / "SA1B" / "annotations" / "sa_000000.json").read_text())
    with tarfile.open(tar) as stream:
        stream.extractall(tmp_path / "sa_000000", filter="data")
    recipe = read_recipe("sa1b_hierarchy", ["masks_of_model.enabled=false", "filter_size.min_pixels=1",
                                            "filter_duplicates.iou=1"])  # fmt: skip
    for place in (f"sa1b:{tmp_path}/SA1B/sa_*0.tar", f"sa1b:{tmp_path / 'sa_000000'}"):
        source = open_source(place)
        recipe.check(source.columns)
        items = list(source.items)
        assert [item.image_id for item in items] == [
            f"sa_000000/{entry['file_name'][10:]}" for entry in truth["images"]
        ]
        assert all("counts" not in json.dumps(item.how) for item in items), "masks are not copied to the input list"
        rows = run_items(list(enumerate(items)), recipe.stages, seed=0)
        assert not rows.failures
        for number, image in enumerate(truth["images"]):
            wanted = [entry for entry in truth["annotations"] if entry["image_id"] == image["id"]]
            found = [row for row in rows.regions if row["position"] == number]
            first = wanted[0]["id"]
            assert [row["parent"] for row in found] == [entry.get("parent_id", first - 1) - first for entry in wanted]
            assert [row["level"] == "part" for row in found] == [entry["category_id"] == 2 for entry in wanted]
            assert [row["mask"]["counts"] for row in found] == [entry["segmentation"]["counts"] for entry in wanted]
            assert {row["scores"][0]["value"] for row in found} == {0.97} and {row["score"] for row in found} == {0.95}
        assert {row["level"] for row in rows.regions} == {"object", "part"}


def test_sa1b_files_that_are_alone_or_damaged_are_named(tmp_path: Path) -> None:
    MINIATURES["sa1b"](tmp_path, num_images=4, seed=3)
    with tarfile.open(tmp_path / "SA1B" / "sa_000000.tar") as stream:
        stream.extractall(tmp_path / "d", filter="data")
    (tmp_path / "d" / "sa_1.json").unlink()
    (tmp_path / "d" / "sa_2.jpg").unlink()
    (tmp_path / "d" / "sa_3.json").write_text("{}")
    content = json.loads((tmp_path / "d" / "sa_4.json").read_text())
    picture(1).save(tmp_path / "d" / "sa_4.jpg")
    assert content["image"]["height"] != 6
    rows = run_items(list(enumerate(open_source(f"sa1b:{tmp_path / 'd'}").items)), [], seed=0)
    told = {failure.image_id: failure.reason for failure in rows.failures}
    assert sorted(told) == [f"d/sa_{n}.jpg" for n in (1, 2, 3, 4)]
    for number, words in enumerate(["sa_1.json is not", "sa_2.jpg is not", "not as SA-1B's", "it has (6, 8)"], start=1):
        assert words in told[f"d/sa_{number}.jpg"]
    with pytest.raises(ValueError, match="holds no images of SA-1B"):
        (tmp_path / "e").mkdir()
        list(open_source(f"sa1b:{tmp_path / 'e'}").items)
    with pytest.raises(ValueError, match="goes with a COCO file, the input is sa1b"):
        open_source(f"sa1b:{tmp_path / 'd'}", masks=True)


def test_an_image_has_a_seed_of_its_own(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(0).save(tmp_path / f"{name}.png")
    items = list(open_source(str(tmp_path)).items)
    seeds = [load(item, seed=seed).seed for item in items for seed in (0, 1)]
    assert len(set(seeds)) == 4
    assert load(items[0], seed=0).seed == seeds[0]


def test_damage_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(png(1)[:30])
    item = next(iter(open_source(str(tmp_path)).items))
    with pytest.raises((ValueError, OSError)):
        load(item, seed=0)
