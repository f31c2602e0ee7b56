"""The masks of grounded captions (GCG, MGSC): pairs and recall of phrases; and the meters of LISA-like code.

These papers' tools differ from what their texts say; each function names the rule it follows. D predictions, G
annotations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def matched_ious(iou: NDArray[np.float64]) -> list[float]:
    """IoUs of the greedy one-to-one pairs by largest IoU above 0. `mIoU` of an image is their mean (0 without a pair):
    unmatched predictions and annotations cost nothing, which is the published rule.

    Args:
        iou: (D, G).

    Raises:
        ValueError: for another shape, or numbers that are no IoU.
    """
    left = _ious(iou)
    overlaps = []
    while left.size and left.max() > 0:
        row, column = np.unravel_index(left.argmax(), left.shape)
        overlaps.append(float(left[row, column]))
        left[row, :], left[:, column] = 0, 0
    return overlaps


def phrase_recall_hits(
    iou: NDArray[np.float64],
    similarity: NDArray[np.float64],
    *,
    threshold: float = 0.5,
    stop_at_first_miss: bool = True,
) -> int:
    """Annotations found with IoU and phrase similarity of at least the threshold. Recall is the sum over images of
    hits over the sum of annotated phrases.

    Args:
        iou, similarity: (G, D).
        threshold: above 0, at most 1.
        stop_at_first_miss: the published rule ends at the first best pair whose phrases differ; False goes on with
            the next pair.

    Raises:
        ValueError: for arrays of other or different shapes, numbers that are no IoU, similarities that are not finite,
            or another threshold.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"threshold must be above 0 and at most 1, got {threshold}; the published one is 0.5")
    left = _ious(iou)
    alike = np.asarray(similarity, np.float64)
    if alike.shape != left.shape or not np.isfinite(alike).all():
        raise ValueError(f"similarity must be finite numbers of shape {left.shape} as the IoUs, got {alike.shape}")
    hits = 0
    while left.size and left.max() >= threshold:
        row, column = np.unravel_index(left.argmax(), left.shape)
        if alike[row, column] < threshold:
            if stop_at_first_miss:
                break
            left[row, column] = 0
            continue
        hits += 1
        left[row, :], left[:, column] = 0, 0
    return hits


def lisa_meters(counts: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """gIoU and cIoU as LISA-like code prints them: I / (U + 1e-5), + 1 where U = 0; sum I / (sum U + 1e-10).

    Args:
        counts: (I, U) of each mask, never cleared by a classifier.

    Returns:
        gIoU, cIoU, per_sample; `gIoU_reduced` is gIoU after the distributed reduction, which divides by count + 1e-5.

    Raises:
        ValueError: for no mask, or counts without 0 <= I <= U.
    """
    if not len(counts):
        raise ValueError("expected (intersection, union) of one mask or more, got none")
    if wrong := [pair for pair in counts if len(pair) != 2 or not 0 <= pair[0] <= pair[1] < math.inf]:
        raise ValueError(f"expected (intersection, union) of each mask with 0 <= I <= U, got {wrong[0]}")
    per_sample = [inter / (union + 1e-5) + (1.0 if union == 0 else 0.0) for inter, union in counts]
    total = sum(per_sample)
    return {
        "gIoU": total / len(counts),
        "gIoU_reduced": total / (len(counts) + 1e-5),
        "cIoU": sum(i for i, _ in counts) / (sum(u for _, u in counts) + 1e-10),
        "per_sample": per_sample,
    }


def _ious(iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """A copy."""
    copied = np.array(iou, np.float64)
    if copied.ndim != 2 or not ((copied >= 0) & (copied <= 1 + 1e-6)).all():  # NaN is neither
        raise ValueError(f"expected a table of IoUs in [0, 1], got shape {copied.shape}: {copied.ravel()[:4].tolist()}")
    return copied
