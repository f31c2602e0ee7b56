"""Predictions as `Instances`, and back. N rows, K classes, (H, W) the image."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.structures import Boxes, Instances
from torch import Tensor

from partglee.structures import ClassList, Level, Prediction


def to_instances(prediction: Prediction, classes: ClassList) -> Any:
    """`Instances` with `pred_boxes`, `pred_masks` (where there are masks), `scores`, `pred_classes`, and the hierarchy.

    Rows whose name is no class are left out. `pred_ids` (N,) numbers the rows of the image; `pred_object_ids` (N,) is
    the id of the object that a row belongs to: its own for an object, -1 for a part whose object is not known. Both
    stay true when rows are taken out, put in another order or joined.
    """
    levels, labels = prediction.level.tolist(), prediction.labels.tolist()
    parents = prediction.parent.tolist()
    found = [
        classes.class_of(level, label, labels[parent] if parent >= 0 else -1)
        for level, label, parent in zip(levels, labels, parents, strict=True)
    ]
    kept = [row for row, number in enumerate(found) if number >= 0]
    rows = torch.tensor(kept, dtype=torch.long)
    instances = Instances(prediction.image_size)
    instances.pred_boxes = Boxes(prediction.boxes[rows])
    if prediction.masks is not None:
        instances.pred_masks = prediction.masks[rows]
    instances.scores = prediction.scores[rows]
    instances.pred_classes = torch.tensor([found[row] for row in kept], dtype=torch.long)
    instances.pred_ids = rows
    instances.pred_object_ids = torch.where(
        prediction.level == Level.OBJECT, torch.arange(len(levels)), prediction.parent
    )[rows]
    return instances


def to_prediction(instances: Any, classes: ClassList) -> Prediction:
    """A `Prediction` of what `to_instances` made, or of what was kept of it: parts of objects that are gone have none.

    Instances of other models have no ids; their parts have no objects.

    Raises:
        ValueError: for a class that is not in the list, or ids that two rows have.
    """
    instances = instances.to("cpu")
    numbers = instances.pred_classes.tolist()
    if wrong := [number for number in numbers if not 0 <= number < len(classes)]:
        raise ValueError(
            f"class {wrong[0]} is none of {len(classes)} classes; pass the list that the model answers with"
        )
    level = torch.tensor([int(classes.level[k]) for k in numbers], dtype=torch.long)
    vocabulary = classes.vocabulary
    names = (vocabulary.object_names, vocabulary.part_names)
    return Prediction(
        boxes=instances.pred_boxes.tensor,
        scores=instances.scores,
        labels=torch.tensor([classes.label[k] for k in numbers], dtype=torch.long),
        names=[names[classes.level[k]][classes.label[k]] for k in numbers],
        level=level,
        parent=_parents(instances, level),
        image_size=instances.image_size,
        masks=instances.pred_masks.bool() if instances.has("pred_masks") else None,
        vocabulary=vocabulary,
    )


def _parents(instances: Any, level: Tensor) -> Tensor:
    """(N,) the row of each part's object, -1 without."""
    parent = torch.full_like(level, -1)
    if not instances.has("pred_ids") or not instances.has("pred_object_ids"):
        return parent
    ids, owners = instances.pred_ids.tolist(), instances.pred_object_ids.tolist()
    row_of = {key: row for row, key in enumerate(ids) if level[row] == Level.OBJECT}
    if len(set(ids)) < len(ids):
        raise ValueError("pred_ids must differ; instances of several images cannot be one prediction")
    for row, owner in enumerate(owners):
        if level[row] == Level.PART:
            parent[row] = row_of.get(owner, -1)
    return parent
