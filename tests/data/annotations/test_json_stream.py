"""Entry by entry must give what `json.load` gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partglee.data.annotations import json_stream
from partglee.data.annotations.json_stream import stream_lists


def collect(path: Path) -> dict[str, list]:
    lists: dict[str, list] = {}
    begun = set()
    for key, entry in stream_lists(path):
        if key not in begun:
            assert entry is None  # the list's beginning
            begun.add(key)
            lists[key] = []
        else:
            lists[key].append(entry)
    return lists


CONTENT = {
    "info": {"nested": [1, {"a": "]}"}]},
    "numbers": [1, 22, 333.25, -4e-3, 12345678901234],
    "text": ["é ü", 'with "quotes", and ] } brackets', "", "\\"],
    "empty": [],
    "deep": [{"a": [[1.5, 2], []]}, [None, True], {}],
    "last": 12,
}


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_equals_json_load_whatever_the_window(
    tmp_path: Path, chunk: int, indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    path = tmp_path / "file.json"
    path.write_text(json.dumps(CONTENT, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert collect(path) == {key: value for key, value in CONTENT.items() if isinstance(value, list)}


def test_empty_object(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(" {} ")
    assert collect(path) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file ends"),
        ("[1, 2]", "results file"),
        ('{"a": [1, 2', "cut off"),
        ('{"a": [1, 2}', "character 11.*expected , or ]"),
        ('{"a": [{"b": 1 "c": 2}]}', "character 15"),
        ('{"a" [1]}', "expected :"),
        ("{1: [1]}", "key in quotes"),
    ],
)
def test_malformed_files_are_located(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"(?s)broken.json.*{message}"):
        collect(path)


def test_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "file.json.gz"
    path.write_bytes(b"\x1f\x8b\x08\x00\xff\xfe")
    with pytest.raises(ValueError, match=r"UTF-8.*compressed"):
        collect(path)
