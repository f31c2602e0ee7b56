"""The moving average, against a loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from partglee.engine.ema import WeightAverage


def test_against_a_loop() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    model[0].bias.requires_grad_(False)
    average = WeightAverage(model=model, decay=0.8)
    expected, mean = model[0].weight.detach().clone(), torch.zeros(2)
    for n in range(12):
        with torch.no_grad():
            model[0].weight += torch.randn(2, 3)
            model[1].running_mean += 1
            model[1].num_batches_tracked += 1
        average.update()
        decay = min(0.8, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
        mean = decay * mean + (1 - decay) * model[1].running_mean
    state = average.state_dict()
    torch.testing.assert_close(state["0.weight"], expected)
    assert state.keys() == model.state_dict().keys()
    torch.testing.assert_close(state["1.running_mean"], mean)
    assert state["1.num_batches_tracked"] == 12  # the model's own


def test_applied_and_taken_back() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model=model, decay=0.5)
    first = model.weight.detach().clone()
    with torch.no_grad():
        model.weight += 1
    with pytest.raises(RuntimeError, match="inside"), average.applied():
        assert torch.equal(model.weight, first)
        raise RuntimeError("inside")
    assert torch.equal(model.weight, first + 1)


def test_a_foreign_state_is_refused() -> None:
    average = WeightAverage(model=nn.Linear(2, 2), decay=0.5)
    with pytest.raises(ValueError, match="lacks bias"):
        average.load_state_dict({"weight": torch.zeros(2, 2)}, 1)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2])
def test_bad_decay(decay: float) -> None:
    with pytest.raises(ValueError, match="EMA_DECAY"):
        WeightAverage(model=nn.Linear(1, 1), decay=decay)
