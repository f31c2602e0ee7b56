"""The command line, end to end on the tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from partglee.checkpoint import write_weights
from partglee.cli import main
from partglee.structures import Vocabulary
from partglee.testing import tiny_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, table: Path) -> Path:
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_weights(tiny_model(table=table).state_dict(), file, {"partglee_config": "tiny"})
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for name in ("a.jpg", "b.png", "more/a.jpg"):
        array = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(array).save(folder / name)
    return folder


def predict(images: list[Path], weights: Path, table: Path, output: Path, *more: str) -> int:
    return main(
        ["predict", *map(str, images), "--vocabulary", "dog: head, tail; person", "--weights", str(weights),
         "--name-table", str(table), "--output", str(output), "--score-threshold", "0", "--max-objects", "2",
         "--max-parts", "2", "--device", "cpu", *more]
    )  # fmt: skip


def test_predict_writes_pictures_and_lines(photos: Path, weights: Path, table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert predict([photos / "a.jpg", photos / "more" / "a.jpg", photos / "b.png"], weights, table, out) == 0
    lines = [json.loads(line) for line in (out / "predictions.jsonl").read_text().splitlines()]
    assert [Path(line["file_name"]).name for line in lines] == ["a.jpg", "a.jpg", "b.png"]
    assert all(0 < len([r for r in line["results"] if r["level"] == "object"]) <= 2 for line in lines)
    assert {p.name for p in out.iterdir()} == {"predictions.jsonl", "a.jpg", "a_2.jpg", "b.jpg"}
    with Image.open(out / "b.jpg") as picture:
        assert picture.width >= 60


def test_broken_images_are_skipped(
    photos: Path, weights: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "broken.jpg").write_text("no picture")
    (photos / "empty.png").touch()
    out = tmp_path / "out"
    assert predict([photos], weights, table, out, "--no-pictures", "--no-masks") == 1
    assert len((out / "predictions.jsonl").read_text().splitlines()) >= 2
    error = capsys.readouterr().err
    assert "broken.jpg" in error and "empty.png" in error


def test_what_was_done_before_an_interruption_is_kept(
    photos: Path, weights: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from partglee.engine import image_input

    whole = image_input.predict_files

    def stop_after_one(*arguments: Any, **options: Any) -> Iterator[Any]:
        yield next(iter(whole(*arguments, **options)))
        raise KeyboardInterrupt

    monkeypatch.setattr(image_input, "predict_files", stop_after_one)
    out = tmp_path / "out"
    assert predict([photos / "a.jpg", photos / "b.png"], weights, table, out, "--no-pictures") == 130
    assert len((out / "predictions.jsonl").read_text().splitlines()) == 1
    assert [path.name for path in out.iterdir()] == ["predictions.jsonl"]


def test_sigterm_keeps_what_was_done(
    photos: Path, weights: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from partglee.engine import image_input

    whole = image_input.predict_files

    def terminated_after_one(*arguments: Any, **options: Any) -> Iterator[Any]:
        for answer in whole(*arguments, **options):
            yield answer
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(image_input, "predict_files", terminated_after_one)
    out = tmp_path / "out"
    assert predict([photos / "a.jpg", photos / "b.png"], weights, table, out, "--no-pictures") == 143
    assert [Path(json.loads(line)["file_name"]).name for line in (out / "predictions.jsonl").open()] == ["a.jpg"]
    assert [path.name for path in out.iterdir()] == ["predictions.jsonl"]
    assert capsys.readouterr().err.strip().endswith("partglee: ended by SIGTERM")


def test_nothing_to_predict(weights: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert predict([tmp_path / "none*.jpg"], weights, table, tmp_path / "out") == 2
    assert "none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vocabulary", "dog: head, head"], "head"),
        (["--weights", "gone.safetensors"], "gone.safetensors"),
        (["--score-threshold", "7"], "score_threshold"),
        (["--vocabulary", "unicorn", "--strict"], "'unicorn'"),
        (["--device", "foo"], "foo"),
    ],
)
def test_bad_arguments(
    photos: Path, weights: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    assert predict([photos / "a.jpg"], weights, table, tmp_path / "out", *arguments) == 2
    assert message in capsys.readouterr().err


def test_words_that_the_table_lacks(
    photos: Path, weights: Path, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("partglee.text.words.sentence_encoder", lambda: None)
    words = ["--vocabulary", "puppies: heads, zzz; person; zzyzx"]
    assert predict([photos / "a.jpg"], weights, table, tmp_path / "out", *words) == 0
    told = capsys.readouterr().err
    assert "'puppies' as 'dog'" in told and "'puppies: heads' as 'dog head'" in told
    assert "left out: " in told and "'zzyzx'" in told and "'puppies: zzz'" in told
    line = json.loads((tmp_path / "out" / "predictions.jsonl").read_text())
    assert {result["name"] for result in line["results"]} <= {"puppies", "person", "heads", "puppies:heads"}
    assert predict([photos / "a.jpg"], weights, table, tmp_path / "no", *words, "--strict") == 2
    told = capsys.readouterr().err
    assert all(word in told for word in ("puppies", "heads", "zzz", "zzyzx")) and not (tmp_path / "no").exists()


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    for word in ("torch", "devices", "deformable attention", "joint_r50", "tiny"):
        assert word in text
    first, second = text.splitlines()[:2]
    assert first.startswith("ready (`partglee predict") and second.startswith("  partglee-tiny: ")


def test_vocabulary(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vocabulary", "car", "dog", "unheard of thing"]) == 0
    text = capsys.readouterr().out
    assert "wheel" in text and "pascal_part" in text and "unheard of thing: no parts known" in text
    assert main(["vocabulary"]) == 0
    assert "paco: 75 objects, 456 part names" in capsys.readouterr().out
    assert main(["vocabulary", "--show", "pascal_part"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(Vocabulary.builtin("pascal_part").object_names) and lines[0].startswith("aeroplane: ")
    assert main(["vocabulary", "--show", "nothing"]) == 2
    assert main(["vocabulary", "car", "--show", "paco"]) == 2


def test_convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"partglee.pixel_decoder.mask_features.bias": torch.ones(4)}}, tmp_path / "in.pth")
    out = tmp_path / "out.safetensors"
    assert main(["convert", "--from", "partglee", str(tmp_path / "in.pth"), str(out)]) == 0
    assert out.is_file() and "converted 1 keys" in capsys.readouterr().out
    (tmp_path / "bad.pth").write_bytes(b"")
    assert main(["convert", "--from", "glee", str(tmp_path / "bad.pth"), str(out)]) == 2
    assert "bad.pth" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and "partglee" in capsys.readouterr().out


def test_a_reader_that_has_enough_ends_the_command_quietly() -> None:
    """As `partglee data list | head -1` does: the pipe closes while there is more to write, or at the last flush."""
    for unbuffered in (["-u"], []):
        command = [sys.executable, *unbuffered, "-m", "partglee.cli", "data", "list"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stderr is not None
            process.stdout.close()
            error = process.stderr.read().decode()
            assert process.wait() == 141 and error == ""
