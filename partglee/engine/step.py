"""What a run asks of its batches and of its step, whatever the model: all of a model's own is inside the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class Batch(Protocol):
    """What a run asks of a batch; what else is in it is between the loader and the step."""

    @property
    def source(self) -> str: ...  # data set name, for logs alone

    @property
    def files(self) -> Sequence[str]: ...  # of the images, for logs and error messages alone

    @property
    def unreadable(self) -> Sequence[tuple[str, str]]: ...  # (file, reason) of images that others took the place of


Batches = Callable[[int], Iterable[Any]]
"""Optimiser step to start at -> an iterable of batches that does not end."""


class StepOutput(NamedTuple):
    """One pass over one batch."""

    loss: Tensor  # () to minimise; connected to at least one weight, also when nothing is supervised
    terms: dict[str, Tensor]  # `level/term` -> (), detached, `total` among them; empty when nothing is supervised


class ReachEverything(nn.Module):
    """The same step, its loss connected to all that the model gives: processes must exchange gradients of the same
    units in a step, also where one of them has nothing to learn about a level."""

    def __init__(self, model: nn.Module, step: nn.Module) -> None:
        super().__init__()
        self.step = step
        self._given: list[Any] = []
        model.register_forward_hook(lambda module, inputs, given: self._given.append(given))

    def forward(self, batch: Any) -> StepOutput:
        self._given.clear()
        output: StepOutput = self.step(batch)
        loss = output.loss
        for tensor in tree_leaves(self._given):
            if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.requires_grad:
                loss = loss + 0 * tensor.sum()
        self._given.clear()
        return output._replace(loss=loss)
