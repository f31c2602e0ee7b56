"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows a model: average <- decay * average + (1 - decay) * weights, after every optimiser step.

    Early steps count more, min(decay, (1 + n) / (10 + n)) after n of them, or else the first weights would stay in a
    short run's average. Saved buffers of floating point (batch-norm statistics) are averaged too.

    Args:
        model: the unwrapped model; its weights now are the first average.
        decay: in (0, 1).
    """

    def __init__(self, *, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"SOLVER.EMA_DECAY must lie in (0, 1), or be 0 for no average, got {decay}")
        self.model = model
        self.decay = decay
        self.num_updates = 0
        fixed = {name for name, p in model.named_parameters() if not p.requires_grad}
        moving = {n: v for n, v in model.state_dict().items() if v.is_floating_point() and n not in fixed}
        self._average = {name: value.clone() for name, value in moving.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the model's weights."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        current = self.model.state_dict()
        torch._foreach_lerp_(list(self._average.values()), [current[n] for n in self._average], 1 - decay)
        self.num_updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights under the model's keys; what never changes is the model's."""
        return {**self.model.state_dict(), **self._average}

    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: when a weight is missing.
        """
        missing = [name for name in self._average if name not in state]
        if missing:
            raise ValueError(f"the saved average lacks {missing[0]} ({len(missing)} weights); is it of another model?")
        for name, value in self._average.items():
            value.copy_(state[name])
        self.num_updates = num_updates

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        state = self.model.state_dict()
        current = {name: state[name].clone() for name in self._average}
        self._write(self._average)
        try:
            yield
        finally:
            self._write(current)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        current = self.model.state_dict()
        for name, value in values.items():
            current[name].copy_(value)
