"""What the miniatures show: objects as coloured rectangles, their parts as bands across them.

H, W: size of the image. Objects stand side by side and never overlap, so every mask is exact.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import whole_file, write_jpeg

Mask = NDArray[np.bool_]
SIZE = (48, 64)


class Shape(NamedTuple):
    """One object with its parts."""

    name: str
    mask: Mask  # (H, W)
    parts: tuple[tuple[str, Mask], ...]  # (part name, mask), each inside the object; some of the object has no part


class Scene(NamedTuple):
    """One picture."""

    image: NDArray[np.uint8]  # (H, W, 3)
    objects: tuple[Shape, ...]


def draw_scene(
    rng: np.random.Generator, names: Mapping[str, Sequence[str]], *, size: tuple[int, int] = SIZE, most: int = 3
) -> Scene:
    """1 to `most` objects with up to four of their parts each; the colour of a thing follows from its name."""
    height, width = size
    count = int(rng.integers(1, most + 1))
    image = rng.integers(90, 130, size=(height, width, 3), dtype=np.uint8)
    objects: list[Shape] = []
    for place, pick in enumerate(rng.choice(len(names), size=count)):
        name = list(names)[pick]
        left, right = width * place // count + 2, width * (place + 1) // count - 2
        top, bottom = int(rng.integers(1, height // 4)), int(rng.integers(height * 3 // 4, height))
        mask = _rectangle(size, top, left, bottom, right)
        image[mask] = _color(name)
        chosen = _some(rng, names[name], 4)
        band = (bottom - top) // (len(chosen) + 1)  # the last band is no part
        parts = []
        for row, part in enumerate(chosen):
            inner = _rectangle(size, top + row * band, left, top + (row + 1) * band, right)
            image[inner] = _color(f"{name}:{part}")
            parts.append((part, inner))
        objects.append(Shape(name, mask, tuple(parts)))
    return Scene(image, tuple(objects))


def box_of(mask: Mask) -> list[float]:
    """xywh around a mask."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    x, y = int(columns[0]), int(rows[0])
    return [float(v) for v in (x, y, columns[-1] + 1 - x, rows[-1] + 1 - y)]


def polygons_of(mask: Mask) -> list[list[float]]:
    """The corners of a rectangular mask."""
    x, y, w, h = box_of(mask)
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def run_lengths_of(mask: Mask) -> dict[str, Any]:
    """Compressed run lengths with counts as text."""
    encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")}


def write_picture(file: Path, image: NDArray[np.uint8]) -> None:
    """A JPEG file."""
    write_jpeg(Image.fromarray(image), file)


def write_map(file: Path, labels: NDArray[Any]) -> None:
    """A grey PNG file, 8 or 16 bits after the array's type."""
    with whole_file(file) as beside:
        Image.fromarray(labels).save(beside, format="PNG")


def _rectangle(size: tuple[int, int], top: int, left: int, bottom: int, right: int) -> Mask:
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = True
    return mask


def _color(name: str) -> NDArray[np.uint8]:
    code = zlib.crc32(name.encode())
    return np.array([code & 255, code >> 8 & 255, code >> 16 & 255], np.uint8)


def _some(rng: np.random.Generator, names: Sequence[str], most: int) -> list[str]:
    count = min(len(names), int(rng.integers(1, most + 1)))
    return [names[i] for i in sorted(rng.choice(len(names), size=count, replace=False))]
