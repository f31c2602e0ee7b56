"""Geometry and colour of training images, applied.

A `Geometry` is drawn first (`partglee.data.augmentation`) and then applied: to pixels, boxes and full-size masks by
torchvision, and to polygons as points, which are rasterised at the final size (much faster than resizing bitmaps of the
whole image).

H x W the image file, h x w what the sample shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from partglee.basics.names import name_key
from partglee.data.records import Segmentation
from partglee.data.segmentation import encode_segmentation, usable_polygons
from partglee.structures import Vocabulary

Size = tuple[int, int]  # height, width


class Geometry(NamedTuple):
    """Resize, then crop, then perhaps mirror."""

    source: Size  # (H, W)
    resized: Size
    top: int
    left: int
    size: Size  # (h, w) of the crop
    flip: bool

    def image(self, pixels: NDArray[np.uint8]) -> Tensor:
        """(3, h, w) uint8 from the image at any resolution, (., ., 3) uint8 RGB."""
        image = torch.tensor(pixels).permute(2, 0, 1)  # a copy: Pillow's arrays are read-only
        # Contiguous: a view would carry the whole resized image from the worker.
        return self._crop(F.resize(image, list(self.resized), antialias=True)).contiguous()

    def boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, 4) xyxy in the file -> in the crop, clipped to it."""
        wrapped = tv_tensors.BoundingBoxes(torch.from_numpy(boxes), format="XYXY", canvas_size=self.source)  # type: ignore[call-arg]
        # What has no size in its file comes here as it was annotated, over the edge too.
        return self._crop(F.clamp_bounding_boxes(F.resize(wrapped, list(self.resized)))).numpy()

    def mask(self, segmentation: Segmentation) -> NDArray[np.bool_]:
        """(h, w) bool. Polygons are scaled and rasterised, run lengths are decoded and resized to the nearest pixel."""
        if isinstance(segmentation, tuple):
            return self._polygons(segmentation)
        full = rle.decode(encode_segmentation(segmentation, self.source, what="an instance"))
        nearest = F.resize(
            torch.from_numpy(full)[None], list(self.resized), interpolation=InterpolationMode.NEAREST_EXACT
        )
        return self._crop(nearest)[0].bool().numpy()

    def _polygons(self, polygons: Sequence[Sequence[float]]) -> NDArray[np.bool_]:
        scale = np.array([self.resized[1] / self.source[1], self.resized[0] / self.source[0]])
        shift = np.array([self.left, self.top])
        moved = [(np.reshape(polygon, (-1, 2)) * scale - shift).ravel().tolist() for polygon in polygons]
        usable, _ = usable_polygons(moved, self.size, what="an instance", anywhere=True)
        if not usable:
            return np.zeros(self.size, bool)
        mask = rle.decode(rle.merge(rle.frPyObjects(usable, *self.size))).astype(bool)
        # Mirrored as pixels, not as points: rasterising rounds to one side, and the mask must follow the image exactly.
        return mask[:, ::-1] if self.flip else mask

    def _crop(self, value: Tensor) -> Tensor:
        if self.size != self.resized:
            value = F.crop(value, self.top, self.left, *self.size)
        return F.horizontal_flip(value) if self.flip else value


def short_side_size(source: Size, short_side: int, max_side: int) -> Size:
    """Size of an image whose short side becomes `short_side`, unless the long one would exceed `max_side`."""
    return scaled(source, min(short_side / min(source), max_side / max(source)))


def scaled(source: Size, factor: float) -> Size:
    """A size times a factor, in whole pixels of at least one."""
    return max(1, round(source[0] * factor)), max(1, round(source[1] * factor))


def jitter_color(image: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Brightness, contrast and saturation of a (3, h, w) uint8 image times 1 - strength ... 1 + strength each."""
    for change in (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation):
        image = change(image, float(rng.uniform(max(0.0, 1 - strength), 1 + strength)))
    return image


# -- names under a flip ----------------------------------------------------------------------------------------------

_SIDE = re.compile(r"(?<![a-z])(left|right)(?=most(?![a-z])|(?![a-z]))", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left", "LEFT": "RIGHT", "RIGHT": "LEFT"}


def swap_sides(text: str) -> str:
    """Left becomes right and right becomes left, as words, also in "leftmost": "upright" stays."""
    return _SIDE.sub(lambda match: _OTHER.get(match[0], _OTHER[match[0].lower()]), text)


def flipped_labels(vocabulary: Vocabulary) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(Co,), (Cp,) label that each object name and each part column has in the mirror.

    A name whose other side is not in the vocabulary keeps its label.
    """
    rows = {name_key(name): row for row, name in enumerate(vocabulary.object_names)}
    objects = [rows.get(name_key(swap_sides(name)), row) for row, name in enumerate(vocabulary.object_names)]
    pairs = list(zip(vocabulary.part_owner, vocabulary.part_names, strict=True))
    columns = {(owners, name_key(name)): column for column, (owners, name) in enumerate(pairs)}
    parts = [
        columns.get((tuple(sorted(objects[row] for row in owners)), name_key(swap_sides(name))), column)
        for column, (owners, name) in enumerate(pairs)
    ]
    return np.array(objects, np.int64), np.array(parts, np.int64)
