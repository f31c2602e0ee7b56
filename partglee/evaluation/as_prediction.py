"""Annotations and detections of one image as a `Prediction`, for drawing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.evaluation.detections import Detections
from partglee.evaluation.ground_truth import GroundTruth
from partglee.structures import Level, Prediction


def annotated(truth: GroundTruth, image: int, size: tuple[int, int]) -> Prediction:
    """What is annotated in an image, crowds left out, with scores of 1.

    Args:
        image: row.
        size: height and width.
    """
    rows = np.flatnonzero((truth.image == image) & ~truth.crowd)
    masks = None
    if all(truth.segmentation[row] is not None for row in rows):
        masks = [truth.mask(row) for row in rows.tolist()]
    return _prediction(truth, truth.category, truth.boxes, truth.parent, np.ones(len(truth)), rows, masks, size)


def predicted(truth: GroundTruth, detections: Detections, rows: NDArray[np.int64], size: tuple[int, int]) -> Prediction:
    """Some detections of one image."""
    masks = None
    if all(detections.counts[row] is not None for row in rows):
        masks = [detections.mask(row) for row in rows.tolist()]
    d = detections
    return _prediction(truth, d.category, d.boxes, d.parent, d.score, rows, masks, size)


def _prediction(
    truth: GroundTruth,
    category: NDArray[np.int64],
    boxes: NDArray[np.float64],
    parent: NDArray[np.int64],
    score: NDArray[np.float64],
    rows: NDArray[np.int64],
    masks: Sequence[Any] | None,
    size: tuple[int, int],
) -> Prediction:
    categories = truth.categories
    new = {row: place for place, row in enumerate(rows.tolist())}
    is_part = categories.is_part[category[rows]]
    parents = [new.get(int(parent[row]), -1) if part else -1 for row, part in zip(rows, is_part, strict=True)]
    parents = [-1 if place < 0 or is_part[place] else place for place in parents]
    decoded = None
    if masks is not None:
        decoded = torch.from_numpy(
            np.stack([rle.decode(m) for m in masks]).astype(bool) if masks else np.zeros((0, *size), bool)
        )
    xyxy = np.concatenate([boxes[rows, :2], boxes[rows, :2] + boxes[rows, 2:]], axis=1)
    columns = category[rows].tolist()
    return Prediction(
        boxes=torch.from_numpy(xyxy).float(),
        scores=torch.from_numpy(score[rows]).float(),
        labels=torch.from_numpy(category[rows]),
        names=[categories.part[k] or categories.names[k] for k in columns],
        level=torch.tensor([Level.PART if part else Level.OBJECT for part in is_part], dtype=torch.long),
        parent=torch.tensor(parents, dtype=torch.long),
        image_size=size,
        masks=decoded,
    )
