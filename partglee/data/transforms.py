"""Random geometry and colour of training images.

A `Geometry` is drawn first and then applied: to pixels, boxes and full-size masks by torchvision, and to polygons as
points, which are rasterised at the final size (much faster than resizing bitmaps of the whole image).

H x W the image file, h x w what the sample shows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

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
from partglee.data.segmentation import encode_segmentation
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
        mask = rle.decode(encode_segmentation(moved, self.size, what="an instance")).astype(bool)
        # Mirrored as pixels, not as points: rasterising rounds to one side, and the mask must follow the image exactly.
        return mask[:, ::-1] if self.flip else mask

    def _crop(self, value: Tensor) -> Tensor:
        if self.size != self.resized:
            value = F.crop(value, self.top, self.left, *self.size)
        return F.horizontal_flip(value) if self.flip else value


class Augmentation(Protocol):
    """Draws where an image goes."""

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        """`whole`: nothing of the image may be cropped away."""
        ...


@dataclass(frozen=True, kw_only=True)
class JitterCrop:
    """Large-scale jitter: the image at a random scale, then a random crop where it is larger than `size`.

    Smaller images are padded at the bottom and right when they are batched.
    """

    size: Size
    scale: tuple[float, float]  # of the image that just fits into `size`
    flip: float

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        low, high = self.scale
        if whole:
            low, high = min(low, 1.0), min(high, 1.0)
        factor = rng.uniform(low, high) * min(self.size[0] / source[0], self.size[1] / source[1])
        resized = _scaled(source, factor)
        if whole:  # rounding
            resized = min(resized[0], self.size[0]), min(resized[1], self.size[1])
        size = min(resized[0], self.size[0]), min(resized[1], self.size[1])
        top, left = (int(rng.integers(full - seen + 1)) for full, seen in zip(resized, size, strict=True))
        return Geometry(source, resized, top, left, size, bool(rng.random() < self.flip))


@dataclass(frozen=True, kw_only=True)
class ShortSide:
    """The whole image, its short side at one of the given lengths, its long side not above `max_side`."""

    short_sides: tuple[int, ...]
    max_side: int
    flip: float

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        short = self.short_sides[int(rng.integers(len(self.short_sides)))]
        resized = short_side_size(source, short, self.max_side)
        return Geometry(source, resized, 0, 0, resized, bool(rng.random() < self.flip))


def short_side_size(source: Size, short_side: int, max_side: int) -> Size:
    """Size of an image whose short side becomes `short_side`, unless the long one would exceed `max_side`."""
    return _scaled(source, min(short_side / min(source), max_side / max(source)))


def _scaled(source: Size, factor: float) -> Size:
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
