"""What was found in one image: objects, their parts, and which object each part belongs to.

N rows (objects and parts together), (H, W) the image size in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from partglee.basics.files import JSON_ERRORS
from partglee.basics.masks import run_length_fault

if TYPE_CHECKING:
    import supervision
    from PIL.Image import Image


class Level(IntEnum):
    """Whether a row is an object or a part."""

    OBJECT = 0
    PART = 1


@dataclass(kw_only=True, eq=False, repr=False)
class Prediction:
    """Objects and parts found in one image. The rows are in no particular order.

    Raises:
        ValueError: when lengths or shapes differ, a part's parent is not an object row, or an object has a parent.
    """

    boxes: Tensor  # (N, 4) float32 xyxy in pixels
    scores: Tensor  # (N,) float32 in [0, 1]
    labels: Tensor  # (N,) long, column in the vocabulary of the row's level
    names: list[str]  # N
    level: Tensor  # (N,) long, Level.OBJECT or Level.PART
    parent: Tensor  # (N,) long, row of the object a part belongs to; -1 for objects, and for parts without a known one
    image_size: tuple[int, int]  # (H, W)
    masks: Tensor | None = None  # (N, H, W) bool
    image: NDArray[np.uint8] | None = None  # (H, W, 3) RGB, for drawing
    file_name: str | None = None

    def __post_init__(self) -> None:
        self.boxes = torch.as_tensor(self.boxes, dtype=torch.float32)
        self.scores = torch.as_tensor(self.scores, dtype=torch.float32)
        self.labels = torch.as_tensor(self.labels, dtype=torch.long)
        self.level = torch.as_tensor(self.level, dtype=torch.long)
        self.parent = torch.as_tensor(self.parent, dtype=torch.long)
        self.names = list(self.names)
        self.image_size = (int(self.image_size[0]), int(self.image_size[1]))
        self._check_shapes()
        self._check_hierarchy()

    def _check_shapes(self) -> None:
        rows = len(self.names)
        height, width = self.image_size
        if height < 1 or width < 1:
            raise ValueError(f"image_size must be (height, width) with both >= 1, got {self.image_size}")
        if tuple(self.boxes.shape) != (rows, 4):
            raise ValueError(f"boxes must be ({rows}, 4) xyxy, one row for each name, got {tuple(self.boxes.shape)}")
        for field in ("scores", "labels", "level", "parent"):
            shape = tuple(getattr(self, field).shape)
            if shape != (rows,):
                raise ValueError(f"{field} must be ({rows},), one entry for each name, got {shape}")
        if not (torch.isfinite(self.boxes).all() and torch.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite, got NaN or infinity; check the image and the weights")
        if self.masks is not None and (
            tuple(self.masks.shape) != (rows, height, width) or self.masks.dtype != torch.bool
        ):
            raise ValueError(
                f"masks must be ({rows}, {height}, {width}) bool, got {tuple(self.masks.shape)} {self.masks.dtype}; "
                "resize and threshold them before"
            )
        if self.image is not None and (self.image.shape != (height, width, 3) or self.image.dtype != np.uint8):
            raise ValueError(
                f"image must be ({height}, {width}, 3) uint8 RGB, got {self.image.shape} {self.image.dtype}"
            )

    def _check_hierarchy(self) -> None:
        levels, parents = self.level.tolist(), self.parent.tolist()
        for row, (level, parent) in enumerate(zip(levels, parents, strict=True)):
            what = f"row {row} ({self.names[row]!r})"
            if level not in (Level.OBJECT, Level.PART):
                raise ValueError(f"level of {what} must be 0 (object) or 1 (part), got {level}")
            if level == Level.OBJECT and parent != -1:
                raise ValueError(f"{what} is an object, so its parent must be -1, got {parent}")
            if level == Level.PART and parent != -1 and not (0 <= parent < len(levels) and levels[parent] == 0):
                raise ValueError(f"parent of {what} must be the row of an object, or -1 when unknown, got {parent}")

    # -- reading -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        height, width = self.image_size
        where = f", file_name={self.file_name!r}" if self.file_name else ""
        masks = "with masks" if self.masks is not None else "boxes only"
        return f"Prediction({self._counts()}, {masks}, image {width}x{height}{where})"

    def objects(self) -> list[int]:
        """Rows of the objects, best score first."""
        return self._by_score(self.level == Level.OBJECT)

    def parts_of(self, row: int) -> list[int]:
        """Rows of the parts of the object in `row`, best score first.

        Raises:
            IndexError: when there is no such row.
            ValueError: when the row is a part.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"there is no row {row} in {len(self)} rows; objects() lists the object rows")
        if self.level[row] != Level.OBJECT:
            raise ValueError(
                f"row {row} ({self.names[row]!r}) is a part, without parts of its own; objects() lists object rows"
            )
        return self._by_score(self.parent == row)

    def parts_without_object(self) -> list[int]:
        """Rows of the parts whose object is not known, best score first."""
        return self._by_score((self.level == Level.PART) & (self.parent < 0))

    def _by_score(self, chosen: Tensor) -> list[int]:
        rows = chosen.nonzero().flatten()
        order = torch.sort(self.scores[rows], descending=True, stable=True).indices
        return [int(row) for row in rows[order]]

    def _counts(self) -> str:
        objects = int((self.level == Level.OBJECT).sum())
        parts = len(self) - objects
        return f"{objects} object{'s' * (objects != 1)}, {parts} part{'s' * (parts != 1)}"

    def tree(self) -> str:
        """Objects with their parts and scores as text, one line for each."""
        lines = [f"{self.file_name or 'image'}: {self._counts()}"]
        groups = [(self._line(row), self.parts_of(row)) for row in self.objects()]
        if self.parts_without_object():
            groups.append(("(object not known)", self.parts_without_object()))
        for title, parts in groups:
            lines.append(title)
            lines += [f"{'└─' if row == parts[-1] else '├─'} {self._line(row)}" for row in parts]
        return "\n".join(lines)

    def _line(self, row: int) -> str:
        return f"{self.names[row]} {float(self.scores[row]):.2f}"

    # -- choosing ------------------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int] | Tensor) -> Prediction:
        """Keep some rows, in the order given. Parts whose object is dropped go with it; parents are re-indexed.

        Args:
            rows: row numbers, or an (N,) bool tensor.

        Raises:
            IndexError: for a row that is not there.
            ValueError: for a row given twice, or a bool tensor of another length.
        """
        if isinstance(rows, Tensor) and rows.dtype == torch.bool:
            if tuple(rows.shape) != (len(self),):
                raise ValueError(f"a bool selection must be ({len(self)},), got {tuple(rows.shape)}")
            rows = rows.nonzero().flatten()
        chosen = [int(row) for row in rows]
        for row in chosen:
            if not 0 <= row < len(self):
                raise IndexError(f"there is no row {row} in {len(self)} rows")
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"rows to select must differ, got {chosen}")
        parents = self.parent.tolist()
        kept = set(chosen)
        chosen = [row for row in chosen if parents[row] < 0 or parents[row] in kept]
        new_row = {row: i for i, row in enumerate(chosen)}
        index = torch.tensor(chosen, dtype=torch.long, device=self.boxes.device)
        return replace(
            self,
            boxes=self.boxes[index],
            masks=None if self.masks is None else self.masks[index],
            scores=self.scores[index],
            labels=self.labels[index],
            names=[self.names[row] for row in chosen],
            level=self.level[index],
            parent=torch.tensor([new_row.get(parents[row], -1) for row in chosen], dtype=torch.long).to(index.device),
        )

    def filter(self, score_threshold: float, *, part_score_threshold: float | None = None) -> Prediction:
        """Keep rows with at least this score; objects below it take their parts along.

        Args:
            score_threshold: for objects, and for parts unless they have their own.
            part_score_threshold: for parts.
        """
        part_threshold = score_threshold if part_score_threshold is None else part_score_threshold
        threshold = torch.where(self.level == Level.OBJECT, float(score_threshold), float(part_threshold))
        return self.select(self.scores >= threshold)

    def to(self, device: torch.device | str) -> Prediction:
        """The same prediction with its tensors on a device."""
        fields = ("boxes", "scores", "labels", "level", "parent", "masks")
        return replace(
            self, **{name: getattr(self, name).to(device) for name in fields if getattr(self, name) is not None}
        )

    @classmethod
    def empty(cls, *, image_size: tuple[int, int], file_name: str | None = None) -> Prediction:
        """A prediction without rows."""
        none = torch.zeros(0, dtype=torch.long)
        return cls(
            boxes=torch.zeros(0, 4),
            masks=torch.zeros(0, *image_size, dtype=torch.bool),
            scores=torch.zeros(0),
            labels=none,
            names=[],
            level=none,
            parent=none,
            image_size=image_size,
            file_name=file_name,
        )

    # -- other formats -------------------------------------------------------------------------------------------

    def to_coco(
        self,
        *,
        image_id: int | str = 0,
        object_category_ids: Sequence[int] | Mapping[int, int] | None = None,
        part_category_ids: Sequence[int] | Mapping[int, int] | None = None,
        first_id: int = 1,
    ) -> list[dict[str, Any]]:
        """COCO results, one dict for each row, in row order.

        Besides COCO's `image_id`, `category_id`, `bbox` (xywh), `score` and `segmentation` (RLE, text counts) each has
        `id`, `parent_id` (the `id` of its object, None without), `level` ("object" or "part") and `name`.

        Args:
            object_category_ids, part_category_ids: category id of each label; None = the label itself.
            first_id: `id` of the first row. COCO tools take 0 for "no annotation", so ids start at 1.
        """
        ids = {Level.OBJECT: object_category_ids, Level.PART: part_category_ids}
        boxes = self.boxes.double()
        bboxes = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], dim=1).tolist()
        encoded = None if self.masks is None else _encode_masks(self.masks)
        rows = []
        for row, (label, level, parent, score) in enumerate(
            zip(self.labels.tolist(), self.level.tolist(), self.parent.tolist(), self.scores.tolist(), strict=True)
        ):
            table = ids[Level(level)]
            entry = {
                "id": first_id + row,
                "parent_id": None if parent < 0 else first_id + parent,
                "level": Level(level).name.lower(),
                "name": self.names[row],
                "image_id": image_id,
                "category_id": label if table is None else int(table[label]),
                "bbox": bboxes[row],
                "score": score,
            }
            if encoded is not None:
                entry["segmentation"] = encoded[row]
            rows.append(entry)
        return rows

    @classmethod
    def from_coco(
        cls,
        rows: Iterable[Mapping[str, Any]],
        *,
        image_size: tuple[int, int],
        file_name: str | None = None,
        image: NDArray[np.uint8] | None = None,
    ) -> Prediction:
        """Read what `to_coco` wrote without category ids (labels are the category ids).

        Raises:
            ValueError: for a row without a needed key, or a parent id that no row has.
        """
        rows = list(rows)
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
        return cls(
            boxes=torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1).float(),
            masks=_decode_masks([entry["segmentation"] for entry in rows], image_size) if with_masks else None,
            scores=torch.tensor([entry["score"] for entry in rows], dtype=torch.float32),
            labels=torch.tensor([entry["category_id"] for entry in rows], dtype=torch.long),
            names=[entry["name"] for entry in rows],
            level=torch.tensor([Level[entry["level"].upper()] for entry in rows], dtype=torch.long),
            parent=torch.tensor([row_of.get(entry.get("parent_id"), -1) for entry in rows], dtype=torch.long),
            image_size=image_size,
            image=image,
            file_name=file_name,
        )

    def to_dict(self, *, image_id: int | str | None = None) -> dict[str, Any]:
        """`file_name`, `height`, `width` and the `results` of `to_coco`; the image itself is not part of it.

        Args:
            image_id: of each result; None = the file name, or 0 without one.
        """
        height, width = self.image_size
        results = self.to_coco(image_id=self.file_name or 0 if image_id is None else image_id)
        return {"file_name": self.file_name, "height": height, "width": width, "results": results}

    def to_json(self) -> str:
        """One line of a JSON Lines file: `to_dict` as text."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, line: str) -> Prediction:
        """Read a line written by `to_json`; ValueError when it is not one."""
        try:
            entry = json.loads(line)
            size = (entry["height"], entry["width"])
            results, file_name = entry["results"], entry["file_name"]
        except (*JSON_ERRORS, KeyError, TypeError) as error:
            raise ValueError(f"expected a line written by Prediction.to_json(), got {line!r:.80} ({error})") from error
        return cls.from_coco(results, image_size=size, file_name=file_name)

    def to_supervision(self) -> supervision.Detections:
        """As `supervision.Detections`; its `data` has `class_name`, `level` and `parent`.

        `class_id` is the label, which counts objects and parts separately.
        """
        import supervision

        return supervision.Detections(
            xyxy=self.boxes.cpu().numpy().reshape(-1, 4),
            mask=None if self.masks is None else self.masks.cpu().numpy(),
            confidence=self.scores.cpu().numpy(),
            class_id=self.labels.cpu().numpy(),
            data={
                "class_name": np.array(self.names, dtype=str),
                "level": self.level.cpu().numpy(),
                "parent": self.parent.cpu().numpy(),
            },
        )

    def draw(self, image: Any = None, **options: Any) -> Image:
        """Draw the objects and their parts; see `partglee.visualization.draw_prediction` for the options.

        Args:
            image: (H, W, 3) uint8 RGB or a PIL image; None = the prediction's own `image`.
        """
        # The one import upwards: people who want a picture hold a Prediction only.
        from partglee.visualization import draw_prediction

        return draw_prediction(self, image, **options)


def _encode_masks(masks: Tensor) -> list[dict[str, Any]]:
    """(N, H, W) bool -> COCO run lengths with text counts."""
    encoded = []
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
