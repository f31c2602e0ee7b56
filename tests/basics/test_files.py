"""Files appear whole or not at all."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partglee.basics.files import read_json, whole_file, write_jpeg, write_json
from partglee.checkpoint import read_metadata, write_weights
from partglee.text.cache import TextCache


def test_a_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with whole_file(path) as beside:
        beside.write_text("new")
        assert beside.parent == path.parent and beside.suffix == path.suffix and not path.exists()
    assert path.read_text() == "new" and list(path.parent.iterdir()) == [path]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="in the middle"), whole_file(path) as beside:
        beside.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_the_file_is_as_open_to_others_as_any(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        with whole_file(tmp_path / "file") as beside:
            beside.write_text("x")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_json(tmp_path: Path) -> None:
    write_json({"a": [1, 2]}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == '{"a":[1,2]}' and read_json(tmp_path / "a.json", "file") == {
        "a": [1, 2]
    }
    with pytest.raises(ValueError, match=r"my file .*b\.json does not exist"):
        read_json(tmp_path / "b.json", "my file")
    (tmp_path / "b.json").write_text('{"a":')
    with pytest.raises(ValueError, match=r"my file .*b\.json is not readable JSON"):
        read_json(tmp_path / "b.json", "my file")
    with pytest.raises(TypeError):
        write_json({"a": object()}, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json", "file") == {"a": [1, 2]}


def test_jpeg_of_any_mode(tmp_path: Path) -> None:
    write_jpeg(Image.new("RGBA", (3, 2), (255, 0, 0, 128)), tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (3, 2))
        assert np.abs(np.asarray(picture).astype(int) - (255, 0, 0)).max() < 4


def test_weights_and_text_states_appear_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that dies in the middle: the earlier file stays, nothing lies beside it."""
    cache = TextCache(directory=tmp_path)
    cache.open("clip")
    cache.add({"dog": torch.ones(2, 3)})
    write_weights({"a": torch.zeros(2)}, tmp_path / "w.safetensors", {"note": "first"})
    before = sorted(tmp_path.iterdir())

    def die(tensors: object, file: str | Path, **rest: object) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("partglee.checkpoint.files.save_file", die)
    monkeypatch.setattr("partglee.text.cache.save_file", die)
    with pytest.raises(OSError, match="no space"):
        write_weights({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    with pytest.raises(OSError, match="no space"):
        cache.add({"cat": torch.ones(2, 3)})
    assert sorted(tmp_path.iterdir()) == before == [tmp_path / "clip.safetensors", tmp_path / "w.safetensors"]
    assert read_metadata(tmp_path / "w.safetensors")["note"] == "first"
