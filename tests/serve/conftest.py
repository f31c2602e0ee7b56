"""A server around a tiny filled model: its answers mean nothing, and are always the same."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from partglee.engine import Predictor
from partglee.testing import tiny_predictor, write_name_table

pytest.importorskip("fastapi", reason="the extra `serve` is not installed")

NAMES = (
    "person", "person:arm", "person:lower leg", "dog", "dog:head", "dog:tail", "cat", "arm", "head", "tail",
    "lower leg",
)  # fmt: skip


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    table = write_name_table(tmp_path_factory.mktemp("table") / "names.npz", NAMES)
    return tiny_predictor(table)


@pytest.fixture(scope="session")
def image() -> Callable[..., bytes]:
    """Bytes of an image that is different for each number."""

    def encoded(number: int = 0, *, size: tuple[int, int] = (90, 120), kind: str = "PNG") -> bytes:
        from PIL import Image

        pixels = np.random.default_rng(number).integers(0, 255, (*size, 3), dtype=np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, format=kind)
        return stream.getvalue()

    return encoded


@pytest.fixture
def client(predictor: Predictor) -> Iterator[object]:
    from fastapi.testclient import TestClient

    from partglee.serve import Limits, create_app
    from partglee.structures import Vocabulary

    limits = Limits(upload_bytes=1_000_000, pixels=200_000, objects=50, parts=60, seconds=60)
    vocabulary = Vocabulary({"person": ["arm"], "dog": []})
    with TestClient(create_app(predictor, name="tiny", vocabulary=vocabulary, limits=limits)) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path
