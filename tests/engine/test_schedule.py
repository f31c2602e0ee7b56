"""Learning rates over a run, against the formulas written out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from partglee.config import load_config
from partglee.engine.schedule import Multiplier, build_schedule


def schedule(*overrides: Any) -> Multiplier:
    return build_schedule(load_config("joint_r50", overrides))


def test_released_schedule() -> None:
    at = schedule()
    assert at(0) == pytest.approx(0.01) and at(50) == pytest.approx(0.505)
    assert at(99) == pytest.approx(0.01 + 0.99 * 0.99) and at(100) == 1
    assert at(59_999) == 1 and at(60_000) == pytest.approx(0.1) and at(89_999) == pytest.approx(0.1)


def test_every_fall_is_where_it_should_be() -> None:
    at = schedule("SOLVER.MAX_ITER", 10, "SOLVER.STEPS", [3, 7], "SOLVER.WARMUP_ITERS", 0)
    assert [at(i) for i in range(10)] == pytest.approx([1] * 3 + [0.1] * 4 + [0.01] * 3)


def test_cosine() -> None:
    cosine = ["SOLVER.SCHEDULE", "cosine", "SOLVER.MAX_ITER", 200, "SOLVER.FINAL_FACTOR", 0.1]
    at = schedule(*cosine, "SOLVER.WARMUP_ITERS", 20, "SOLVER.WARMUP_FACTOR", 0.0)
    for step in range(200):
        expected = 0.1 + 0.9 * (1 + math.cos(math.pi * step / 200)) / 2
        assert at(step) == pytest.approx(expected * min(1, step / 20))


def test_short_runs() -> None:
    """Falls behind the end never come, and a warm-up longer than the run is cut off."""
    at = schedule("SOLVER.MAX_ITER", 2)
    assert at(0) == pytest.approx(0.01) and at(1) == pytest.approx(0.0199)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.SCHEDULE", "poly"], "step or cosine.*'poly'"),
        (["SOLVER.STEPS", [7, 3]], "SOLVER.STEPS must rise"),
        (["SOLVER.STEPS", [0]], "SOLVER.STEPS must rise"),
        (["SOLVER.WARMUP_ITERS", -1], "negative"),
    ],
)
def test_bad_values(overrides: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        schedule(*overrides)
