"""Predictions of all layers as one tensor, targets of all images as one tensor: losses then need no loops.

A prediction sets (layers), B images, Q queries, C names, E width, N targets of all images, n_b those of image b.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from partglee.structures import LayerPrediction, LevelTargets


class PredictionStack(NamedTuple):
    """A prediction sets that share targets."""

    names: tuple[str, ...]  # A names, such as initial, layer1, final, proposals
    logits: Tensor  # (A, B, Q, C)
    boxes: Tensor  # (A, B, Q, 4) cxcywh in [0, 1]
    mask_embed: Tensor | None  # (A, B, Q, E)


class TargetBatch(NamedTuple):
    """Targets of one level of all images, one after the other."""

    labels: Tensor  # (N,) long
    boxes: Tensor  # (N, 4) cxcywh in [0, 1]
    masks: tuple[Tensor | None, ...]  # B times (n_b, H, W) bool, or None where an image has no masks
    with_mask: tuple[Tensor | None, ...]  # B times (n_b,) bool, whose masks count; None = those of all
    sizes: tuple[int, ...]  # n_b
    offsets: Tensor  # (B,) long, first row of each image

    def __len__(self) -> int:
        return sum(self.sizes)


def layer_names(num_layers: int) -> tuple[str, ...]:
    """Names of the prediction sets of a decoder, the initial prediction first and the final one last."""
    if num_layers == 1:
        return ("final",)
    return ("initial", *(f"layer{i}" for i in range(1, num_layers - 1)), "final")


def stack_predictions(layers: Sequence[LayerPrediction], names: Sequence[str]) -> PredictionStack:
    """Stack predictions, in float32 at least."""
    if not layers or len(layers) != len(names):
        raise ValueError(f"expected at least one prediction and a name for each, got {len(layers)} and {list(names)}")
    embeds = [layer.mask_embed for layer in layers if layer.mask_embed is not None]
    return PredictionStack(
        names=tuple(names),
        logits=full_precision(torch.stack([layer.logits for layer in layers])),
        boxes=full_precision(torch.stack([layer.boxes for layer in layers])),
        mask_embed=full_precision(torch.stack(embeds)) if len(embeds) == len(layers) else None,
    )


def batch_targets(
    targets: Sequence[LevelTargets], *, num_names: int, device: torch.device, dtype: torch.dtype | None = None
) -> TargetBatch:
    """Join the targets of B images on one device; boxes get the predictions' dtype where it is given."""
    if not targets:
        raise ValueError("expected the targets of at least one image, got none")
    for i, target in enumerate(targets):  # on an accelerator the check would wait for it
        if target.labels.device.type == "cpu" and len(target):
            low, high = int(target.labels.min()), int(target.labels.max())
            if low < 0 or high >= num_names:
                raise ValueError(
                    f"labels of image {i} must lie in 0..{num_names - 1}, got {low}..{high}; "
                    "labels are positions in the vocabulary of this batch, not category ids of a data set"
                )
    sizes = tuple(len(target) for target in targets)
    offsets = [0, *itertools.accumulate(sizes)][:-1]
    return TargetBatch(
        labels=torch.cat([target.labels.to(device) for target in targets]),
        boxes=full_precision(torch.cat([target.boxes.to(device=device, dtype=dtype) for target in targets])),
        masks=tuple(None if target.masks is None else target.masks.to(device) for target in targets),
        with_mask=tuple(None if target.with_mask is None else target.with_mask.to(device) for target in targets),
        sizes=sizes,
        offsets=torch.tensor(offsets, dtype=torch.long).to(device),
    )


def full_precision(tensor: Tensor) -> Tensor:
    """Half precision to float32; losses overflow and lose small boxes otherwise."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def sum_per_layer(values: Tensor, layer: Tensor, num_layers: int) -> Tensor:
    """(M,) values of matched pairs and (M,) the prediction set of each -> (A,) sums."""
    return values.new_zeros(num_layers).index_add(0, layer, values)
