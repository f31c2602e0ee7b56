"""Hungarian matching of predictions and targets (DETR, arXiv 2005.12872).

A prediction sets, B images, Q queries, C names, E width, N targets of one image, P points, h x w the stride-4 map,
M matched pairs.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou

from partglee.criterion.lazy_costs import solve_lazily
from partglee.criterion.losses import to_xyxy
from partglee.criterion.stack import PredictionStack, TargetBatch, full_precision
from partglee.ops.points import random_points, sample_masks, sample_points

_MASK_ELEMENTS = 2**25  # mask logits of the matching cost that exist at the same time
_MASK_ELEMENTS_CPU = 2**21  # so many stay in a processor's caches
_LEAST_LOGIT = -80.0  # below, softplus is 0 to the last digit, and the logarithm of a sigmoid would leave float32


class Matches(NamedTuple):
    """M matched pairs of all prediction sets and images, sorted by image."""

    layer: Tensor  # (M,) long, prediction set
    image: Tensor  # (M,) long
    query: Tensor  # (M,) long
    target: Tensor  # (M,) long, row in the image's own targets
    counts: tuple[int, ...]  # pairs of each image; plain ints, so that nothing waits for the device


class PendingMatches:
    """Assignments under way on CPU threads, so that the accelerator need not wait for them."""

    def __init__(self, images: Sequence[Future[npt.NDArray[np.int64]]], device: torch.device) -> None:
        self._images = images
        self._device = device

    def result(self, layer: int | None = None) -> Matches:
        """Wait for one prediction set, or for all; one copy brings the pairs to the predictions' device."""
        pairs = [future.result() for future in self._images]
        if layer is not None:
            pairs = [p[:, p[0] == layer] for p in pairs]
        counts = tuple(p.shape[1] for p in pairs)
        image = np.repeat(np.arange(len(pairs)), counts)
        layers, query, target = np.concatenate(pairs, axis=1)
        columns = torch.from_numpy(np.stack((layers, image, query, target))).to(self._device)
        return Matches(columns[0], columns[1], columns[2], columns[3], counts)


