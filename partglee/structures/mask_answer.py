"""One mask for all that a sentence means, as models for any expression answer.

H x W the image.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from partglee.structures.prediction import Prediction
from partglee.structures.prediction_formats import PredictionLine
from partglee.structures.prediction_row import Level

MIN_SHARE = 0.01  # connected pixels that are fewer than this share of the largest piece are no instance
MIN_INSIDE = 0.5  # of an object's pixels, for it to be one of those that are meant


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskAnswer:
    """One mask for everything that an expression means, or the word that it means nothing."""

    expression: str
    mask: Tensor  # (H, W) bool, of the image as it is
    no_target: bool  # nothing in the image is meant
    no_target_score: float  # in [0, 1]
    confidence: float  # in [0, 1], mean probability inside the mask; 0 where it is empty
    pixels: NDArray[np.uint8] = field(repr=False)  # (H, W, 3)
    file_name: str | None = None
    find_objects: Callable[[NDArray[np.uint8]], Prediction] | None = field(default=None, repr=False)

    def __str__(self) -> str:
        """One line: what was asked, and how much of the image it means."""
        found = "nothing" if self.no_target else f"{int(self.mask.sum())} of {self.mask.numel()} pixels"
        return f"{self.expression!r}: {found}, score {self.score:.2f}, confidence {self.confidence:.2f}"

    @property
    def score(self) -> float:
        """In [0, 1], that something is meant."""
        return 1 - self.no_target_score

    @cached_property
    def merged(self) -> Prediction:
        """The mask as a prediction of one row; no row where it is empty."""
        return self._prediction(self.mask[None] if self.mask.any() else self.mask.new_zeros(0, *self.mask.shape))

    @cached_property
    def instances(self) -> Prediction:
        """The mask in pieces, one a row: objects of the predictor's object model that lie in it, where there is one and
        it finds any; else pixels that hang together, without specks."""
        if not self.mask.any():
            return self.merged
        if self.find_objects is not None:
            objects = self.find_objects(self.pixels)
            if objects.masks is not None and (rows := self._rows_inside(objects, objects.masks.cpu())):
                return objects.select(rows)
        from scipy import ndimage  # type: ignore[import-untyped, unused-ignore]  # late: few answers are taken apart

        labels, count = ndimage.label(self.mask.numpy(), structure=np.ones((3, 3), int))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        kept = [i for i in np.argsort(-sizes, kind="stable") if sizes[i] >= MIN_SHARE * sizes.max()]
        return self._prediction(torch.from_numpy(np.stack([labels == i + 1 for i in kept])))

    def draw(
        self,
        image: NDArray[np.uint8] | Image.Image | None = None,
        *,
        caption: str | None = None,
        masks: bool = True,
        boxes: bool = True,
        labels: bool = True,
        scores: bool = True,
        scale: float | None = 1.0,
        font_path: str | None = None,
    ) -> Image.Image:
        """The image with the mask and the expression on it; an expression that means nothing is written above it.

        Args:
            image: in place of the one that was predicted on.
            caption: None = the expression, and that it means nothing.
            masks, boxes, labels, scores, scale, font_path: as for `Prediction.draw`.
        """
        nothing = f": nothing ({self.no_target_score:.2f})" if self.no_target else ""
        return self.merged.draw(
            self.pixels if image is None else image, caption=caption or f"{self.expression}{nothing}", masks=masks,
            boxes=boxes, labels=labels, scores=scores, scale=scale, font_path=font_path,
        )  # fmt: skip

    def to_dict(self, *, image_id: int | str | None = None) -> PredictionLine:
        """As of `Prediction.to_dict`, the mask as the one entry of `results` (which is scored), its pieces under
        `instances`; besides `text`, `no_target` and `no_target_score`."""
        return {
            **self.merged.to_dict(image_id=image_id),
            "text": self.expression,
            "no_target": self.no_target,
            "no_target_score": self.no_target_score,
            "instances": self.instances.to_dict(image_id=image_id)["results"],
        }

    def _rows_inside(self, objects: Prediction, masks: Tensor) -> list[int]:
        """Objects that have most of their pixels in the mask."""
        inside = [(row, int(masks[row].sum()), int((masks[row] & self.mask).sum())) for row in objects.objects()]
        return [row for row, area, shared in inside if area and shared >= MIN_INSIDE * area]

    def _prediction(self, masks: Tensor) -> Prediction:
        """(N, H, W) non-empty masks as objects that are called by the expression."""
        count = len(masks)
        height, width = self.mask.shape
        boxes = torch.zeros(count, 4)
        if count:
            from torchvision.ops import masks_to_boxes  # a second to import, which nothing else here needs

            boxes = masks_to_boxes(masks)
            boxes[:, 2:] += 1  # corners lie on the outer edges of pixels
        return Prediction(
            boxes=boxes,
            masks=masks.reshape(count, height, width),
            scores=torch.full((count,), self.score * self.confidence),
            labels=torch.zeros(count, dtype=torch.long),
            names=[self.expression] * count,
            level=torch.full((count,), int(Level.OBJECT)),
            parent=torch.full((count,), -1),
            image_size=(height, width),
            file_name=self.file_name,
            image=self.pixels,
        )
