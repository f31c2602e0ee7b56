"""200 kills at random moments, with 0 and 2 workers: every run that is resumed ends as the one that nobody killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from kill_many import same

KILLS = 200


def killed(folder: Path, kills: int, workers: int) -> None:
    script = Path(__file__).with_name("kill_many.py")
    done = subprocess.run(
        [sys.executable, str(script), str(folder), str(kills), str(workers), "1"],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert sum(told["kills"].values()) == kills and told["finished"] >= 1 and not told["different"], told


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("workers", [0, 2])
def test_every_resume_is_bit_for_bit_the_run_that_nobody_killed(tmp_path: Path, workers: int) -> None:
    killed(tmp_path, KILLS // 2, workers)


def test_a_difference_is_noticed() -> None:
    whole = ([{"iteration": 1, "loss/total": 2.0}], {"a": torch.zeros(2)}, {"a": torch.zeros(2)})
    assert same(whole, ([{"iteration": 1, "loss/total": 2.0}], {"a": torch.zeros(2)}, {"a": torch.zeros(2)}))
    assert not same(whole, ([{"iteration": 1, "loss/total": 2.0000001}], *whole[1:]))
    assert not same(whole, (*whole[:2], {"a": torch.tensor([0.0, 1e-30])}))
    assert not same(whole, (*whole[:2], {"b": torch.zeros(2)}))
