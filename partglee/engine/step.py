"""From a training batch to one number to minimise, as one module.

What data-parallel wrappers see is the loss itself, so they know the parameters that no loss reaches, whatever the batch
supervises.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from partglee.criterion import HierarchicalCriterion, summarise, total
from partglee.engine.trainer import StepOutput
from partglee.modeling import PartGLEE
from partglee.structures import BatchNames, TextTokens, TrainingBatch

_NAMES_KEPT = 64


class TrainingStep(nn.Module):
    """The model and its criterion.

    Args:
        model: in training mode.
        criterion: of `build_criterion`.
    """

    def __init__(self, *, model: PartGLEE, criterion: HierarchicalCriterion) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self._tokens: OrderedDict[BatchNames, TextTokens] = OrderedDict()

    def forward(self, batch: TrainingBatch) -> StepOutput:
        """Losses of one batch; everything in it may still be on the CPU."""
        device = self.model.device
        targets = [target.to(device) for target in batch.targets]
        supervision = tree_map(lambda x: x.to(device) if isinstance(x, Tensor) else x, batch.supervision)
        images = self.model.batch(batch.images, batch.canvas)
        output = self.model(images, self.tokens(batch), targets)
        losses = self.criterion(output, targets, supervision)
        loss = total(losses.values()) if losses else self._nothing()
        return StepOutput(loss, summarise(losses))

    def tokens(self, batch: TrainingBatch) -> TextTokens:
        """The batch's names or expressions, tokenised; a vocabulary that comes again is looked up."""
        encoder = self.model.text_encoder
        if batch.expressions is not None:
            return encoder.tokenize_expressions(batch.expressions)
        if batch.names is None:
            raise ValueError(f"a batch of {batch.source or 'unknown source'} has neither names nor expressions")
        if batch.names not in self._tokens:
            self._tokens[batch.names] = encoder.tokenize(batch.names)
            if len(self._tokens) > _NAMES_KEPT:
                self._tokens.popitem(last=False)
        self._tokens.move_to_end(batch.names)
        return self._tokens[batch.names]

    def _nothing(self) -> Tensor:
        """Zero, connected to one weight: a process without a loss still takes part in averaging the gradients."""
        return torch.zeros((), device=self.model.device) * self.model.object_decoder.heads.class_proj.sum()
