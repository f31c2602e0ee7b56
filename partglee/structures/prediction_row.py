"""One row of a prediction, with what belongs to it as attributes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

    from partglee.structures.prediction import Prediction


class Level(IntEnum):
    """Whether a row is an object or a part."""

    OBJECT = 0
    PART = 1


@dataclass(frozen=True, eq=False, repr=False)
class PredictionRow:
    """An object or a part: a view, which changes with its prediction."""

    prediction: Prediction
    index: int  # of the row

    @property
    def id(self) -> int:
        """What it is called outside; stays when rows are selected."""
        assert self.prediction.ids is not None  # the prediction has made them
        return int(self.prediction.ids[self.index])

    @property
    def name(self) -> str:
        return self.prediction.names[self.index]

    @property
    def score(self) -> float:
        """In [0, 1]."""
        return float(self.prediction.scores[self.index])

    @property
    def label(self) -> int:
        """Column in the vocabulary's objects or parts."""
        return int(self.prediction.labels[self.index])

    @property
    def level(self) -> Level:
        """`Level.OBJECT` or `Level.PART`."""
        return Level(int(self.prediction.level[self.index]))

    @property
    def is_part(self) -> bool:
        return self.level == Level.PART

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom in pixels."""
        left, top, right, bottom = self.prediction.boxes[self.index].tolist()
        return left, top, right, bottom

    @property
    def mask(self) -> Tensor | None:
        """(H, W) bool; None without masks."""
        return None if self.prediction.masks is None else self.prediction.masks[self.index]

    @property
    def parent(self) -> PredictionRow | None:
        """The object of a part; None for objects, and for parts whose object is not known."""
        row = int(self.prediction.parent[self.index])
        return None if row < 0 else PredictionRow(self.prediction, row)

    @property
    def parts(self) -> list[PredictionRow]:
        """Parts of an object, best score first; none of a part."""
        if self.is_part:
            return []
        return [PredictionRow(self.prediction, row) for row in self.prediction.parts_of(self.index)]

    def crop(self, *, margin: float = 0.0, cut_out: bool = False) -> Image:
        """The image inside the box; see `Prediction.crop`."""
        return self.prediction.crop(self.index, margin=margin, cut_out=cut_out)

    def __repr__(self) -> str:
        left, top, right, bottom = (round(side) for side in self.box)
        parts = f", {len(self.parts)} part{'s' * (len(self.parts) != 1)}" if not self.is_part else ""
        parent = f", of {self.parent.name}" if self.parent is not None else ""
        return (
            f"{self.level.name.lower()} {self.name!r} {self.score:.2f} (row {self.index}, id {self.id}, "
            f"box {left} {top} {right} {bottom}{parts}{parent})"
        )
