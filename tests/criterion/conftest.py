"""Makes ``criterion_samples`` of this folder importable and every test repeatable."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
