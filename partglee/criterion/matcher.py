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
        costs = []
        bounds = [0, *itertools.accumulate(targets.sizes)]
        for i in range(len(targets.sizes)):
            rows = slice(bounds[i], bounds[i + 1])
            cost = self.cost(predictions, i, targets.labels[rows], targets.boxes[rows])
            masks = targets.masks[i]
            if mask_features is not None and predictions.mask_embed is not None and masks is not None and len(masks):
                features = full_precision(mask_features[i])
                own = self.mask_cost(predictions.mask_embed[:, i], features, masks, targets.boxes[rows])
                with_mask = targets.with_mask[i]
                cost += own if with_mask is None else own.masked_fill(~with_mask, 0.0)
            cost = cost.nan_to_num(0.0, 0.0, 0.0)  # as released
            if allowed is not None:
                cost = cost.masked_fill(~allowed[i], float("inf"))
            costs.append(cost)
        return PendingMatches(_solve_in_threads(costs), predictions.logits.device)

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

    def mask_cost(
        self, mask_embed: Tensor, mask_features: Tensor, masks: Tensor, boxes: Tensor | None = None
    ) -> Tensor:
        """Mask terms of one image: (A, Q, E), (E, h, w), (N, H, W) bool and (N, 4) -> (A, Q, N).

        The features are sampled before they meet the embeddings: that is the same, since both are linear, and saves the
        masks of all queries.
        """
        points = self._points(mask_features, boxes)
        features = sample_points(mask_features[None], points[None])[0]
        wanted = sample_masks(masks, points, dtype=features.dtype)
        queries = mask_embed.flatten(0, 1)
        most = _MASK_ELEMENTS_CPU if queries.device.type == "cpu" else _MASK_ELEMENTS
        rows = max(1, most // self.num_points)
        costs = [mask_point_cost(q @ features, wanted) for q in torch.split(queries, rows)]
        bce, dice = (torch.cat(term) for term in zip(*costs, strict=True))
        return (self.mask_weight * bce + self.dice_weight * dice).view(*mask_embed.shape[:2], len(masks))

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
