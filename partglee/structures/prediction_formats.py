"""A prediction as COCO results, `supervision.Detections`, a table, or a piece of its image.

N rows (objects and parts together), (H, W) the image size in pixels, Co object names of the vocabulary.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from partglee.basics.masks import run_length_fault
from partglee.structures.prediction_row import Level

if TYPE_CHECKING:
    import pandas
    import supervision

    from partglee.structures.prediction import Prediction


class RunLengths(TypedDict):
    """A mask as COCO's tools write it."""

    size: list[int]  # H, W
    counts: str


class _CocoResult(TypedDict):
    id: int
    parent_id: int | None
    level: str
    name: str
    label: int
    image_id: int | str
    category_id: int
    bbox: list[float]  # xywh
    score: float


class CocoResult(_CocoResult, total=False):
    """A row of COCO results, with the hierarchy."""

    segmentation: RunLengths
    object: str  # whose part it is by its name


class CocoCategory(TypedDict):
    """A category of a COCO file."""

    id: int
    name: str
    supercategory: str
    level: str


class _PredictionLine(TypedDict):
    file_name: str | None
    height: int
    width: int
    results: list[CocoResult]


class PredictionLine(_PredictionLine, total=False):
    """A line of a predictions file; what is after `results` is of answers to expressions alone."""

    text: str
    no_target: bool
    no_target_score: float
    instances: list[CocoResult]


def first_part_id(prediction: Prediction) -> int:
    """Where ids of part names begin in one id space: behind the object names of the vocabulary, or, where it is not
    known, behind the largest object label of this prediction."""
    if prediction.vocabulary is not None:
        return len(prediction.vocabulary.object_names)
    labels = prediction.labels[prediction.level == Level.OBJECT]
    return int(labels.max()) + 1 if len(labels) else 0


def categories(prediction: Prediction) -> list[CocoCategory]:
    """See `Prediction.categories`."""
    vocabulary = prediction.vocabulary
    if vocabulary is None:
        raise ValueError("no list of categories: this prediction does not know its vocabulary; set .vocabulary")
    listed: list[CocoCategory] = [
        {"id": row, "name": name, "supercategory": name, "level": "object"}
        for row, name in enumerate(vocabulary.object_names)
    ]
    for column, (name, owners) in enumerate(zip(vocabulary.part_names, vocabulary.part_owner, strict=True)):
        owner = vocabulary.object_names[owners[0]] if len(owners) == 1 else ""
        listed.append(
            {
                "id": len(vocabulary.object_names) + column,
                "name": f"{owner}:{name}" if owner else name,
                "supercategory": owner or "part",
                "level": "part",
            }
        )
    return listed


def to_coco(
    prediction: Prediction,
    *,
    image_id: int | str,
    object_ids: Sequence[int] | Mapping[int, int] | None,
    part_ids: Sequence[int] | Mapping[int, int] | None,
    first_id: int,
    ids_per_level: bool,
) -> list[CocoResult]:
    """See `Prediction.to_coco`."""
    if ids_per_level:
        _warn_of_ids("to_coco", "category_id")
    tables = {Level.OBJECT: object_ids, Level.PART: part_ids}
    first = {Level.OBJECT: 0, Level.PART: 0 if ids_per_level else first_part_id(prediction)}
    boxes = prediction.boxes.double()
    bboxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
    encoded = None if prediction.masks is None else _encode_masks(prediction.masks)
    found: list[CocoResult] = []
    for row in prediction:
        table = tables[row.level]
        entry: CocoResult = {
            "id": row.id + first_id - 1,
            "parent_id": None if row.parent is None else row.parent.id + first_id - 1,
            "level": row.level.name.lower(),
            "name": row.name,
            "label": row.label,
            "image_id": image_id,
            "category_id": first[row.level] + row.label if table is None else int(table[row.label]),
            "bbox": bboxes[row.index],
            "score": row.score,
        }
        if encoded is not None:
            entry["segmentation"] = encoded[row.index]
        found.append(entry)
    return found


def _warn_of_ids(method: str, field: str) -> None:
    warnings.warn(
        f"Prediction.{method}(ids_per_level=True) gives objects and parts the same numbers in {field}; it will go in "
        "0.4. Every row has `level` and `label` besides",
        DeprecationWarning,
        stacklevel=4,
    )


def columns_of_coco(rows: Sequence[Mapping[str, Any]], *, image_size: tuple[int, int]) -> dict[str, Any]:
    """Fields of a `Prediction`, of what `to_coco` wrote; a row without `label` has it in `category_id`."""
    for i, entry in enumerate(rows):
        missing = [key for key in ("id", "name", "level", "bbox", "score", "category_id") if key not in entry]
        if missing:
            raise ValueError(f"result {i} has no {missing}; it has {sorted(entry)}; was it written by to_coco()?")
    row_of = {entry["id"]: i for i, entry in enumerate(rows)}
    for i, entry in enumerate(rows):
        if entry["level"] not in ("object", "part"):
            raise ValueError(f"level of result {i} must be 'object' or 'part', got {entry['level']!r}")
        if entry.get("parent_id") is not None and entry["parent_id"] not in row_of:
            raise ValueError(f"result {i} has parent_id {entry['parent_id']}, which is the id of no result")
    boxes = torch.tensor([entry["bbox"] for entry in rows], dtype=torch.float64).reshape(-1, 4)
    with_masks = all("segmentation" in entry for entry in rows)
    numbered = len(row_of) == len(rows) and all(type(entry["id"]) is int for entry in rows)
    return {
        "boxes": torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).float(),
        "masks": _decode_masks([entry["segmentation"] for entry in rows], image_size) if with_masks else None,
        "scores": torch.tensor([entry["score"] for entry in rows], dtype=torch.float32),
        "labels": torch.tensor([entry.get("label", entry["category_id"]) for entry in rows], dtype=torch.long),
        "names": [entry["name"] for entry in rows],
        "level": torch.tensor([Level[entry["level"].upper()] for entry in rows], dtype=torch.long),
        "parent": torch.tensor([row_of.get(entry.get("parent_id"), -1) for entry in rows], dtype=torch.long),
        "ids": torch.tensor([entry["id"] for entry in rows], dtype=torch.long) if numbered else None,
    }


