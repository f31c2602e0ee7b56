"""The tools that no other test runs, on something small."""

from __future__ import annotations

import json
import re
from pathlib import Path

import benchmark_questions
import benchmark_train
import measure_names
import pytest

from partglee.criterion.matcher import Matcher, PendingMatches
from partglee.testing import TOY_VOCABULARY, register_toy


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


@pytest.mark.parametrize("known", [True, False])
def test_moves_of_scores_are_told(known: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing moves among the names that queries are selected by; else what is asked for chooses the queries."""
    register_toy("toy_measured", num_images=2, size=(320, 320))
    by = "; ".join(TOY_VOCABULARY.object_names) if known else ""
    assert (
        measure_names.main(["partglee-tiny", "toy_measured", "--absent", "1", "MODEL.OBJECT_DECODER.SELECTION", by])
        == 0
    )
    told = capsys.readouterr().out
    row = re.search(r"\| all \| (\d+) \| [\d.]+ \| ([\d.]+) \|", told)
    assert row and int(row[1]) >= 2 and (float(row[2]) == 0) == known, told
    assert re.search(r"1 names that are not there: [\d.]+ rows per photo", told)
