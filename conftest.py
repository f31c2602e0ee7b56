"""Fixtures that the tests of the package and those of projects share."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from partglee.data import catalog
from partglee.engine import Predictor
from partglee.modeling import PartGLEE
from partglee.testing import tiny_model, tiny_predictor, write_name_table

ROOT = Path(__file__).resolve().parent
for _project in sorted((ROOT / "projects").glob("*/")):  # importable as they stand; their tests' helpers too
    sys.path += [str(_project), str(_project / "tests")]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES = ["dog", "dog head", "dog tail", "person", "person arm", "person lower leg", "cat"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """GPU and detectron2 tests skip by name where there is none."""
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="no NVIDIA GPU here"))
        if "detectron2" in item.keywords and importlib.util.find_spec("detectron2") is None:
            item.add_marker(pytest.mark.skip(reason="detectron2 is not installed"))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Small sums come out the same in every process, and threads of a busy machine do not wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A run in a test sets the project's logger up for its own console, which is closed after the test."""
    logger = logging.getLogger("partglee")
    level, propagate, handlers = logger.level, logger.propagate, list(logger.handlers)
    yield
    logger.level, logger.propagate, logger.handlers = level, propagate, handlers


@pytest.fixture(autouse=True)
def _own_data_sets() -> Iterator[None]:
    """What a test registers is gone after it: no name is taken for the tests that come later."""
    known, described = dict(catalog._DATASETS), set(catalog._custom)
    yield
    for now, before in ((catalog._DATASETS, known), (catalog._custom, described)):
        now.clear()
        now.update(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """Real data and golden numbers beside the checkout; tests that need them skip without."""
    folder = Path(os.environ.get("PARTGLEE_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("no folder of shared data and golden numbers beside the checkout")
    return folder


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A name table for the tiny model."""
    return write_name_table(tmp_path_factory.mktemp("names") / "names.npz", NAMES)


@pytest.fixture(scope="session")
def tiny(table: Path) -> PartGLEE:
    """The tiny model with filled weights; tests must not change it."""
    return tiny_model(table=table)


@pytest.fixture(scope="session")
def predictor(table: Path) -> Predictor:
    """A predictor on small images; tests must not change it."""
    return tiny_predictor(table)


@pytest.fixture(scope="session")
def parity_tool() -> ModuleType:
    """tools/check_parity.py as a module."""
    return importlib.import_module("check_parity")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A Chromium of the system, driven by playwright."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()
