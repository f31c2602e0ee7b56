"""The tools that no other test runs, on something small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import benchmark_questions
import benchmark_train
import pytest

from partglee.criterion.matcher import Matcher, PendingMatches


def test_the_parts_of_a_training_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for owner, name in ((Matcher, "start"), (PendingMatches, "result")):  # wrapped by the tool; put back afterwards
        monkeypatch.setattr(owner, name, getattr(owner, name))
    file = tmp_path / "times.json"
    small = ["--size", "64x64", "--batch", "1", "--rounds", "1", "--device", "cpu", "--ops", "reference"]
    values = ["MODEL.TEXT.TABLE.WIDTH", "16", "DATALOADER.NUM_WORKERS", "0"]
    monkeypatch.setattr("sys.argv", ["benchmark_train.py", *small, "--output", str(file), *values])
    benchmark_train.main()
    (sample,) = json.loads(file.read_text())["candidates"]["reference"]
    assert list(sample) == list(benchmark_train.PARTS)
    for part in ("data", "forward", "matching", "losses", "backward", "optimiser"):
        assert sample[part] > 0, part


def test_ten_questions_are_timed_against_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["partglee", "partglee-tiny", "--repeat", "1", "--size", "48x64", "--threads", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark_questions.py", *arguments])
    benchmark_questions.main()
    told = capsys.readouterr().out
    assert re.search(r"partglee-tiny +processor: one \d+ ms .*, ten \d+ ms .*, ratio \d", told)
