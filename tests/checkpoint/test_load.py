"""Loading: the report, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from partglee.checkpoint import load_weights, read_weights, write_weights


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"a": nn.Linear(2, 3), "b": nn.Linear(3, 1)})


def test_round_trip(tmp_path: Path) -> None:
    model, other = net(), net()
    nn.init.zeros_(other["a"].weight)
    write_weights(model.state_dict(), tmp_path / "w.safetensors")
    report = load_weights(other, tmp_path / "w.safetensors", verbose=False)
    assert report.complete and len(report.loaded) == 4
    assert torch.equal(other["a"].weight, model["a"].weight)


def test_missing_is_an_error_and_changes_nothing() -> None:
    model = net()
    state = {"a.weight": torch.zeros(3, 2), "a.bias": torch.zeros(3)}
    with pytest.raises(ValueError, match=r"missing 2: b\.weight, b\.bias.*allow_missing|b\.weight"):
        load_weights(model, state)
    assert model["a"].weight.abs().sum() > 0
    assert not load_weights(model, state, allow_missing=["b."], verbose=False).complete
    assert model["a"].weight.abs().sum() == 0


def test_wrong_shape_shows_both() -> None:
    state = {k: v for k, v in net().state_dict().items()}
    state["a.weight"] = torch.zeros(5, 2)
    with pytest.raises(
        ValueError, match=r"a\.weight is \[3, 2\] here, \[5, 2\] in the file(.|\n)*another architecture"
    ):
        load_weights(net(), state)


def test_unexpected_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    report = load_weights(net(), {**net().state_dict(), "c.weight": torch.zeros(1)})
    assert report.unexpected == ("c.weight",)
    assert "loaded 4 of 4" in capsys.readouterr().out


def test_upstream_keys_get_advice() -> None:
    with pytest.raises(ValueError, match="partglee convert"):
        load_weights(net(), {"object_predictor.category_embed": torch.zeros(1)})


def test_write_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "w.safetensors"
    write_weights({"x": torch.zeros(2)}, file)
    with pytest.raises(AttributeError):
        write_weights({"x": None}, file)  # type: ignore[dict-item]
    assert read_weights(file)["x"].tolist() == [0, 0]
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


def test_nan_weights_are_refused() -> None:
    state = {k: v.clone() for k, v in net().state_dict().items()}
    state["b.bias"][0] = float("nan")
    with pytest.raises(ValueError, match=r"b\.bias holds NaN"):
        load_weights(net(), state)
