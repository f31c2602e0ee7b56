"""Means of two weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from partglee.checkpoint import read_metadata, read_weights, write_weights
from partglee.engine.mixing import mix_weights


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    write_weights({"a": torch.tensor([0.0, 4.0]), "n": torch.tensor(1)}, first, {"iteration": "1"})
    write_weights({"a": torch.tensor([8.0, 4.0]), "n": torch.tensor(3)}, second, {"iteration": "2"})
    return first, second


@pytest.mark.parametrize(("share", "wanted"), [(0.0, [0.0, 4.0]), (0.25, [2.0, 4.0]), (1.0, [8.0, 4.0])])
def test_the_mean(files: tuple[Path, Path], tmp_path: Path, share: float, wanted: list[float]) -> None:
    out = mix_weights(*files, tmp_path / "mixed.safetensors", share=share)
    state = read_weights(out)
    assert state["a"].tolist() == wanted and int(state["n"]) == 3
    assert read_metadata(out)["iteration"] == "2"


def test_files_that_do_not_fit(files: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = files
    out = tmp_path / "mixed.safetensors"
    with pytest.raises(ValueError, match="share must be from 0 to 1"):
        mix_weights(first, second, out, share=1.5)
    write_weights({"a": torch.zeros(3), "n": torch.tensor(1)}, second, {})
    with pytest.raises(ValueError, match=r"a is \(2,\) in .* and \(3,\)"):
        mix_weights(first, second, out)
    write_weights({"a": torch.zeros(2)}, second, {})
    with pytest.raises(ValueError, match=r"n is only in .*first"):
        mix_weights(first, second, out)
    assert not out.exists()


def test_what_only_training_reads_comes_from_the_second(files: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = files
    further = {"text_encoder.teacher.x": torch.ones(2), "object_decoder.dense_head.norm.bias": torch.zeros(1)}
    write_weights({**read_weights(first), **further}, first, {})
    write_weights({**read_weights(second), "object_decoder.dense_head.norm.bias": torch.ones(3)}, second, {})
    mixed = read_weights(mix_weights(first, second, tmp_path / "mixed.safetensors", share=0.25))
    assert sorted(mixed) == ["a", "n", "object_decoder.dense_head.norm.bias"]
    assert mixed["a"].tolist() == [2.0, 4.0] and mixed["object_decoder.dense_head.norm.bias"].tolist() == [1, 1, 1]
