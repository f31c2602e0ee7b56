"""A program may end while a loader is half read: its workers end with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from partglee.config import load_config
from partglee.data.build import build_test_loader, build_train_loader
from partglee.testing import register_toy

cfg = load_config("tiny", [])
register_toy("toy_at_exit", size=(64, 64))
cfg.DATASETS.TRAIN, cfg.INPUT.TRAIN.SIZE = ["toy_at_exit"], [64, 64]
cfg.SOLVER.BATCH_SIZE, cfg.DATALOADER.NUM_WORKERS = 2, 1
kept = iter(build_train_loader(cfg) if sys.argv[1] == "train" else build_test_loader(cfg, "toy_at_exit"))
next(kept)
print("read")
"""


@pytest.mark.parametrize("kind", ["train", "test"])
def test_a_program_ends_while_a_loader_is_open(kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, kind], capture_output=True, text=True, timeout=240, check=False
    )
    assert (done.returncode, done.stdout) == (0, "read\n"), done.stderr
