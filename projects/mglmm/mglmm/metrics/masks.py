"""The masks of grounded captions (GCG, MGSC): pairs and recall of phrases; and the meters of LISA-like code.

These papers' tools differ from what their texts say; each function names the rule it follows. D predictions, G
annotations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def matched_ious(iou: NDArray[np.float64]) -> list[float]:
    """IoUs of the greedy one-to-one pairs by largest IoU above 0. `mIoU` of an image is their mean (0 without a pair):
    unmatched predictions and annotations cost nothing, which is the published rule. iou: (D, G)."""
    left = np.array(iou, np.float64)
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
        stop_at_first_miss: the published rule ends at the first best pair whose phrases differ; False goes on with
            the next pair.
    """
    left = np.array(iou, np.float64)
    hits = 0
    while left.size and left.max() >= threshold:
        row, column = np.unravel_index(left.argmax(), left.shape)
        if similarity[row, column] < threshold:
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
    """
    per_sample = [inter / (union + 1e-5) + (1.0 if union == 0 else 0.0) for inter, union in counts]
    total = sum(per_sample)
    return {
        "gIoU": total / len(counts),
        "gIoU_reduced": total / (len(counts) + 1e-5),
        "cIoU": sum(i for i, _ in counts) / (sum(u for _, u in counts) + 1e-10),
        "per_sample": per_sample,
    }
