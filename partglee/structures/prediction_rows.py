"""The rows of a prediction: objects, their parts, and which object each part belongs to.

N rows (objects and parts together), (H, W) the image size in pixels.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from partglee.structures.prediction_row import Level, PredictionRow

if TYPE_CHECKING:
    from partglee.structures.vocabulary import Vocabulary


@dataclass(kw_only=True, eq=False, repr=False)
class PredictionRows:
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
    vocabulary: Vocabulary | None = None  # that was looked for; `labels` are its columns
    # (N,) long, unlike each other: what a row is called outside, which stays when rows are selected; None = 1 to N
    ids: Tensor | None = None

    def __post_init__(self) -> None:
        self.boxes = torch.as_tensor(self.boxes, dtype=torch.float32)
        self.scores = torch.as_tensor(self.scores, dtype=torch.float32)
        self.labels = torch.as_tensor(self.labels, dtype=torch.long)
        self.level = torch.as_tensor(self.level, dtype=torch.long)
        self.parent = torch.as_tensor(self.parent, dtype=torch.long)
        self.names = list(self.names)
        if self.ids is None:
            self.ids = torch.arange(1, len(self.names) + 1, device=self.boxes.device)
        self.ids = torch.as_tensor(self.ids, dtype=torch.long)
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
        for field in ("scores", "labels", "level", "parent", "ids"):
            shape = tuple(getattr(self, field).shape)
            if shape != (rows,):
                raise ValueError(f"{field} must be ({rows},), one entry for each name, got {shape}")
        numbers = self._ids.tolist()
        if len(set(numbers)) < len(numbers):
            raise ValueError(f"ids must be unlike each other, got {numbers}")
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

    def __iter__(self) -> Iterator[PredictionRow]:
        return (self._row(row) for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int) -> PredictionRow: ...
    @overload
    def __getitem__(self, rows: slice | Sequence[int] | Tensor | NDArray[np.generic]) -> Self: ...

    def __getitem__(self, rows: int | slice | Sequence[int] | Tensor | NDArray[np.generic]) -> PredictionRow | Self:
        """One row with its attributes, or a prediction of some rows: a slice, row numbers, or (N,) bool; see `select`.

        Raises:
            IndexError: for a row that is not there.
            TypeError: for something else.
        """
        if isinstance(rows, slice):
            return self.select(range(len(self))[rows])
        given = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        if isinstance(given, (np.ndarray, np.integer, int)) or (
            isinstance(given, Sequence) and not isinstance(given, (str, bytes))
        ):
            array = np.asarray(given)
            if array.dtype.kind in "iu" and array.ndim == 0:
                if not -len(self) <= array < len(self):
                    raise IndexError(f"there is no row {array} in {len(self)} rows")
                return self._row(int(array) % len(self))
            if array.ndim == 1 and (array.dtype.kind in "iub" or not array.size):
                return self.select(torch.as_tensor(array if array.size else array.astype(np.int64)))
        raise TypeError(f"expected a row number, a slice, row numbers or a bool for each row, got {rows!r:.60}")

    def __repr__(self) -> str:
        height, width = self.image_size
        found = f": {self._named()}" if len(self) else ""
        where = f", file_name={self.file_name!r}" if self.file_name else ""
        masks = "with masks" if self.masks is not None else "boxes only"
        return f"{type(self).__name__}({self._counts()}{found}; {masks}, image {width}x{height}{where})"

    def _named(self) -> str:
        """ "2 car, person; 3 wheel, door": how often each name, objects first."""
        said = []
        for level in (Level.OBJECT, Level.PART):
            count: dict[str, int] = {}
            for row in self._by_score(self.level == level):
                count[self.names[row]] = count.get(self.names[row], 0) + 1
            listed = [f"{number} {name}" if number > 1 else name for name, number in count.items()]
            said.append(", ".join(listed[:4]) + (", ..." if len(listed) > 4 else ""))
        return "; ".join(filter(None, said))

    @property
    def _ids(self) -> Tensor:
        assert self.ids is not None  # __post_init__ has made them
        return self.ids

    def _row(self, row: int) -> PredictionRow:
        return PredictionRow(self, row)  # type: ignore[arg-type]

    def row_of(self, id: int) -> int:
        """The row that has an id; ids stay what they are when rows are selected.

        Raises:
            KeyError: when no row has it.
        """
        found = (self._ids == id).nonzero().flatten().tolist()
        if not found:
            raise KeyError(f"no row has the id {id}; ids are {self._ids.tolist()}")
        return int(found[0])

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

    def select(self, rows: Sequence[int] | Tensor, *, keep_parts: bool = False) -> Self:
        """Keep some rows, in the order given. Parts whose object is dropped go with it; parents are re-indexed, and
        `ids` stay.

        Args:
            rows: row numbers (negative ones from the end), or an (N,) bool tensor.
            keep_parts: parts stay whose object is dropped; their object is not known then.

        Raises:
            IndexError: for a row that is not there.
            ValueError: for a row given twice, or a bool tensor of another length.
        """
        chosen = self._select(rows, keep_parts=keep_parts)
        if not len(chosen) and (dropped := len(self._select(rows, keep_parts=True))):
            warnings.warn(
                f"the {dropped} chosen rows are parts of objects that are not chosen, and went with them; "
                "select(rows, keep_parts=True) keeps them",
                UserWarning, stacklevel=2,
            )  # fmt: skip
        return chosen

    def _select(self, rows: Sequence[int] | Tensor, *, keep_parts: bool = False) -> Self:
        if isinstance(rows, Tensor) and rows.dtype == torch.bool:
            if tuple(rows.shape) != (len(self),):
                raise ValueError(f"a bool selection must be ({len(self)},), got {tuple(rows.shape)}")
            rows = rows.nonzero().flatten()
        chosen = [int(row) for row in rows]
        for row in chosen:
            if not -len(self) <= row < len(self):
                raise IndexError(f"there is no row {row} in {len(self)} rows")
        chosen = [row % len(self) for row in chosen]
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"rows to select must differ, got {chosen}")
        parents = self.parent.tolist()
        kept = set(chosen)
        if not keep_parts:
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
            ids=self._ids[index],
            parent=torch.tensor([new_row.get(parents[row], -1) for row in chosen], dtype=torch.long).to(index.device),
        )

    def filter(self, score_threshold: float, *, part_score_threshold: float | None = None) -> Self:
        """Keep rows with at least this score; objects below it take their parts along.

        Args:
            score_threshold: for objects, and for parts unless they have their own.
            part_score_threshold: for parts.
        """
        part_threshold = score_threshold if part_score_threshold is None else part_score_threshold
        threshold = torch.where(self.level == Level.OBJECT, float(score_threshold), float(part_threshold))
        return self._select(self.scores >= threshold)

    def to(self, device: torch.device | str) -> Self:
        """The same prediction with its tensors on a device."""
        fields = ("boxes", "scores", "labels", "level", "parent", "masks", "ids")
        return replace(
            self, **{name: getattr(self, name).to(device) for name in fields if getattr(self, name) is not None}
        )
