"""Denoising queries: noised ground truth that the decoder must repair (DN-DETR, arXiv 2203.01305).

B images, N the largest number of targets in an image, G groups, M = G * N (twice that with negatives).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from partglee.modeling.heads import PredictionHeads
from partglee.structures import DenoisingQueries, HierarchicalTargets, LevelTargets, TextEmbeddings


class DenoisingBuilder:
    """Makes denoising queries for either level. Has no weights.

    The content is the direction that the class head scores highest for the (noised) name, so that any vocabulary works;
    the released code has one learned table for each data set instead.

    Args:
        num_queries: about how many; G = num_queries // N, and images with more targets than this get none.
        label_noise: probability that a label is replaced by a random one.
        box_noise: centres move by at most this share of half a side, sides change by at most this share.
        contrastive: add as many negatives, noised further, that should be predicted as nothing (DINO), since the copy
            beside them takes the target; released: off. With `box_noise` up to 0.5 their centres stay in the target's
            box, so at a place that was annotated in all data but those of unlabelled background, where the criterion
            leaves them out.
    """

    def __init__(
        self, *, num_queries: int = 100, label_noise: float = 0.2, box_noise: float = 0.4, contrastive: bool = False
    ) -> None:
        for name, value in (("label_noise", label_noise), ("box_noise", box_noise)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        self.num_queries = num_queries
        self.label_noise = label_noise
        self.box_noise = box_noise
        self.contrastive = contrastive

    def objects(
        self, targets: Sequence[HierarchicalTargets], text: TextEmbeddings, heads: PredictionHeads
    ) -> DenoisingQueries | None:
        """Object level; None where there is nothing to noise."""
        return self.build([t.objects for t in targets], heads.class_direction(text.objects))

    def parts(
        self, targets: Sequence[HierarchicalTargets], text: TextEmbeddings, heads: PredictionHeads
    ) -> DenoisingQueries | None:
        """Part level; None where there is nothing to noise."""
        return self.build([t.parts for t in targets], heads.class_direction(text.parts))

    def build(self, targets: Sequence[LevelTargets], directions: Tensor) -> DenoisingQueries | None:
        """Noise the targets of one level.

        Args:
            directions: (C, E) content of each name.
        """
        largest = max((len(t) for t in targets), default=0)
        if largest == 0 or largest > self.num_queries:
            return None
        groups = self.num_queries // largest
        device = directions.device
        labels = torch.zeros(len(targets), largest, dtype=torch.long, device=device)
        boxes = torch.full((len(targets), largest, 4), 0.5, device=device)
        source = torch.full((len(targets), largest), -1, dtype=torch.long, device=device)
        for i, target in enumerate(targets):
            labels[i, : len(target)] = target.labels.to(device)
            boxes[i, : len(target)] = target.boxes.to(device)
            source[i, : len(target)] = torch.arange(len(target), device=device)
        copies = groups * (2 if self.contrastive else 1)
        labels, boxes, source = labels.repeat(1, copies), boxes.repeat(1, copies, 1), source.repeat(1, copies)
        negative = self._negatives(largest, copies, device)
        flipped = torch.rand(labels.shape, device=device) < self.label_noise
        labels = torch.where(flipped, torch.randint_like(labels, len(directions)), labels)
        return DenoisingQueries(
            content=directions[labels],
            boxes=self._jitter(boxes, negative),
            group=torch.arange(groups, device=device).repeat_interleave(labels.shape[1] // groups),
            source=source.masked_fill(negative & (source >= 0), -2),
        )

    def _negatives(self, largest: int, copies: int, device: torch.device) -> Tensor:
        """(M,) bool: in contrastive mode every second run of N copies is negative."""
        run = torch.arange(copies, device=device).repeat_interleave(largest)
        return (run % 2 == 1) if self.contrastive else torch.zeros_like(run, dtype=torch.bool)

    def _jitter(self, boxes: Tensor, negative: Tensor) -> Tensor:
        """Move centres by up to half a side and change sides, both times `box_noise`; negatives beyond that."""
        reach = torch.cat((boxes[..., 2:] / 2, boxes[..., 2:]), dim=-1)
        amount = torch.rand_like(boxes)
        amount = torch.where(negative[:, None], amount + 1, amount)  # (0, 1) for copies, (1, 2) for negatives
        sign = torch.where(torch.rand_like(boxes) < 0.5, -1.0, 1.0)
        return (boxes + sign * amount * reach * self.box_noise).clamp(0, 1)


def denoising_mask(group: Tensor, num_matching: int, run: int | None = None) -> Tensor:
    """(M,) group numbers -> (M + Q, M + Q) bool, True = blocked.

    Args:
        run: matching queries see runs of so many alone; None = all of them. Denoising queries see all.
    """
    everyone = torch.cat((group, group.new_full((num_matching,), -1)))
    blocked = (everyone[None] >= 0) & (everyone[:, None] != everyone[None])
    if run is not None:
        own = torch.arange(num_matching, device=group.device) // run
        blocked[len(group) :, len(group) :] |= own[:, None] != own
    return blocked
