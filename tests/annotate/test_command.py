"""`partglee annotate` end to end: recipes with the shipped model, exports, the report, a training that reads them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from training_samples import SMALL

from partglee.annotate import open_job, read_recipe
from partglee.annotate.export import samples
from partglee.cli import main
from partglee.data import DatasetSpec, read_coco
from partglee.testing import write_name_table

BOXES = ("region.name", "region.level", "region.box", "region.parent")
FAST = ["--set", "tables=jsonl", "--set", "shard_size=2"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos that come with scikit-image, and a file that is none."""
    from skimage import data

    folder = tmp_path_factory.mktemp("photos")
    for name in ("astronaut", "chelsea", "coffee"):
        picture = Image.fromarray(getattr(data, name)())
        picture.thumbnail((240, 240))
        picture.save(folder / f"{name}.jpg", quality=92)
    (folder / "zero.jpg").write_bytes(b"")
    return folder


def annotate(recipe: str, photos: Path, out: Path, *more: str) -> int:
    return main(["annotate", recipe, str(photos), str(out), *FAST, "--max-errors", "1", *more])


@pytest.fixture(scope="module")
def labelled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job of pseudo labels."""
    out = tmp_path_factory.mktemp("jobs") / "pseudo"
    assert annotate("pseudo_labels", photos, out, "--workers", "2") == 1, "one image failed"
    return out


def test_pseudo_labels_are_hierarchical_coco_that_training_reads(labelled: Path, tmp_path: Path) -> None:
    errors = (labelled / "errors.jsonl").read_text().splitlines()
    assert [(json.loads(line)["image_id"], json.loads(line)["stage"]) for line in errors] == [("zero.jpg", "read")]
    file = tmp_path / "labels.json"
    assert main(["annotate", "export", str(labelled), str(file)]) == 0
    content = json.loads(file.read_text())
    folder = json.loads((labelled / "inputs.jsonl").read_text().splitlines()[0])[1].rpartition("/")[0]
    records = read_coco(DatasetSpec(name="p", annotations=str(file), images=folder, reader=read_coco))
    found = {sample.file: sample for sample in samples(open_job(labelled))}
    assert len(found) == 3 and len(records) == len(content["images"]) > 0
    for record in (records[row] for row in range(len(records))):
        kept = [region for _, region in found[str(record.file)].kept()]
        assert len(record.objects) == sum(region.level == "object" for region in kept)
        assert len(record.parts) == sum(region.level == "part" for region in kept)
        assert all(0 <= part.parent < len(record.objects) for part in record.parts)
    people = [r for s in found.values() for _, r in s.kept() if r.name == "person"]
    assert people and all("detect@1:" in region.stages[0] for region in people)


def test_a_training_reads_the_export(labelled: Path, photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.json"
    assert main(["annotate", "export", str(labelled), str(file), "--images", str(photos)]) == 0
    vocabulary = read_coco(DatasetSpec(name="p", annotations=str(file), images="", reader=read_coco)).vocabulary
    names = [*vocabulary.object_prompts, *vocabulary.part_prompts]
    write_name_table(tmp_path / "names.npz", names, width=16)
    entry = {"NAME": "pseudo", "ANNOTATIONS": str(file), "IMAGES": str(photos)}
    values = [*SMALL, "DATASETS.CUSTOM", [entry], "DATASETS.TRAIN", ["pseudo"], "DATASETS.TEST", [],
              "MODEL.TEXT.TABLE.FILE", tmp_path / "names.npz", "OUTPUT_DIR", tmp_path / "run",
              "SOLVER.MAX_ITER", 2]  # fmt: skip
    assert main(["train", "--config-file", "tiny", "--num-gpus", "0", *map(str, values)]) == 0
    steps = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss/total" in step for step in steps) == 2


@pytest.mark.parametrize("form", ["cvat", "labelstudio", "labelme"])
def test_exports_to_annotation_tools(labelled: Path, tmp_path: Path, form: str) -> None:
    from partglee.data.formats import convert

    suffix = {"cvat": "a.xml", "labelstudio": "a.json", "labelme": "folder"}[form]
    assert main(["annotate", "export", str(labelled), str(tmp_path / suffix), "--to", form]) == 0
    back = convert(tmp_path / suffix, tmp_path / "back.json", from_format=form)
    wanted = [region for sample in samples(open_job(labelled)) for _, region in sample.kept()]
    assert sum(back.names.objects.values()) + back.names.num_parts == len(wanted) > 0


@pytest.fixture(scope="module")
def mres(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job of captions."""
    out = tmp_path_factory.mktemp("jobs") / "mres"
    assert annotate("mres", photos, out) == 1
    return out


def test_mres(mres: Path) -> None:
    found = list(samples(open_job(mres)))
    regions = [region for sample in found for _, region in sample.kept()]
    assert {region.level for region in regions} == {"object", "part"}
    assert all(region.caption and region.mask for region in regions)
    part = next(region for region in regions if region.level == "part")
    assert " of the " in str(part.caption)
    assert any("person" in sample.vocabulary for sample in found)
    assert len(list((mres / "webdataset").glob("*.tar"))) == 2