def _encode_masks(masks: Tensor) -> list[RunLengths]:
    """(N, H, W) bool -> COCO run lengths with text counts."""
    encoded: list[RunLengths] = []
    for mask in masks.cpu().numpy():
        entry = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        encoded.append({"size": [int(side) for side in entry["size"]], "counts": entry["counts"].decode("ascii")})
    return encoded


def _decode_masks(encoded: Sequence[Mapping[str, Any]], image_size: tuple[int, int]) -> Tensor:
    masks = np.zeros((len(encoded), *image_size), dtype=bool)
    for i, entry in enumerate(encoded):
        if tuple(entry["size"]) != tuple(image_size):
            raise ValueError(f"mask {i} has size {entry['size']}, but the image is {list(image_size)} (height, width)")
        if fault := run_length_fault(entry):
            raise ValueError(f"mask {i}: {fault}")
        masks[i] = rle.decode({"size": entry["size"], "counts": entry["counts"].encode("ascii")}).astype(bool)
    return torch.from_numpy(masks)


def to_supervision(prediction: Prediction, *, ids_per_level: bool) -> supervision.Detections:
    """See `Prediction.to_supervision`."""
    import supervision

    if ids_per_level:
        _warn_of_ids("to_supervision", "class_id")
    rows = list(prediction)
    classes = prediction.labels.cpu().numpy() if ids_per_level else np.array(_classes(prediction), dtype=np.int64)
    return supervision.Detections(
        xyxy=prediction.boxes.cpu().numpy().reshape(-1, 4),
        mask=None if prediction.masks is None else prediction.masks.cpu().numpy(),
        confidence=prediction.scores.cpu().numpy(),
        class_id=classes,
        data={
            "class_name": np.array(prediction.names, dtype=str),
            "level": prediction.level.cpu().numpy(),
            "label": prediction.labels.cpu().numpy(),
            "id": np.array([row.id for row in rows], dtype=np.int64),
            "parent_id": np.array([0 if row.parent is None else row.parent.id for row in rows], dtype=np.int64),
            "parent": prediction.parent.cpu().numpy(),
        },
    )


def _classes(prediction: Prediction) -> list[int]:
    """The number of each row's name: object names, then those of parts, each as it comes first in the vocabulary."""
    vocabulary, first = prediction.vocabulary, first_part_id(prediction)
    names = ([], []) if vocabulary is None else (vocabulary.object_names, vocabulary.part_names)
    number: dict[tuple[Level, str], int] = {}
    for level, start in ((Level.OBJECT, 0), (Level.PART, first)):
        for label, name in enumerate(names[level]):
            number.setdefault((level, name), start + label)
    for row in sorted(prediction, key=lambda row: row.label):  # of a vocabulary that is not known
        number.setdefault((row.level, row.name), row.label + (first if row.is_part else 0))
    return [number[row.level, row.name] for row in prediction]


def to_pandas(prediction: Prediction) -> pandas.DataFrame:
    """See `Prediction.to_pandas`."""
    try:
        import pandas
    except ImportError as error:
        raise ImportError("to_pandas() needs pandas, which partglee does not: pip install pandas") from error
    rows = list(prediction)
    boxes = prediction.boxes.cpu().numpy()
    masks = None if prediction.masks is None else prediction.masks.flatten(1).sum(1).tolist()
    parents = [row.parent for row in rows]
    return pandas.DataFrame(
        {
            "id": [row.id for row in rows],
            "level": [row.level.name.lower() for row in rows],
            "name": [row.name for row in rows],
            "score": [row.score for row in rows],
            **{name: boxes[:, side] for side, name in enumerate(("xmin", "ymin", "xmax", "ymax"))},
            "area": pandas.array([None] * len(rows) if masks is None else masks, dtype="Int64"),
            "parent_id": pandas.array([None if parent is None else parent.id for parent in parents], dtype="Int64"),
            "parent_name": [None if parent is None else parent.name for parent in parents],
        }
    )


def crop(prediction: Prediction, row: int, *, margin: float, cut_out: bool) -> Image.Image:
    """See `Prediction.crop`."""
    if prediction.image is None:
        raise ValueError("the prediction has no image to crop from; set .image, (H, W, 3) uint8 RGB")
    if cut_out and prediction.masks is None:
        raise ValueError("the prediction has boxes alone; cut_out needs masks")
    if not margin >= 0:
        raise ValueError(f"margin must not be negative, got {margin}")
    height, width = prediction.image_size
    left, top, right, bottom = prediction.boxes[row].double().tolist()
    more = margin * (right - left), margin * (bottom - top)
    left, top = max(0, int(np.floor(left - more[0]))), max(0, int(np.floor(top - more[1])))
    right, bottom = min(width, int(np.ceil(right + more[0]))), min(height, int(np.ceil(bottom + more[1])))
    if right <= left or bottom <= top:
        raise ValueError(f"row {row} ({prediction.names[row]!r}) has no pixel of the image in its box")
    window = slice(top, bottom), slice(left, right)
    pixels = prediction.image[window]
    if not cut_out or prediction.masks is None:
        return Image.fromarray(pixels)
    alpha = prediction.masks[row][window].cpu().numpy().astype(np.uint8) * 255
    return Image.fromarray(np.dstack([pixels, alpha]))
