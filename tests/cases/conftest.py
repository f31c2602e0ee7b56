"""Inputs that failed once: small files as they are, and large ones made again."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

MADE = {
    "deep.json": "[" * 200_000,
    "big_int.json": '{"images":[{"id":' + "9" * 5000 + '}],"annotations":[],"categories":[]}',
    "deep.jsonl": "[" * 100_000 + "\n",
    "deep_ann.json": '{"images":' + "[" * 100_000 + "]" * 100_000 + ',"annotations":[],"categories":[]}',
    "deep_c.yaml": "MODEL: " + "[" * 100_000 + "]" * 100_000,
}


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of cases, which tests must not change: one for each report, and `damaged`."""
    folder = tmp_path_factory.mktemp("cases") / "cases"
    shutil.copytree(Path(__file__).with_name("inputs"), folder)
    for name, text in MADE.items():
        (folder / "damaged" / name).write_text(text)
    return folder
