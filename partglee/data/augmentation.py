"""Where training images go: what draws the geometry of each, by the name that `INPUT.TRAIN.MODE` gives.

A project adds its own by `register_augmentation(name, build)`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from fvcore.common.config import CfgNode as CN

from partglee.basics.names import nearest
from partglee.data.transforms import Geometry, Size, scaled, short_side_size


class Augmentation(Protocol):
    """Draws where an image goes."""

    @property
    def canvas(self) -> Size | None:
        """(height, width) that the images of a batch are at least padded to; None: as large as they need."""
        ...

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

    @property
    def canvas(self) -> Size:
        return self.size

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        low, high = self.scale
        if whole:
            low, high = min(low, 1.0), min(high, 1.0)
        factor = rng.uniform(low, high) * min(self.size[0] / source[0], self.size[1] / source[1])
        resized = scaled(source, factor)
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

    @property
    def canvas(self) -> None:
        return None

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        short = self.short_sides[int(rng.integers(len(self.short_sides)))]
        resized = short_side_size(source, short, self.max_side)
        return Geometry(source, resized, 0, 0, resized, bool(rng.random() < self.flip))


@dataclass(frozen=True, kw_only=True)
class Squash:
    """The whole image at exactly `size`, whatever its shape (LAVT, ReLA: 480 x 480)."""

    size: Size
    flip: float

    @property
    def canvas(self) -> Size:
        return self.size

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        return Geometry(source, self.size, 0, 0, self.size, bool(rng.random() < self.flip))


@dataclass(frozen=True, kw_only=True)
class Letterbox:
    """The whole image as large as fits into `size`, its shape kept; the rest is padding (CRIS: 416 x 416).

    Padding is the mean colour, and lies at the bottom and right as everywhere here (CRIS: around the image).
    """

    size: Size
    flip: float

    @property
    def canvas(self) -> Size:
        return self.size

    def draw(self, source: Size, rng: np.random.Generator, *, whole: bool) -> Geometry:
        height, width = scaled(source, min(self.size[0] / source[0], self.size[1] / source[1]))
        resized = min(height, self.size[0]), min(width, self.size[1])
        return Geometry(source, resized, 0, 0, resized, bool(rng.random() < self.flip))


AugmentationBuilder = Callable[[CN], Augmentation]
_BUILDERS: dict[str, AugmentationBuilder] = {}


def register_augmentation(name: str, build: AugmentationBuilder, *, replace: bool = False) -> None:
    """Make a mode known: `build(cfg)` reads the whole configuration and raises ValueError for what cannot be.

    Raises:
        ValueError: when the name is taken and `replace` is False.
    """
    if name in _BUILDERS and not replace:
        raise ValueError(f"INPUT.TRAIN.MODE {name!r} is there already; choose another name, or pass replace=True")
    _BUILDERS[name] = build


def build_augmentation(cfg: CN) -> Augmentation:
    """Where training images go, by `INPUT.TRAIN.MODE`.

    Raises:
        ValueError: for an unknown mode, or sizes that no image can have.
    """
    mode = cfg.INPUT.TRAIN.MODE
    if mode not in _BUILDERS:
        known = ", ".join(sorted(_BUILDERS))
        raise ValueError(f"INPUT.TRAIN.MODE must be one of {known}, got {mode!r}{nearest(str(mode), _BUILDERS)}")
    return _BUILDERS[mode](cfg)


def _size(cfg: CN) -> Size:
    size = cfg.INPUT.TRAIN.SIZE
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"INPUT.TRAIN.SIZE must be two sides in pixels, (height, width), got {size}")
    return int(size[0]), int(size[1])


def _jitter(cfg: CN) -> JitterCrop:
    low, high = cfg.INPUT.TRAIN.SCALE
    if not 0 < low <= high:
        raise ValueError(f"INPUT.TRAIN.SCALE must be 0 < low <= high, got {cfg.INPUT.TRAIN.SCALE}")
    return JitterCrop(size=_size(cfg), scale=(low, high), flip=cfg.INPUT.TRAIN.FLIP)


def _short_side(cfg: CN) -> ShortSide:
    train = cfg.INPUT.TRAIN
    if not train.SHORT_SIDES or min(train.SHORT_SIDES) < 1:
        raise ValueError(f"INPUT.TRAIN.SHORT_SIDES must be lengths in pixels, got {train.SHORT_SIDES}")
    return ShortSide(short_sides=tuple(train.SHORT_SIDES), max_side=train.MAX_SIDE, flip=train.FLIP)


register_augmentation("jitter", _jitter)
register_augmentation("resize", _short_side)
register_augmentation("squash", lambda cfg: Squash(size=_size(cfg), flip=cfg.INPUT.TRAIN.FLIP))
register_augmentation("letterbox", lambda cfg: Letterbox(size=_size(cfg), flip=cfg.INPUT.TRAIN.FLIP))
