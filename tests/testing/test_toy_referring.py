"""Toy scenes with expressions: endless for training, fixed for validation, the same in every process."""

from __future__ import annotations

import pickle
from collections import Counter
from itertools import islice

import numpy as np
import pytest

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.build import build_train_loader
from partglee.data.expression_rules import ExpressionRules
from partglee.testing import register_toy_referring
from partglee.testing.toy import TRAIN_SEED, VAL_SEED


def test_both_splits() -> None:
    train, val = register_toy_referring()
    assert (train.name, val.name) == ("toy_referring_train", "toy_referring_val") and val.evaluator == "referring"
    assert train.options["seed"] == TRAIN_SEED != VAL_SEED == val.options["seed"]
    seen, unseen = get_dataset("toy_referring_train").read(), get_dataset("toy_referring_val").read()
    assert len(seen) == 1_000_000 and len(unseen) == 400
    kinds: Counter[int] = Counter()
    for index in range(60):
        record = unseen[index]
        assert record.pixels is not None and record.pixels.shape == (128, 128, 3)
        kinds.update(min(len(record.targets(said)), 2) for said in record.expressions)
    assert min(kinds[kind] for kind in (0, 1, 2)) >= 0.15 * kinds.total()
    assert not any((seen[i].pixels == unseen[i].pixels).all() for i in range(5))  # type: ignore[union-attr]


def test_a_copy_in_a_worker_draws_the_same() -> None:
    register_toy_referring("toy_copied", rules=ExpressionRules(parts=0.5, seed=4), size=(64, 96), num_val=3)
    records = get_dataset("toy_copied_val").read()
    copy = pickle.loads(pickle.dumps(records))
    for index in range(3):
        one, other = records[index], copy[index]
        assert one == other and np.array_equal(one.pixels, other.pixels)
        assert one.expressions and (one.height, one.width) == (64, 96)
    assert any(said.parts for index in range(3) for said in records[index].expressions)
    with pytest.raises(IndexError):
        records[3]


def test_one_target_training_takes_what_it_can_use() -> None:
    """PartGLEE's own batches: one expression and one object for each image."""
    register_toy_referring()
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ["toy_referring_train"]
    cfg.SOLVER.BATCH_SIZE, cfg.DATALOADER.NUM_WORKERS = 4, 0
    cfg.INPUT.TRAIN.SIZE, cfg.INPUT.TRAIN.SCALE = [128, 128], [1.0, 1.0]
    for batch in islice(build_train_loader(cfg), 3):
        assert batch.names is None and len(batch.expressions or ()) == 4 and not batch.unreadable
        assert all(len(target.objects) == 1 for target in batch.targets)