def test_triples_are_read_as_expressions(photos: Path, mres: Path, tmp_path: Path) -> None:
    from partglee.data.annotations.coco_json import read_triples

    file = tmp_path / "triples.jsonl"
    assert main(["annotate", "export", str(mres), str(file), "--to", "triples"]) == 0
    records = read_triples(DatasetSpec(name="t", annotations=str(file), images=str(photos), reader=read_triples))
    kept = [region for sample in samples(open_job(mres)) for _, region in sample.kept()]
    found = [records[row] for row in range(len(records))]
    assert sum(len(record.objects) for record in found) == sum(region.level == "object" for region in kept)
    assert sum(len(record.parts) for record in found) == sum(region.level == "part" for region in kept) > 0
    texts = {expression.text for record in found for expression in record.expressions}
    assert texts == {region.caption for region in kept}
    assert all(part.parent >= 0 for record in found for part in record.parts)


def test_mgsc(photos: Path, tmp_path: Path) -> None:
    assert annotate("mgsc", photos, tmp_path / "out", "--set", "objects.score_threshold=0.2") == 1
    found = [sample for sample in samples(open_job(tmp_path / "out")) if list(sample.kept())]
    assert found and all(sample.descriptions and sample.descriptions[0].node == -1 for sample in found)
    for sample in found:
        for one in sample.descriptions:
            assert one.text.count("[SEG]") == len(one.regions) > 0
            assert all(not sample.regions[number].dropped for number in one.regions)


def test_sa1b_hierarchy(photos: Path, tmp_path: Path) -> None:
    assert annotate("sa1b_hierarchy", photos, tmp_path / "out") == 1
    found = list(samples(open_job(tmp_path / "out")))
    regions = [region for sample in found for _, region in sample.kept()]
    assert {region.name for region in regions} == {"object", "part"}
    file = tmp_path / "two_levels.json"
    assert main(["annotate", "export", str(tmp_path / "out"), str(file)]) == 0
    categories = {entry["name"]: entry["level"] for entry in json.loads(file.read_text())["categories"]}
    assert categories == {"object": "object", "part": "part"}


def test_report(labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "report.html"
    assert main(["annotate", "report", str(labelled), "--output", str(target), "--pictures", "2"]) == 0
    assert "3 images" in capsys.readouterr().out
    page = target.read_text()
    assert page.count('src="data:image/jpeg;base64,') >= 2
    for word in ("read: ", "Random images", "person", "Score score", "Sizes of objects"):
        assert word in page, word


def test_report_draws_images_of_tars(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("astronaut.jpg", "coffee.jpg"):
            tar.add(photos / name, name)
    (tmp_path / "r.yaml").write_text("{tables: jsonl, stages: [{stage: invent, regions: 3}]}")
    out = tmp_path / "out"
    assert main(["annotate", str(tmp_path / "r.yaml"), str(tmp_path / "photos.tar"), str(out)]) == 0
    assert main(["annotate", "report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert page.count('src="data:image/jpeg;base64,') == 2 and "cannot be read" not in page
    (tmp_path / "photos.tar").unlink()
    assert main(["annotate", "report", str(out)]) == 0
    assert (out / "report.html").read_text().count("cannot be read") == 2
    assert main(["annotate", "export", str(out), str(tmp_path / "a.json")]) == 2
    assert "webdataset: true" in capsys.readouterr().err


def test_mistakes_end_with_one_line(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*arguments: Any) -> str:
        assert main(["annotate", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    assert "did you mean 'mres'" in told("mress", photos, tmp_path / "a")
    assert "needs region.box" in told("sa1b_hierarchy", photos, tmp_path / "a", "--set", "masks_of_model.enabled=false")
    assert "--workers must be" in told("mres", photos, tmp_path / "a", "--workers", 0)
    assert "add --engine ray" in told("mres", photos, tmp_path / "a", "--address", "x:1")
    assert "holds no job" in told("report", tmp_path)
    assert "enabled of stage" in told("mres", photos, tmp_path / "a", "--set", "masks.enabled=maybe")
    assert not (tmp_path / "a").exists()


def test_check_and_list(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["annotate", "run", "mres", str(photos), str(tmp_path / "a"), "--check", *FAST]) == 0
    assert "read -> objects -> vocabulary -> parts" in capsys.readouterr().out
    assert main(["annotate", "list"]) == 0
    out = capsys.readouterr().out
    assert "sa1b_hierarchy" in out and "filter_listener" in out


def test_every_recipe_fits_what_it_says() -> None:
    read_recipe("mres", ["objects.enabled=false", "masks.enabled=true", "filter_listener.enabled=true",
                         "filter_clip.enabled=true"]).check(BOXES)  # fmt: skip
    for name in ("sa1b_hierarchy", "mgsc"):
        stage = {"sa1b_hierarchy": "masks_of_model", "mgsc": "objects"}[name]
        recipe = read_recipe(name, [f"{stage}.enabled=false"])
        recipe.check((*BOXES, "region.mask"))
        assert not [s for s in recipe.stages if s.kind == "detect"]
