"""The training step: conversations to the two models' inputs, losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mglmm.chat import Chat, ChatBatch, Conversation, TooLong
from mglmm.data.loader import ConversationBatch, Sample
from mglmm.feature_cache import FeatureCache
from mglmm.masks import MaskDecoder
from mglmm.masks.base import map_tensors, stack_features
from mglmm.model import MGLMM, MaskTargets
from mglmm.tokens import SEG
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
        chat, samples = self._encoded(batch.samples)
        chat = chat.to(model.device)
        read = [model.masks.image_input.read(sample.conversation.images[0]) for sample in samples]
        images = model.masks.batch([one.resized for one in read], model.masks.canvas)
        features = see(model.masks, read, images, self.cache)
        terms = model(chat, features, targets_of(samples, images))
        loss = torch.stack(list(terms.values())).sum()
        told = {f"mglmm/{name}": value.detach() for name, value in terms.items()}
        return StepOutput(loss, {**told, "total": loss.detach()})

    def _encoded(self, samples: Sequence[Sample]) -> tuple[ChatBatch, list[Sample]]:
        """Ids, and the samples that they are of: the last questions of one that is too long are left out."""
        kept = list(samples)
        while True:
            try:
                return self.chat.encode([sample.conversation for sample in kept]), kept
            except TooLong as error:
                if len(kept[error.row].conversation.turns) <= 2:
                    raise
                kept[error.row] = without_last_question(kept[error.row])


def without_last_question(sample: Sample) -> Sample:
    """The same conversation without its last question and answer, and the masks of that answer."""
    one = sample.conversation
    turns = one.turns[:-2]
    images = one.images[: sum(turn.images for turn in turns)]
    announced = sum(turn.text.count(SEG) for turn in turns if turn.role == "assistant")
    return Sample(Conversation(turns, images, one.name), sample.masks[:announced])


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
