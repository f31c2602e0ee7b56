"""The losses themselves, as functions of what was matched; `set_criterion` and `hierarchical` choose their arguments.

A prediction sets, B images, Q queries, C names, R regions of one image, M matched pairs (M_b in image b), N_b masks of
image b, E width, W text width, h x w the stride-4 map, P points; boxes are cxcywh in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou_loss, sigmoid_focal_loss

RESTRICTION_NORMS = ("released", "paper", "mean")
INSIDE = 0.5  # share of a query's box that must lie in a labelled region for the region to say something about it

# ---------------------------------------------------------------- boxes


def l1_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Sum of absolute differences: two times (..., 4) -> (...)."""
    return (boxes - targets).abs().sum(-1)


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """1 - GIoU (arXiv 1902.09630): two times (..., 4) -> (...), in [0, 2]."""
    # torchvision's default eps is as large as the area of a box of 0.03 % of both sides.
    loss: Tensor = generalized_box_iou_loss(to_xyxy(boxes), to_xyxy(targets), reduction="none", eps=1e-10)
    return loss


def containment(inner: Tensor, outer: Tensor) -> Tensor:
    """Share of `inner`'s area that `outer` covers: two times (..., 4), broadcast -> (...), in [0, 1].

    Boxes are clamped to [0, 1]. An inner box without area, or one that is not a number, counts as contained.
    """
    part, parent = to_xyxy(inner.clamp(0, 1)), to_xyxy(outer.clamp(0, 1))
    low = torch.maximum(part[..., :2], parent[..., :2])
    high = torch.minimum(part[..., 2:], parent[..., 2:])
    overlap = _area((high - low).clamp(min=0))
    area = _area(part[..., 2:] - part[..., :2])
    usable = (area > 0) & overlap.isfinite()
    # Both branches of `where` are differentiated, so the division itself must be safe.
    covered = torch.where(usable, overlap, 1.0) / torch.where(usable, area, 1.0)
    return torch.where(usable, covered, 1.0)


def to_xyxy(boxes: Tensor) -> Tensor:
    """(..., 4) cxcywh -> xyxy."""
    converted: Tensor = box_convert(boxes, in_fmt="cxcywh", out_fmt="xyxy")
    return converted


def _area(sides: Tensor) -> Tensor:
    return sides[..., 0] * sides[..., 1]


# ---------------------------------------------------------------- classification


def focal_loss(
    logits: Tensor, positive: Tensor, weight: Tensor | None = None, *, alpha: float = 0.25, gamma: float = 2.0
) -> Tensor:
    """Sigmoid focal loss (arXiv 1708.02002), summed over queries and names.

    Args:
        logits: (A, B, Q, C).
        positive: (A, B, Q, C) bool, pairs of a query and a name that belong together.
        weight: (A, B, Q, C) bool, pairs that are supervised at all; None = all.

    Returns:
        (A,) sums.
    """
    # A prediction that nobody supervises must not reach the sum, be it infinite.
    if weight is not None:
        logits = torch.where(weight, logits, 0.0)
    loss: Tensor = sigmoid_focal_loss(logits, positive.to(logits.dtype), alpha=alpha, gamma=gamma, reduction="none")
    if weight is not None:
        loss = loss * weight
    return loss.flatten(1).sum(1)


def labelled_queries(
    boxes: Tensor, background: Sequence[bool] | None, labelled: Sequence[Tensor | None] | None
) -> Tensor | None:
    """Which queries look at a place that was annotated, so that being unmatched means being wrong.

    Args:
        boxes: (A, B, Q, 4) cxcywh in [0, 1].
        background: B bools, what is not annotated is nothing; None = in all images.
        labelled: B times (R, 4) cxcywh, the regions that were looked at; None = the whole image.

    Returns:
        (A, B, Q) bool; None when all do.
    """
    if (background is None or all(background)) and (labelled is None or all(r is None for r in labelled)):
        return None
    places = torch.ones(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    for image, regions in enumerate(labelled or ()):
        if regions is not None:
            inside = containment(boxes.detach()[:, image, :, None], regions.to(boxes)) >= INSIDE
            places[:, image] = inside.any(-1)
    for image, known in enumerate(background or ()):
        if not known:
            places[:, image] = False
    return places


def supervised_pairs(
    positive: Tensor, matched: Tensor, negatives: Tensor | None, background: Tensor | None
) -> Tensor | None:
    """Which pairs of query and name carry a loss.

    Args:
        positive: (A, B, Q, C) bool.
        matched: (A, B, Q) bool.
        negatives: (B, C) bool, names whose absence is meaningful; None = all.
        background: (A, B, Q) bool, queries that are negatives when they are unmatched; None = all.

    Returns:
        (A, B, Q, C) bool; None when all pairs do.
    """
    if negatives is None and background is None:
        return None
    queries = torch.ones_like(matched) if background is None else matched | background
    pairs = queries.unsqueeze(-1)
    if negatives is not None:
        pairs = pairs & negatives[:, None].to(positive.device)
    return pairs | positive


# ---------------------------------------------------------------- masks


def mask_bce_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy, mean over points: two times (M, P) -> (M,)."""
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(-1)


def dice_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - (2 * overlap + 1) / (area + area + 1): two times (M, P) -> (M,)."""
    scores = logits.sigmoid()
    overlap = (scores * targets).sum(-1)
    return 1 - (2 * overlap + 1) / (scores.sum(-1) + targets.sum(-1) + 1)


# ---------------------------------------------------------------- between levels, and text


def restriction_loss(parts: Tensor, parents: Tensor) -> Tensor:
    """1 - containment, the share of each part box that the box of the object that it was parsed from does not cover
    (PartGLEE Eq. 4).

    Gradients reach both boxes. A part box without area, or one that is not a number, counts as contained.

    Args:
        parts: (M, 4) boxes of matched part queries.
        parents: (M, 4) box of the object query that each came from.

    Returns:
        (M,) in [0, 1].
    """
    return 1 - containment(parts, parents)


def restriction_normaliser(norm: str, *, num_images: Tensor, num_matched: Tensor, num_processes: int) -> Tensor:
    """What the sum over matched parts is divided by. Gradients equal those of one process with all images.

    Args:
        norm: `released`: images times matched parts. `paper`: Eq. 4 has no normaliser. `mean`: matched parts, which is
            `released` at one image a batch.
        num_images, num_matched: (A,) or scalar, of all processes together.
        num_processes: gradients are averaged over so many processes.
    """
    if norm == "paper":
        return torch.full_like(num_matched, 1 / num_processes)
    matched = num_matched.clamp(min=1) / num_processes
    return matched * num_images if norm == "released" else matched


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """A text tower in training stays near the tower it started from: mean squared difference of two times (M, W) states
    of valid tokens -> scalar; no gradient reaches the teacher."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher states must have one shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    return F.mse_loss(student, teacher.detach().to(student.dtype))
