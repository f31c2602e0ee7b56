"""The training step of models that answer sentences with masks, whatever they say and whatever their criterion."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from partglee.engine.step import StepOutput
from partglee.modeling.photo_model import SentenceModel, Words
from partglee.structures import ReferringBatch


class ExpressionStep(nn.Module):
    """The model and its criterion.

    Args:
        model: in training mode.
        criterion: (what the model says, masks (E, H, W), no_target (E,)) -> weighted terms by name.
        name: what the terms stand under in the log.
    """

    def __init__(self, *, model: SentenceModel, criterion: nn.Module, name: str) -> None:
        super().__init__()
        self.model = model
        self.criterion = criterion
        self.name = name

    def forward(self, batch: ReferringBatch) -> StepOutput:
        """Losses of one batch; everything in it may still be on the CPU.

        Raises:
            ValueError: for a sentence that the text encoder cannot read, with its image.
        """
        model, device = self.model, self.model.device
        if not batch.expressions:  # a process whose images say nothing still takes part in averaging the gradients
            return StepOutput(model.anchor.sum() * 0, {})
        images = model.batch(batch.images, batch.canvas)
        said = model(images, read_words(model, batch), batch.image_of.to(device))
        losses: dict[str, Tensor] = self.criterion(said, batch.masks.to(device), batch.no_target.to(device))
        loss = torch.stack(list(losses.values())).sum()
        terms = {f"{self.name}/{name}": value.detach() for name, value in losses.items()}
        return StepOutput(loss, {**terms, "total": loss.detach()})


def read_words(model: SentenceModel, batch: ReferringBatch) -> Words:
    """The sentences of a batch; an error names the image of the first one that cannot be read."""
    try:
        return model.read(batch.expressions)
    except (ValueError, TypeError):
        for text, row in zip(batch.expressions, batch.image_of.tolist(), strict=True):
            try:
                model.text_encoder.tokenize([text], context_length=model.padded_to)
            except (ValueError, TypeError) as error:
                raise ValueError(f"image '{batch.files[row]}', sentence {text[:60]!a}: {error}") from error
        raise
