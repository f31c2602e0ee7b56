"""docs/own_data.md, followed to the letter: from photos without annotations to predictions of a model of one's own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from partglee.cli import main

ROOT = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```(bash|yaml)\n(.*?)^```", (ROOT / "docs" / "own_data.md").read_text("utf-8"), re.M | re.S)
SMALL = shlex.split(  # behind each command that trains; the page's own values stand before them
    "SOLVER.MAX_ITER 1 SOLVER.BATCH_SIZE 1 CRITERION.NUM_POINTS 16 DATALOADER.NUM_WORKERS 0 "
    "INPUT.TRAIN.SIZE '[64, 64]' INPUT.TEST.SHORT_SIDE 64"
)


def test_the_page_from_its_first_command_to_its_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "data"
    (data / "my_parts" / "images").mkdir(parents=True)
    for name in ("officer", "astronaut"):
        with Image.open(ROOT / "docs" / "photos" / f"{name}.jpg") as photo:
            for copy in range(5):
                photo.resize((128, 144)).save(data / "my_parts" / "images" / f"{name}{copy}.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PARTGLEE_DATASETS", "")  # put back afterwards
    monkeypatch.chdir(tmp_path)
    ran = []
    for language, text in BLOCKS:
        if language == "yaml":
            Path("my_parts.yaml").write_text(text, encoding="utf-8")
            continue
        for line in text.splitlines():
            words = [os.path.expanduser(word) for word in shlex.split(line, comments=True)]
            if words[0] == "export":
                name, value = words[1].split("=")
                monkeypatch.setenv(name, os.path.expanduser(value))
            elif words[0] == "cd":
                monkeypatch.chdir(words[1])
            elif words[0] == "cp":
                shutil.copyfile(words[1], words[2])
            else:
                assert words[0] == "partglee", line
                assert main([*words[1:], *(SMALL if words[1] == "train" else ())]) == 0, line
                ran.append(words[1])
    assert ran == ["predict", "data", "data", "data", "train", "train", "train", "train", "export", "predict"]
    names = {one["name"] for one in json.loads((data / "my_parts/annotations.json").read_text())["categories"]}
    assert {"person", "person:hair"} <= names
    assert (data / "out" / "predictions.jsonl").read_text().count("\n") == 10