class MaskTerms(NamedTuple):
    """What the masks of one image add to the cost of a pair."""

    features: Tensor  # (E, P) at the points
    wanted: Tensor  # (N, P) of the targets in [0, 1]
    with_mask: Tensor | None
    mask_weight: float
    dice_weight: float

    def of(self, embeds: Tensor) -> Tensor:
        """(n, E) -> (n, N)."""
        most = _MASK_ELEMENTS_CPU if embeds.device.type == "cpu" else _MASK_ELEMENTS
        rows = max(1, most // self.features.shape[1])
        costs = [mask_point_cost(some @ self.features, self.wanted) for some in torch.split(embeds, rows)]
        bce, dice = (torch.cat(term) for term in zip(*costs, strict=True))
        cost = self.mask_weight * bce + self.dice_weight * dice
        return cost if self.with_mask is None else cost.masked_fill(~self.with_mask, 0.0)


class _Masked(NamedTuple):
    """The cost of one image with masks."""

    cost: Tensor  # (A, Q, N) of classes and boxes
    embeds: Tensor  # (A, Q, E)
    terms: MaskTerms
    allowed: Tensor | None  # (Q, N) bool

    def whole(self) -> Tensor:
        """(A, Q, N)."""
        return _final(self.cost + self.terms.of(self.embeds.flatten(0, 1)).view_as(self.cost), self.allowed)

    def solve(self) -> npt.NDArray[np.int64]:
        """(3, M) prediction set, query, target."""
        bounds = _final(self.cost, self.allowed)
        if min(self.terms.mask_weight, self.terms.dice_weight) < 0 or not self.terms.features.isfinite().all():
            return _solve(self.whole().flatten(), self.cost.shape, None)
        return solve_lazily(bounds, self._exact, assign, at_once=~self.embeds.isfinite().all(-1))

    def _exact(self, sets: Tensor, queries: Tensor) -> Tensor:
        cost = self.cost[sets, queries] + self.terms.of(self.embeds[sets, queries])
        return _final(cost, None if self.allowed is None else self.allowed[queries])


def _final(cost: Tensor, allowed: Tensor | None) -> Tensor:
    """Costs that are no numbers become 0, as released; forbidden pairs infinite."""
    cost = cost.nan_to_num(0.0, 0.0, 0.0)
    return cost if allowed is None else cost.masked_fill(~allowed, float("inf"))


class Matcher:
    """Finds for every prediction set the one-to-one assignment of least cost.

    Args:
        class_weight, l1_weight, giou_weight, mask_weight, dice_weight: factors of the cost terms.
        num_points: random points at which masks are compared; all masks and layers of an image share them.
        near: share of these points that lie in or around the box of a target, each of a random one.
        focal_alpha, focal_gamma: of the class cost.
    """

    def __init__(
        self,
        *,
        class_weight: float = 4.0,
        l1_weight: float = 5.0,
        giou_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        num_points: int = 12544,
        near: float = 0.0,
        focal_alpha: float = 0.25,
        focal_gamma: float = 2.0,
    ) -> None:
        self.class_weight = class_weight
        self.l1_weight = l1_weight
        self.giou_weight = giou_weight
        self.mask_weight = mask_weight
        self.dice_weight = dice_weight
        self.num_points = num_points
        self.near = near
        self.focal_alpha = focal_alpha
        self.focal_gamma = focal_gamma

    @torch.no_grad()
    def start(
        self,
        predictions: PredictionStack,
        targets: TargetBatch,
        mask_features: Tensor | None = None,
        allowed: Sequence[Tensor] | None = None,
    ) -> PendingMatches:
        """Compute all costs, copy them to the CPU at once, and leave the assignment to threads.

        Args:
            mask_features: (B, E, h, w); None = match without masks.
            allowed: for each image (Q, N) bool, pairs that may be matched; None = all.
        """
        device = predictions.logits.device
        costs: dict[int, Tensor] = {}
        solved: dict[int, Future[npt.NDArray[np.int64]]] = {}
        bounds = [0, *itertools.accumulate(targets.sizes)]
        for i in range(len(targets.sizes)):
            rows = slice(bounds[i], bounds[i + 1])
            cost = self.cost(predictions, i, targets.labels[rows], targets.boxes[rows])
            masks, masked = targets.masks[i], None
            if mask_features is not None and predictions.mask_embed is not None and masks is not None and len(masks):
                features, embeds = full_precision(mask_features[i]), predictions.mask_embed[:, i]
                terms = self.mask_terms(features, masks, targets.boxes[rows], targets.with_mask[i])
                masked = _Masked(cost, embeds, terms, None if allowed is None else allowed[i])
            if masked is None:
                costs[i] = _final(cost, None if allowed is None else allowed[i])
            elif device.type == "cpu":
                solved[i] = Future()
                solved[i].set_result(masked.solve())
            else:
                costs[i] = masked.whole()
        solved.update(zip(costs, _solve_in_threads(list(costs.values())), strict=True))
        return PendingMatches([solved[i] for i in range(len(targets.sizes))], device)

    def cost(self, predictions: PredictionStack, image: int, labels: Tensor, boxes: Tensor) -> Tensor:
        """Class and box terms of one image: (N,) labels and (N, 4) boxes -> (A, Q, N)."""
        logits = predictions.logits[:, image, :, labels] if len(labels) else predictions.logits[:, image, :, :0]
        predicted, wanted = predictions.boxes[:, image].clamp(0, 1), boxes.clamp(0, 1)
        shape = logits.shape
        flat = predicted.flatten(0, 1)
        # Degenerate boxes are legal here: their GIoU is not a number and becomes 0.
        giou: Tensor = generalized_box_iou(to_xyxy(flat), to_xyxy(wanted)).view(shape)
        l1 = torch.cdist(flat, wanted, p=1).view(shape)
        return (
            self.class_weight * focal_cost(logits, alpha=self.focal_alpha, gamma=self.focal_gamma)
            + self.l1_weight * l1
            - self.giou_weight * giou
        )

    def mask_terms(
        self, mask_features: Tensor, masks: Tensor, boxes: Tensor | None = None, with_mask: Tensor | None = None
    ) -> MaskTerms:
        """The masks' part of one image's cost.

        The features are sampled before they meet the embeddings: that is the same, since both are linear, and saves the
        masks of all queries.

        Args:
            mask_features: (E, h, w).
            masks: (N, H, W) bool.
            boxes: (N, 4), for points near them.
            with_mask: (N,) bool, whose masks count; None = those of all.
        """
        points = self._points(mask_features, boxes)
        features = sample_points(mask_features[None], points[None])[0]
        wanted = sample_masks(masks, points, dtype=features.dtype)
        return MaskTerms(features, wanted, with_mask, self.mask_weight, self.dice_weight)

    def _points(self, like: Tensor, boxes: Tensor | None) -> Tensor:
        """(P, 2) that all masks of an image share."""
        if boxes is None or not self.near:
            return torch.rand(self.num_points, 2, dtype=like.dtype, device=like.device)
        count = round(self.near * self.num_points)
        chosen = boxes[torch.randint(len(boxes), (count,), device=boxes.device)].to(like.dtype)
        close = random_points(count, 1, like=like, boxes=chosen, near=1.0)[:, 0]
        rest = torch.rand(self.num_points - count, 2, dtype=like.dtype, device=like.device)
        return torch.cat((close, rest))


def focal_cost(logits: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """What the focal loss would change if this pair were a positive: (...) -> (...)."""
    scores = logits.sigmoid()
    positive = alpha * (1 - scores) ** gamma * F.softplus(-logits)
    negative = (1 - alpha) * scores**gamma * F.softplus(logits)
    return positive - negative


def mask_point_cost(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Binary cross entropy (mean over points) and dice of each pair: (Q, P) and (N, P) -> two times (Q, N)."""
    # bce(x, t) = softplus(x) - x t, so only a matrix product depends on the pair; softplus(x) = x - log sigmoid(x).
    wanted = targets.t()
    product = logits @ wanted
    bounded = logits.clamp(min=_LEAST_LOGIT)
    scores = bounded.sigmoid()
    areas = scores.sum(-1, keepdim=True) + targets.sum(-1)
    dice = 1 - (2 * (scores @ wanted) + 1) / (areas + 1)
    softplus = bounded.sub_(scores.log_()).sum(-1, keepdim=True)
    return (softplus - product) / logits.shape[-1], dice


def assign(cost: npt.NDArray[np.floating]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows and columns of the assignment of least cost, for a (Q, N) matrix in which +inf forbids a pair.

    As many allowed pairs as possible are matched; a target whose pairs are all forbidden or taken stays without.
    """
    forbidden = np.isinf(cost)
    if forbidden.any():
        # One forbidden pair must cost more than any difference between allowed assignments.
        cost = cost.astype(np.float64)
        largest = np.abs(cost[~forbidden]).max(initial=0.0)
        cost[forbidden] = (2 * largest + 1) * (min(cost.shape) + 1)
    query, target = linear_sum_assignment(cost)
    keep = ~forbidden[query, target]
    return query[keep], target[keep]


def _solve_in_threads(costs: Sequence[Tensor]) -> list[Future[npt.NDArray[np.int64]]]:
    """For each image's (A, Q, N) costs a future of (3, M): prediction set, query, target."""
    if not costs:
        return []
    flat = torch.cat([cost.reshape(-1) for cost in costs])
    ready: torch.cuda.Event | None = None
    if flat.is_cuda:
        host = torch.empty(flat.shape, dtype=flat.dtype, pin_memory=True)
        host.copy_(flat, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        flat = host
    else:
        flat = flat.cpu()
    pieces = torch.split(flat, [cost.numel() for cost in costs])
    return [_threads().submit(_solve, piece, cost.shape, ready) for piece, cost in zip(pieces, costs, strict=True)]


def _solve(flat: Tensor, shape: torch.Size, ready: torch.cuda.Event | None) -> npt.NDArray[np.int64]:
    if ready is not None:
        ready.synchronize()
    found = [(layer, *assign(cost)) for layer, cost in enumerate(flat.view(shape).numpy())]
    columns = [np.stack((np.full(len(query), layer), query, target)) for layer, query, target in found]
    return np.concatenate(columns, axis=1).astype(np.int64)


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=4, thread_name_prefix="matching")
