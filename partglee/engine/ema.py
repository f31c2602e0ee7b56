"""An exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Follows a model: average <- decay * average + (1 - decay) * weights, after every optimiser step.

    Early steps count more, min(decay, (1 + n) / (10 + n)) after n of them, or else the first weights would stay in a
    short run's average. Buffers (batch-norm statistics) are copied.

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
        self._parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
        self._moving = [n for n, p in model.named_parameters() if p.requires_grad]

    @torch.no_grad()
    def update(self) -> None:
        """Take one step towards the model's weights."""
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        current = dict(self.model.named_parameters())
        torch._foreach_lerp_(
            [self._parameters[n] for n in self._moving], [current[n].detach() for n in self._moving], 1 - decay
        )
        self.num_updates += 1

    def state_dict(self) -> dict[str, Tensor]:
        """The averaged weights under the model's keys, buffers as they are now."""
        return {**self.model.state_dict(), **self._parameters}

    def load_state_dict(self, state: Mapping[str, Tensor], num_updates: int) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            ValueError: when a weight is missing.
        """
        missing = [name for name in self._parameters if name not in state]
        if missing:
            raise ValueError(f"the saved average lacks {missing[0]} ({len(missing)} weights); is it of another model?")
        for name, value in self._parameters.items():
            value.copy_(state[name])
        self.num_updates = num_updates

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights."""
        current = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self._write(self._parameters)
        try:
            yield
        finally:
            self._write(current)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])
