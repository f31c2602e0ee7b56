"""What a referring expression means in one image.

N rows, (H, W) the image size in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from partglee.structures.prediction import Prediction
from partglee.structures.prediction_formats import PredictionLine
from partglee.structures.prediction_row import Level


@dataclass(kw_only=True, eq=False, repr=False)
class Grounding(Prediction):
    """The instances that an expression means, one a row: any number of them, or none."""

    expression: str = ""
    no_target_score: float = 0.0  # in [0, 1], that nothing is meant

    @classmethod
    def of(cls, prediction: Prediction, *, expression: str, no_target_score: float) -> Grounding:
        """A prediction as the answer to an expression."""
        rows = {field.name: getattr(prediction, field.name) for field in fields(prediction)}
        return cls(**rows, expression=expression, no_target_score=no_target_score)

    @property
    def no_target(self) -> bool:
        """Nothing in the image is meant."""
        return len(self) == 0

    @property
    def score(self) -> float:
        """In [0, 1], that something is meant."""
        return 1 - self.no_target_score

    @property
    def mask(self) -> Tensor:
        """(H, W) bool, the union of all rows.

        Raises:
            ValueError: without masks.
        """
        if self.masks is None:
            raise ValueError("this answer holds boxes alone; its rows must have masks for a union of them")
        return self.masks.any(dim=0)

    def merged(self) -> Prediction:
        """The answer as one row: all masks together, the box around all boxes, the best score; no row for no target."""
        if len(self) == 0:
            return Prediction.empty(image_size=self.image_size, file_name=self.file_name)
        return Prediction(
            boxes=torch.cat((self.boxes[:, :2].amin(dim=0), self.boxes[:, 2:].amax(dim=0)))[None],
            masks=None if self.masks is None else self.mask[None],
            scores=self.scores.max()[None],
            labels=torch.zeros(1, dtype=torch.long),
            names=[self.expression],
            level=torch.tensor([Level.OBJECT]),
            parent=torch.tensor([-1]),
            image_size=self.image_size,
            file_name=self.file_name,
        )

    def to_dict(self, *, image_id: int | str | None = None) -> PredictionLine:
        """As of `Prediction.to_dict`, with the whole answer as the one entry of `results` (`merged`), which is what is
        scored, and its rows one by one under `instances`; besides, `text`, `no_target` and `no_target_score`."""
        return {
            **self.merged().to_dict(image_id=image_id),
            "text": self.expression,
            "no_target": self.no_target,
            "no_target_score": self.no_target_score,
            "instances": super().to_dict(image_id=image_id)["results"],
        }
