"""The benchmark compares what it says: theirs with ours in turns, in one row of a table."""

from __future__ import annotations

import argparse

import pytest

pytest.importorskip("transformers")

import benchmark_msda
from partglee_msda import replacements

ARGS = argparse.Namespace(rounds=3, seconds=0.01, tries=1, clock="cpu")


@pytest.mark.parametrize("backward", [False, True])
def test_a_row(backward: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are given, calls are made: one of each pair reaches our operator."""
    taken = iter([0.03, 0.002, 0.06, 0.001, 0.04, 0.004])
    ours: list[bool] = []
    right = replacements.attend
    monkeypatch.setattr(replacements, "attend", lambda *given: ours.append(True) or right(*given))

    def sample(call: benchmark_msda.Callable[[], object], *_: object) -> tuple[float, float]:
        ours.append(False)
        call()
        return next(taken), 0.0

    monkeypatch.setattr(benchmark_msda, "sample", sample)
    row = benchmark_msda.compare("operator", benchmark_msda.operator_call("tiny", backward), "a pass", ARGS)
    *cells, difference = (cell.strip() for cell in row.strip("|").split("|"))
    assert cells == ["operator", "a pass", "40.0", "75%", "2.0", "150%", "20.00x"]
    assert 0 < float(difference) < 1e-4
    assert ours == [True, *[False, False, True] * 3]


def test_a_wrong_operator_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    right = replacements.attend
    monkeypatch.setattr(replacements, "attend", lambda *given: 2 * right(*given))
    row = benchmark_msda.compare("operator", benchmark_msda.operator_call("tiny", False), "fwd", ARGS)
    assert float(row.strip("|").split("|")[-1]) == 1.0


@pytest.mark.parametrize("text", ["640", "640x", "axb", "-1x3"])
def test_a_size_that_is_none(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="expected HEIGHTxWIDTH"):
        benchmark_msda.size(text)
