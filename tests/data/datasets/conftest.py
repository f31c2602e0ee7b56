"""A root of data sets of the test's own, and batches of them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from partglee.config import get_cfg
from partglee.data.build import build_train_loader
from partglee.structures import TrainingBatch


@pytest.fixture
def data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that registered names read."""
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    return tmp_path


@pytest.fixture
def first_batch(data_root: Path) -> Callable[[str], TrainingBatch]:
    """The first training batch, of two images, of a registered data set."""

    def draw(name: str, size: int = 2) -> TrainingBatch:
        cfg = get_cfg()
        cfg.DATASETS.TRAIN = [name]
        cfg.SOLVER.BATCH_SIZE = size
        cfg.DATALOADER.NUM_WORKERS = 0
        cfg.INPUT.TRAIN.MODE = "resize"
        cfg.INPUT.TRAIN.SHORT_SIDES = [64]
        cfg.INPUT.TRAIN.MAX_SIDE = 128
        cfg.INPUT.TRAIN.MIN_AREA = 1.0
        return next(islice(build_train_loader(cfg), 1))

    return draw
