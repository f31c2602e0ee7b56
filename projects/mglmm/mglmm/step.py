"""The training step: conversations to the two models' inputs, losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mglmm.chat import Chat
from mglmm.data.loader import ConversationBatch, Sample
from mglmm.feature_cache import FeatureCache
from mglmm.masks import MaskDecoder
from mglmm.masks.base import map_tensors, stack_features
from mglmm.model import MGLMM, MaskTargets
from partglee.engine.image_input import InputImage
from partglee.engine.step import StepOutput
from partglee.structures import ImageBatch


class ConversationStep(nn.Module):
    """The model and what it reads.

    Args:
        cache: of the mask decoder's features.
    """

    def __init__(self, *, model: MGLMM, chat: Chat, cache: FeatureCache | None = None) -> None:
        super().__init__()
        self.model = model
        self.chat = chat
        self.cache = cache

    def forward(self, batch: ConversationBatch) -> StepOutput:
        """Losses of one batch, still on the CPU.

        Raises:
            ValueError: for a conversation that cannot be read, with its name.
        """
        model = self.model
        chat = self.chat.encode([sample.conversation for sample in batch.samples]).to(model.device)
        read = [model.masks.image_input.read(sample.conversation.images[0]) for sample in batch.samples]
        images = model.masks.batch([one.resized for one in read], model.masks.canvas)
        features = see(model.masks, read, images, self.cache)
        terms = model(chat, features, targets_of(batch.samples, images))
        loss = torch.stack(list(terms.values())).sum()
        told = {f"mglmm/{name}": value.detach() for name, value in terms.items()}
        return StepOutput(loss, {**told, "total": loss.detach()})


def targets_of(samples: Sequence[Sample], images: ImageBatch) -> MaskTargets:
    """True masks, resized as the images are, on their canvas: a pixel is inside where most of what it shows is."""
    placed: list[Tensor] = []
    for sample, (h, w) in zip(samples, images.sizes, strict=True):
        masks = torch.from_numpy(sample.masks).to(images.tensor.device)
        on_canvas = torch.zeros(len(masks), *images.canvas, dtype=torch.bool, device=images.tensor.device)
        if len(masks):
            on_canvas[:, :h, :w] = (
                masks if masks.shape[1:] == (h, w) else F.adaptive_avg_pool2d(masks.float()[None], (h, w))[0] > 0.5
            )
        placed.append(on_canvas)
    return MaskTargets(torch.cat(placed), tuple(len(masks) for masks in placed), images.sizes)


def see(masks: MaskDecoder, read: Sequence[InputImage], images: ImageBatch, cache: FeatureCache | None) -> Any:
    """Features of a batch; from the cache, image by image, where there is one."""
    if cache is None:
        return masks.see(images.tensor)
    rows = [
        cache.get(one.pixels, lambda row=row: masks.features(images.tensor[row : row + 1]))  # type: ignore[misc]
        for row, one in enumerate(read)
    ]
    return map_tensors(stack_features(rows), lambda value: value.to(masks.device))
