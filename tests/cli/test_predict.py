"""`partglee predict` with what people have: nothing but an image, folders, addresses, videos."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.checkpoint import write_weights
from partglee.cli import main
from partglee.data.video import VideoWriter, video_info
from partglee.testing import tiny_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_weights(tiny_model(table=table).state_dict(), file, {"partglee_config": "tiny"})
    return file


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.png"):
        array = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(array).save(tmp_path / name)
    return tmp_path


def predict(*images: str, weights: Path, table: Path, more: tuple[str, ...] = ()) -> int:
    return main(
        ["predict", *images, "-v", "dog: head, tail; person", "-w", str(weights), "--name-table", str(table), "-t", "0",
         "-n", "2", "--max-parts", "2", "-d", "cpu", *more]
    )  # fmt: skip


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def clip(file: Path, frames: int) -> None:
    pytest.importorskip("av")
    with VideoWriter(file, rate=Fraction(12)) as video:
        for i in range(frames):
            video.write(np.random.default_rng(i).integers(0, 256, (40, 60, 3), dtype=np.uint8))


def test_short_flags_and_the_default_folder(folder: Path, weights: Path, table: Path) -> None:
    assert predict("a.jpg", weights=weights, table=table) == 0
    assert sorted(path.name for path in (folder / "partglee_output").iterdir()) == ["a.jpg", "predictions.jsonl"]
    with Image.open("partglee_output/a.jpg") as picture:
        assert picture.size == (60, 40)
    assert predict("*.png", weights=weights, table=table, more=("-o", "out", "-b", "2", "--panel")) == 0
    with Image.open("out/b.jpg") as picture:
        assert picture.width > 60


def test_an_image_alone(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The shipped weights and their own vocabulary."""
    assert main(["predict", "a.jpg"]) == 0
    (line,) = lines(folder / "partglee_output")
    assert line["file_name"] == "a.jpg"
    assert "1 of 1 image -> partglee_output/predictions.jsonl, pictures beside it" in capsys.readouterr().out


def test_weights_without_a_vocabulary(folder: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "a.jpg", "-w", str(weights), "-c", "tiny"]) == 2
    assert "pass --vocabulary" in capsys.readouterr().err and not (folder / "partglee_output").exists()


def test_overlaps(folder: Path, weights: Path, table: Path) -> None:
    many = ("-n", "40", "--max-parts", "0")
    counts = []
    for more in (("--keep-overlaps",), (), ("--across-names",)):
        assert predict("a.jpg", weights=weights, table=table, more=(*many, *more)) == 0
        counts.append(len(lines(folder / "partglee_output")[0]["results"]))
    assert counts[0] == 40 and counts[0] > counts[1] >= counts[2] >= 1


@pytest.mark.parametrize(("stride", "numbers"), [(1, [0, 1, 2, 3, 4]), (2, [0, 2, 4])])
def test_videos(folder: Path, weights: Path, table: Path, stride: int, numbers: list[int]) -> None:
    clip(folder / "clip.mp4", 5)
    assert predict(".", weights=weights, table=table, more=("--stride", str(stride), "-b", "2")) == 0
    found = lines(folder / "partglee_output")
    assert [line["file_name"] for line in found] == ["a.jpg", "b.png"] + ["clip.mp4"] * len(numbers)
    assert [line["frame"] for line in found[2:]] == numbers
    assert [line["seconds"] for line in found[2:]] == pytest.approx([number / 12 for number in numbers], abs=1e-3)
    info = video_info("partglee_output/clip.mp4")
    assert info.frames == len(numbers) and info.rate == Fraction(12, stride)


def test_a_broken_video_is_skipped(
    folder: Path, weights: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    (folder / "bad.mp4").write_text("no video")
    assert predict("bad.mp4", "a.jpg", weights=weights, table=table) == 1
    told = capsys.readouterr()
    assert "skipped bad.mp4: 'bad.mp4' is not a video" in told.err
    assert "1 of 1 image and 0 of 1 video -> " in told.out
    assert sorted(path.name for path in (folder / "partglee_output").iterdir()) == ["a.jpg", "predictions.jsonl"]


def test_addresses(folder: Path, weights: Path, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from contextlib import contextmanager

    from partglee.engine import image_input

    @contextmanager
    def from_here(url: str) -> Any:
        if "gone" in url:
            raise ValueError(f"cannot fetch '{url}'")
        yield Path(shutil.copy("a.jpg", "fetched.jpg"))

    monkeypatch.setattr(image_input, "fetched", from_here)
    first, second = "https://host/a.jpg?size=1", "http://host/"
    assert predict(first, "a.jpg", second, weights=weights, table=table) == 0
    assert [line["file_name"] for line in lines(folder / "partglee_output")] == [first, "a.jpg", second]
    written = {path.name for path in (folder / "partglee_output").iterdir()}
    assert written == {"a.jpg", "a_2.jpg", "image.jpg", "predictions.jsonl"}
    assert predict("https://host/gone.jpg", weights=weights, table=table) == 1


def test_wrong_options(folder: Path, weights: Path, table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict("a.jpg", weights=weights, table=table, more=("--stride", "0")) == 2
    assert "--stride must be at least 1" in capsys.readouterr().err
    assert predict("lost.mp4", weights=weights, table=table) == 2
    assert "'lost.mp4' does not exist" in capsys.readouterr().err
