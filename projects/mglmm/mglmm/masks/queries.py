"""PartGLEE as the mask decoder: a state is scored against object and part queries, as a name is.

So a mask comes with its level, its parent and its box. B images, N prompts, E width, Q object and P part queries, h x w
the stride-4 map, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mglmm.masks.base import DecodedMasks, Hierarchy, MaskDecoder
from partglee import Vocabulary
from partglee.engine.image_input import ImageInput
from partglee.layers import MLP
from partglee.modeling import PartGLEE
from partglee.ops.masks import mask_logits
from partglee.structures import Level

_TWIN = 0.8  # IoU from which on two queries of a level are of one thing


class QueryFeatures(NamedTuple):
    """What the model knows of B images; objects first, then parts."""

    queries: Tensor  # (B, Q + P, E)
    mask_embed: Tensor  # (B, Q + P, E)
    boxes: Tensor  # (B, Q + P, 4) cxcywh in [0, 1] of the canvas
    parent: Tensor  # (B, Q + P) long, object query of each part; -1 for objects
    mask_features: Tensor  # (B, E, h, w)


class QueryMasks(MaskDecoder):
    """A PartGLEE, frozen, and two small networks that learn: one reads states, one reads queries.

    A prompt chooses queries; its mask is everything that they cover, and the best one says level, parent and box. While
    training, the mask is that of the queries' mean by their scores, through which gradients reach the prompt; and the
    choice itself is supervised: by the queries that together cover the true mask best.

    Args:
        model: a PartGLEE.
        vocabulary: names that its queries are selected by; anything that may be spoken of.
        image_input: how photos are resized.
        chosen_from: a query whose score is at least this is chosen; the best one always is.
    """

    feature_kind = QueryFeatures

    def __init__(
        self,
        *,
        model: PartGLEE,
        vocabulary: Vocabulary,
        image_input: ImageInput,
        chosen_from: float = 0.5,
    ) -> None:
        super().__init__(
            pixel_mean=model.pixel_mean, pixel_std=model.pixel_std, size_divisibility=model.size_divisibility
        )
        if not 0 < chosen_from <= 1:
            raise ValueError(f"chosen_from must lie in (0, 1], got {chosen_from}")
        if not vocabulary.part_names:
            raise ValueError(
                "the vocabulary of a mask decoder needs part names: without them there are no part queries"
            )
        self.model = model.requires_grad_(False)
        self.vocabulary = vocabulary
        self.image_input = image_input
        self.chosen_from = chosen_from
        width = int(model.part_decoder.heads.norm.normalized_shape[0])
        self.prompt_dim = width
        self.read_prompt = MLP(input_dim=width, hidden_dim=width, output_dim=width, num_layers=2)
        self.read_query = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width))
        self.level = nn.Embedding(2, width)  # a query and its twin of the other level may look alike
        nn.init.normal_(self.level.weight, std=0.02)
        self.bias = nn.Parameter(torch.tensor(-2.0))  # few of all queries are meant

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        return ((name, weight) for name, weight in self.named_parameters() if not name.startswith("model."))

    def encode(self, pixels: Tensor) -> QueryFeatures:
        text = self.model.embed(self.vocabulary)
        said = self.model(pixels, text)
        assert said.parts is not None and said.parent is not None  # the vocabulary has part names
        objects, parts = said.objects.layers[-1], said.parts.layers[-1]
        assert objects.mask_embed is not None and parts.mask_embed is not None
        none = said.parent.new_full((len(pixels), objects.boxes.shape[1]), -1)
        return QueryFeatures(
            queries=torch.cat((said.objects.queries, said.parts.queries), 1),
            mask_embed=torch.cat((objects.mask_embed, parts.mask_embed), 1),
            boxes=torch.cat((objects.boxes, parts.boxes), 1),
            parent=torch.cat((none, said.parent), 1),
            mask_features=said.mask_features,
        )

    def decode(
        self, features: QueryFeatures, prompts: Tensor, image_of: Tensor, targets: Tensor | None = None
    ) -> DecodedMasks:
        is_part = features.parent >= 0
        read = self.read_query(features.queries.float()) + self.level(is_part.long())
        scale = read.shape[-1] ** -0.5
        scores = torch.einsum("ne,nqe->nq", self.read_prompt(prompts), read[image_of]) * scale + self.bias  # (N, Q + P)
        embeds, maps = features.mask_embed.float(), features.mask_features.float()
        best = scores.argmax(1) if len(scores) else scores.new_zeros(0, dtype=torch.long)
        loss = None
        if self.training:
            mixed = torch.einsum("nq,nqe->ne", scores.softmax(1), embeds[image_of])
            logits = torch.einsum("ne,nehw->nhw", mixed, maps[image_of])
            if targets is not None:
                wanted = self._wanted(embeds, maps, image_of, targets, is_part)
                loss = F.binary_cross_entropy_with_logits(scores, wanted, reduction="sum") / max(len(scores), 1)
                # the sum over hundreds of queries alone would be content with none
                loss = loss - (scores.log_softmax(1) * wanted / wanted.sum(1, keepdim=True)).sum() / max(len(scores), 1)
        else:
            logits = self._union(scores, best, embeds, maps, image_of)
        rows = torch.arange(len(scores), device=scores.device)
        parent = features.parent[image_of, best]
        found = Hierarchy(
            level=torch.where(parent >= 0, int(Level.PART), int(Level.OBJECT)),
            query=best,
            parent=parent,
            boxes=features.boxes[image_of, best],
        )
        return DecodedMasks(logits, scores[rows, best].sigmoid(), found, loss)

    def _union(self, scores: Tensor, best: Tensor, embeds: Tensor, maps: Tensor, image_of: Tensor) -> Tensor:
        """(N, h, w): the largest logit of the chosen queries of the best one's level."""
        found = []
        for row, image in enumerate(image_of.tolist()):
            chosen = (scores[row].sigmoid() >= self.chosen_from).nonzero()[:, 0]
            rows = torch.cat((best[row : row + 1], chosen))
            found.append(mask_logits(embeds[image, rows], maps[image]).amax(0))
        return torch.stack(found) if found else maps.new_zeros(0, *maps.shape[-2:])

    @torch.no_grad()
    def _wanted(self, embeds: Tensor, maps: Tensor, image_of: Tensor, targets: Tensor, is_part: Tensor) -> Tensor:
        """(N, Q + P) 1 where a query belongs to what the mask means; twins of such queries belong to it too."""
        wanted = torch.zeros(len(targets), embeds.shape[1], device=maps.device)
        for image in image_of.unique().tolist():
            own = mask_logits(embeds[image], maps[image]) > 0
            flat = own.flatten(1).float()
            for row in (image_of == image).nonzero()[:, 0].tolist():
                truth = F.adaptive_avg_pool2d(targets[row][None].float(), (own.shape[-2], own.shape[-1]))[0] > 0.5
                chosen = best_cover(own, truth, is_part[image])
                both = flat[chosen] @ flat.T
                iou = both / (flat[chosen].sum(1)[:, None] + flat.sum(1)[None] - both).clamp(min=1)
                twins = (iou >= _TWIN) & (is_part[image] == is_part[image, chosen[0]])
                wanted[row] = twins.any(0).to(wanted.dtype)
                wanted[row, chosen] = 1
        return wanted


def best_cover(masks: Tensor, truth: Tensor, is_part: Tensor, *, gain: float = 0.05, most: int = 12) -> Tensor:
    """Rows of masks whose union is the true mask as nearly as a greedy choice comes: the one of largest IoU first, then
    whichever of its level raises the IoU most, as long as it does by `gain`.

    Args:
        masks: (M, h, w) bool.
        truth: (h, w) bool.
        is_part: (M,) bool.

    Returns:
        (n,) long, 1 <= n <= `most`.
    """
    union = torch.zeros_like(truth)
    chosen: list[int] = []
    allowed = torch.ones_like(is_part)
    reached = -1.0
    while len(chosen) < most:
        grown = masks | union
        iou = (grown & truth).flatten(1).sum(1) / (grown | truth).flatten(1).sum(1).clamp(min=1)
        iou = torch.where(allowed, iou, -1.0)
        row = int(iou.argmax())
        if chosen and float(iou[row]) < reached + gain:
            break
        reached = float(iou[row])
        union = grown[row]
        chosen.append(row)
        allowed = is_part == is_part[row]
        allowed[chosen] = False
        if not bool(allowed.any()):
            break
    return torch.tensor(chosen, device=masks.device)
