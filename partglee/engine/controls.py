"""Answers to referring expressions that need no reading: what the numbers of a model are to be compared with.

Constant answers (nothing, the whole image, the mean of training masks), and a model that is asked about one image what
was written of another. They are `partglee.engine.answerers`, scored by the same loop and protocol as models.

G the side of the grid on which masks are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from partglee.data.records import ImageRecord, Records
from partglee.data.segmentation import decode
from partglee.engine.answerers import Answer, AnswersExpressions
from partglee.structures import Grounding, Level, Prediction

GRID = 64
_SHARES = np.linspace(0.02, 0.9, 45)


class ConstantAnswer:
    """The same mask for whatever is asked of whatever image.

    Args:
        mask: (G, G) bool, brought to the size of the image; None or empty: nothing is meant.
    """

    def __init__(self, mask: NDArray[np.bool_] | None = None) -> None:
        self.mask = None if mask is None or not mask.any() else mask

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> list[Grounding]:
        """One answer for each expression about an (H, W, 3) image."""
        size = (image.shape[0], image.shape[1])
        if self.mask is None:
            nothing = Prediction.empty(image_size=size)
            return [Grounding.of(nothing, expression=text, no_target_score=1.0) for text in expressions]
        mask = np.asarray(Image.fromarray(self.mask).resize(size[::-1], Image.Resampling.NEAREST))
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1] if len(rows) else [0, 0, 0, 0]
        found = Prediction(
            boxes=torch.tensor([box], dtype=torch.float32),
            masks=torch.from_numpy(mask.copy())[None],
            scores=torch.ones(1),
            labels=torch.zeros(1, dtype=torch.long),
            names=[""],
            level=torch.tensor([Level.OBJECT]),
            parent=torch.tensor([-1]),
            image_size=size,
        )
        return [Grounding.of(found, expression=text, no_target_score=0.0) for text in expressions]


class AskedOfAnother:
    """A model that is asked about each image what was written of another one.

    The expressions of all images, in order, are moved on by half of them, so that each is asked once and none, but
    those of the middle image of an odd number, of its own image.

    Args:
        answerer: the model.
        records: of the data set, whose images are asked about in this order.
    """

    def __init__(self, answerer: AnswersExpressions, records: Iterable[ImageRecord]) -> None:
        self.answerer = answerer
        texts = [said.text for record in records for said in record.expressions]
        half = len(texts) // 2
        self._texts = iter([*texts[half:], *texts[:half]])

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> Sequence[Answer]:
        """One answer for each expression; what it says is that of another image's.

        Raises:
            ValueError: when more is asked than the records have.
        """
        asked = list(islice(self._texts, len(expressions)))
        if len(asked) < len(expressions):
            raise ValueError("more expressions are asked than the records have; make a new AskedOfAnother for each run")
        return self.answerer.answer(image, asked)


def mean_mask(records: Records, rows: Iterable[int]) -> NDArray[np.bool_]:
    """The best (G, G) constant mask for the expressions of some images: their mean, cut where its mean IoU is largest.

    Expressions that mean nothing do not count. Where no expression means anything, the mask is empty.
    """
    masks = [mask for row in rows for mask in _masks(records[row])]
    if not masks:
        return np.zeros((GRID, GRID), bool)
    stacked = np.stack(masks)
    mean = stacked.mean(axis=0)
    cuts = [mean >= share * mean.max() for share in _SHARES]
    return max(cuts, key=lambda cut: _mean_iou(stacked, cut))


def _masks(record: ImageRecord) -> Iterable[NDArray[np.bool_]]:
    """(G, G) what each expression of an image means."""
    for said in record.expressions:
        targets = [t for t in record.targets(said) if t.segmentation is not None and not t.crowd]
        if not targets:
            continue
        united: Any = np.zeros((record.height, record.width), bool)
        for target in targets:
            united |= decode(target.segmentation, record.height, record.width)
        yield np.asarray(Image.fromarray(united).resize((GRID, GRID), Image.Resampling.NEAREST))


def _mean_iou(masks: NDArray[np.bool_], one: NDArray[np.bool_]) -> float:
    inter = (masks & one).sum(axis=(1, 2))
    union = (masks | one).sum(axis=(1, 2))
    return float((inter / np.maximum(union, 1)).mean())
