"""SA-1B: miniature tars -> files of objects and parts, nothing of the download changed."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from partglee.cli import main
from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.data.prepare.sa1b import main as sa1b_main
from partglee.testing.miniatures import MINIATURES


@pytest.fixture
def sa1b(data_root: Path) -> Path:
    MINIATURES["sa1b"](data_root, num_images=3, seed=5)
    return data_root / "SA1B"


def raw_of(tar: Path) -> dict[str, dict]:
    with tarfile.open(tar) as file:
        return {
            member.name[2:]: json.load(file.extractfile(member)) for member in file if member.name.endswith(".json")
        }


def digest(folder: Path, pattern: str) -> dict[str, str]:
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob(pattern)}


def test_both_tars_become_one_data_set(sa1b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = digest(sa1b, "*.tar")
    assert sa1b_main(["--workers", "2"]) == 0
    assert digest(sa1b, "*.tar") == before and len(before) == 2
    assert "3 images" in capsys.readouterr().out
    records = get_dataset("sa1b_joint").read()
    assert len(records) == 6 and records.vocabulary.to_dict() == {"object": ["part"]}
    assert records.vocabulary.object_prompts == ("object",) and records.vocabulary.part_prompts == ("part",)
    raw = {**raw_of(sa1b / "sa_000000.tar"), **raw_of(sa1b / "sa_000001.tar")}
    deep = 0
    for index, record in enumerate(records):
        source = raw[f"{record.file.stem}.json"]
        masks = {(tuple(e["bbox"]), e["segmentation"]["counts"]) for e in source["annotations"]}
        found = {
            ((i.box[0], i.box[1], i.box[2] - i.box[0], i.box[3] - i.box[1]), i.segmentation["counts"].decode())
            for i in (*record.objects, *record.parts)
        }
        assert found == masks and record.image_id == source["image"]["image_id"]
        assert all(part.parent >= 0 for part in record.parts)  # through parts of parts, to the object
        assert records.size(index) == read_image(record.source).shape[:2] == (192, 256)
        deep += len(record.parts)
    assert deep > 6
    with pytest.raises(IndexError):
        records[6]


@pytest.mark.parametrize("number", [0, 1])
def test_the_files_pass_the_check(sa1b: Path, number: int) -> None:
    assert sa1b_main(["--workers", "1"]) == 0
    report = validate(json.loads((sa1b / "annotations" / f"sa_00000{number}.json").read_text()), images=sa1b / "images")
    assert not report.errors and not report.warnings
    assert report.summary["usable parts"] == report.summary["parts with a parent"] > 0


def test_the_commands_read_all_files(sa1b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sa1b_main(["--workers", "1"]) == 0
    assert main(["data", "check", "sa1b_joint", "--no-draw"]) == 0
    assert "\n6 images, 0 without annotation, 1 object names, 1 part names" in capsys.readouterr().out
    file = str(sa1b / "annotations" / "sa_000000.json")
    assert main(["data", "check", file, "--images", str(sa1b / "images"), "--no-draw"]) == 0
    assert "\n3 images, " in capsys.readouterr().out
    assert main(["data", "show", "sa1b_joint", "--no-draw"]) == 0
    assert "object 6: part 6" in capsys.readouterr().out
    assert main(["data", "list"]) == 0
    assert f"missing: {sa1b}" not in capsys.readouterr().out


def test_work_that_was_cut_off_goes_on(sa1b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sa1b_main([str(sa1b / "sa_000000.tar"), "--workers", "1"]) == 0
    first = digest(sa1b, "annotations/*.json")
    picture = next((sa1b / "images" / "sa_000000").iterdir())
    stamp = picture.stat().st_mtime_ns
    assert sa1b_main(["--workers", "1"]) == 0
    assert "sa_000000.json: there already" in capsys.readouterr().out
    assert first.items() <= digest(sa1b, "annotations/*.json").items()
    assert sa1b_main(["--workers", "1", "--again"]) == 0
    assert picture.stat().st_mtime_ns == stamp  # an image that is there whole is not written again
    assert first.items() <= digest(sa1b, "annotations/*.json").items()


def test_a_folder_that_was_unpacked(sa1b: Path) -> None:
    assert sa1b_main([str(sa1b / "sa_000001.tar"), "--workers", "1"]) == 0
    wanted = json.loads((sa1b / "annotations" / "sa_000001.json").read_text())
    folder = sa1b / "images" / "sa_000001"
    for name, content in raw_of(sa1b / "sa_000001.tar").items():
        (folder / name).write_text(json.dumps(content))
    before = digest(folder, "*")
    assert sa1b_main([str(folder), "--again", "--workers", "1"]) == 0
    assert json.loads((sa1b / "annotations" / "sa_000001.json").read_text()) == wanted
    assert digest(folder, "*") == before


def test_broken_files_and_missing_images_are_left_out_and_told(sa1b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with tarfile.open(sa1b / "sa_000000.tar", "a") as tar:
        members = {
            "sa_90.json": b"{", "sa_91.json": b"{}", "sa_91.jpg": b"x", "../../sa_92.jpg": b"y", "notes.txt": b"z",
            "sa_93.json": json.dumps(raw_of(sa1b / "sa_000000.tar")["sa_1.json"]).encode(),
        }  # fmt: skip
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert sa1b_main([str(sa1b / "sa_000000.tar"), "--workers", "1"]) == 0
    told = capsys.readouterr().out
    assert "2 left out: annotations without their image" in told and "sa_91.json, not as SA-1B's files" in told
    assert len(json.loads((sa1b / "annotations" / "sa_000000.json").read_text())["images"]) == 3
    assert (sa1b / "images" / "sa_000000" / "sa_92.jpg").is_file()  # a name cannot lead out of the folder
    assert not (sa1b.parent / "sa_92.jpg").exists() and not (sa1b / "sa_92.jpg").exists()


def test_a_tar_that_is_cut_off(sa1b: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sa1b / "sa_000000.tar"
    path.write_bytes(path.read_bytes()[:9000])
    assert sa1b_main([str(path), "--workers", "1"]) == 2
    assert "cut off" in capsys.readouterr().err
    assert not list((sa1b / "annotations").glob("*.json"))
    with pytest.raises(ValueError, match=r"datasets/README\.md says how"):
        get_dataset("sa1b_joint").read()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["no.tar"], "does not exist"), (["--root", "nowhere"], "no tars in"), (["--workers", "0"], "at least 1")],
)
def test_what_the_script_refuses(
    sa1b: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sa1b_main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_batch(sa1b: Path, first_batch) -> None:
    assert sa1b_main(["--workers", "1"]) == 0
    batch = first_batch("sa1b_joint", 3)
    assert batch.names is not None and (*batch.names.object_prompts, *batch.names.part_prompts) == ("object", "part")
    assert batch.supervision.objects.background == batch.supervision.parts.background == (True,) * 3
    for target in batch.targets:
        assert len(target.objects) and (target.part_parent >= 0).all() and target.objects.masks is not None
    assert sum(len(target.parts) for target in batch.targets) > 3
