"""Everything in this folder needs the real detectron2; `make test-detectron2` has it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
THERE = importlib.util.find_spec("detectron2") is not None
if THERE:
    import old_libraries  # noqa: F401  gives old names back
elif os.environ.get("PARTGLEE_NEEDS_DETECTRON2"):
    raise RuntimeError("detectron2 is not installed here, and must be; `make test-detectron2` sets it up")
collect_ignore_glob = [] if THERE else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == HERE:
            item.add_marker(pytest.mark.detectron2)


@pytest.fixture
def catalogs() -> Iterator[None]:
    """What a test registers in detectron2 and here is forgotten."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    from partglee.data import catalog

    theirs, ours = set(DatasetCatalog.list()), dict(catalog._DATASETS)
    listed = set(MetadataCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - theirs:
        DatasetCatalog.remove(name)
    for name in set(MetadataCatalog.list()) - listed:
        MetadataCatalog.remove(name)
    catalog._DATASETS.clear()
    catalog._DATASETS.update(ours)


@pytest.fixture(scope="session")
def photo() -> np.ndarray:
    """(60, 90, 3) uint8 RGB."""
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def tiny_weights(table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with filled weights as a file that says its configuration."""
    from partglee.checkpoint import write_weights
    from partglee.config import load_config
    from partglee.engine.weight_files import CONFIG_TEXT
    from partglee.testing import tiny_model

    places = ["MODEL.TEXT.TABLE.FILE", str(table), "INPUT.TEST.SHORT_SIDE", 96, "INPUT.TEST.MAX_SIDE", 160]
    cfg = load_config("tiny", [*places, "TEST.SCORE_THRESHOLD", 0.02])
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_weights(tiny_model(table=table).state_dict(), file, {CONFIG_TEXT: cfg.dump()})
    return file


@pytest.fixture
def cfg(tiny_weights: Path, tmp_path: Path, catalogs: None):
    """A configuration of detectron2 for the tiny model."""
    from detectron2.config import get_cfg
    from plugin_samples import NAMES

    from partglee.integrations.detectron2 import add_partglee_config

    made = get_cfg()
    add_partglee_config(made, weights=str(tiny_weights), vocabulary=NAMES)
    made.MODEL.DEVICE, made.OUTPUT_DIR = "cpu", str(tmp_path / "run")
    made.DATALOADER.NUM_WORKERS = 0
    return made


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
