"""One toy scene: objects made of named parts on a textured background, with exact visible masks.

H, W: size of the image. Every pixel belongs to at most one figure, the one painted last, so masks are exact by
construction; an object's mask is the union of its figures, named or not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.data.prepare.mapping import categories_of
from partglee.testing.toy_figures import KINDS, PARTS, Figure, Points

MIN_SIDE = 32  # pixels
MIN_PIXELS = 12  # an object or a part that shows less is not annotated

Seed = int | Sequence[int]
Pixels = NDArray[np.uint8]


class PlacedObject(NamedTuple):
    """An object with its figures in pixels of the image."""

    kind: str
    figures: list[Figure]


def toy_scene(
    seed: Seed, size: tuple[int, int] = (128, 128), *, kinds: Sequence[str] | None = None
) -> tuple[Pixels, dict[str, Any]]:
    """Draw a scene with 1 to 4 objects.

    Args:
        seed: equal seeds give equal scenes.
        size: height and width in pixels, 32 or more each.
        kinds: object names to choose from; None = all of `TOY_VOCABULARY`.

    Returns:
        The image (H, W, 3) uint8 RGB, and its annotations as a hierarchical COCO dict with one image. Masks hold what
        is visible; parts point to their object; categories are those of all kinds.

    Raises:
        ValueError: for a size below 32, or an unknown kind.
    """
    height, width = size
    if height < MIN_SIDE or width < MIN_SIDE:
        raise ValueError(f"a toy scene needs a size of {MIN_SIDE} x {MIN_SIDE} pixels or more, got {height} x {width}")
    names = list(KINDS if kinds is None else kinds)
    unknown = [name for name in names if name not in KINDS]
    if unknown or not names:
        raise ValueError(f"toy scenes have the kinds {list(KINDS)}, got {names}")
    rng = np.random.default_rng(seed)
    objects = place(rng, names, (height, width))
    image, owner = render(objects, background(rng, height, width), rng)
    return image, annotate(objects, owner)


def toy_categories() -> list[dict[str, Any]]:
    """COCO categories of all kinds and their parts."""
    return categories_of(PARTS)


def render(
    objects: Sequence[PlacedObject],
    background: Pixels,
    rng: np.random.Generator,
    *,
    colors: Sequence[Sequence[NDArray[np.float64]]] | None = None,
) -> tuple[Pixels, NDArray[np.uint8]]:
    """Paint objects, the last on top.

    Args:
        colors: RGB of every figure of every object; None = at random.

    Returns:
        The image, and (H, W) numbers of the figure that each pixel shows: 0 = background, then all figures of all
        objects counted from 1.
    """
    height, width = background.shape[:2]
    drawn = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(drawn)
    palette = [np.zeros(3)]
    for place, placed in enumerate(objects):
        own = _colors(rng, len(placed.figures)) if colors is None else colors[place]
        for color, figure in zip(own, placed.figures, strict=True):
            pen.polygon([(float(x), float(y)) for x, y in figure.points], fill=len(palette))
            palette.append(color)
    owner = np.asarray(drawn)
    image = np.array(palette, dtype=np.uint8)[owner]
    np.copyto(image, background, where=owner[..., None] == 0)
    grain = rng.integers(-12, 13, size=(height, width, 1), dtype=np.int16)
    image = (image + grain).clip(0, 255).astype(np.uint8)
    return image, owner


def annotate(objects: Sequence[PlacedObject], owner: NDArray[np.uint8]) -> dict[str, Any]:
    """What is visible of the objects, as a hierarchical COCO dict with one image."""
    categories = toy_categories()
    ids = {str(entry["name"]): int(entry["id"]) for entry in categories}
    counts = np.bincount(owner.ravel(), minlength=256)
    annotations: list[dict[str, Any]] = []

    def add(name: str, mask: NDArray[np.bool_], parent: int | None) -> int:
        encoded = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
        annotations.append(
            {
                "id": len(annotations) + 1,
                "image_id": 1,
                "category_id": ids[name],
                "bbox": [float(side) for side in rle.toBbox(encoded)],
                "area": int(rle.area(encoded)),
                "iscrowd": 0,
                "segmentation": {"size": list(mask.shape), "counts": encoded["counts"].decode("ascii")},
                **({} if parent is None else {"parent_id": parent}),
            }
        )
        return len(annotations)

    first = 1
    for placed in objects:
        numbers = range(first, first + len(placed.figures))
        first += len(placed.figures)
        if counts[numbers.start : numbers.stop].sum() < MIN_PIXELS:
            continue
        parent = add(placed.kind, (owner >= numbers.start) & (owner < numbers.stop), None)
        for number, figure in zip(numbers, placed.figures, strict=True):
            if figure.part is not None and counts[number] >= MIN_PIXELS:
                add(f"{placed.kind}:{figure.part}", owner == number, parent)
    height, width = owner.shape
    return {
        "images": [{"id": 1, "file_name": "", "height": height, "width": width}],
        "categories": categories,
        "annotations": annotations,
    }


def place(
    rng: np.random.Generator,
    names: Sequence[str],
    size: tuple[int, int],
    *,
    chances: Sequence[float] = (0.2, 0.35, 0.3, 0.15),
) -> list[PlacedObject]:
    """Objects whose boxes cover at most a third of each other (of the best of six tries).

    Args:
        chances: of 1, 2, ... objects.
    """
    count = int(rng.choice(np.arange(1, len(chances) + 1), p=chances))
    placed: list[PlacedObject] = []
    boxes: list[NDArray[np.float64]] = []
    for _ in range(count):
        best: tuple[float, PlacedObject, NDArray[np.float64]] | None = None
        for _ in range(6):
            kind = str(rng.choice(names))
            figures = _pose(rng, KINDS[kind](rng), size, small=count > 2)
            points = np.concatenate([figure.points for figure in figures])
            box = np.concatenate([points.min(axis=0), points.max(axis=0)])
            covered = max((_covered(box, other) for other in boxes), default=0.0)
            if best is None or covered < best[0]:
                best = (covered, PlacedObject(kind, figures), box)
            if covered <= 1 / 3:
                break
        assert best is not None
        placed.append(best[1])
        boxes.append(best[2])
    return placed


def _pose(rng: np.random.Generator, figures: list[Figure], size: tuple[int, int], *, small: bool) -> list[Figure]:
    """Mirror, stretch, turn and scale; the middle lies inside the image, so objects may be cut by its edge."""
    scale = min(size) * rng.uniform(0.38, 0.55 if small else 0.75)
    stretch = rng.uniform(0.88, 1.12) * (1.0 if rng.random() < 0.5 else -1.0)
    angle = rng.uniform(-0.5, 0.5)
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])  # applied to row vectors
    margin = 0.3 * scale
    centre = np.array([rng.uniform(margin, size[1] - margin), rng.uniform(margin, size[0] - margin)])

    def move(points: Points) -> Points:
        moved: Points = (points * (stretch, 1.0)) @ turn * scale + centre
        return moved

    return [Figure(figure.part, move(figure.points)) for figure in figures]


def _covered(box: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Intersection over the smaller of two xyxy boxes."""
    sides = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None)
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
    return float(sides.prod() / max(min(areas), 1e-6))


def background(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Smooth patches, a few thin lines, stripes across all."""
    cells = rng.integers(40, 216, size=(*rng.integers(2, 7, size=2), 3)) // 2  # muted: half of it is grey
    cells = (cells + cells.mean(axis=-1, keepdims=True)).astype(np.uint8)
    smooth = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(smooth)
    for _ in range(int(rng.integers(0, 4))):
        ends = rng.uniform((0, 0), (width, height), size=(2, 2))
        color = tuple(int(value) for value in rng.integers(30, 226, size=3))
        pen.line([(float(x), float(y)) for x, y in ends], fill=color, width=int(rng.integers(1, 4)))  # type: ignore[arg-type]
    grid = np.arange(width)[None] * rng.normal() + np.arange(height)[:, None] * rng.normal()
    stripes = rng.uniform(0, 18) * np.sin(grid * rng.uniform(0.1, 0.8))
    textured = np.asarray(smooth, dtype=np.int16) + stripes[..., None].astype(np.int16)
    return textured.clip(0, 255).astype(np.uint8)


def _colors(rng: np.random.Generator, count: int) -> list[NDArray[np.float64]]:
    """RGB colours, each far from the one before (of eight tries), so that neighbouring figures differ."""
    colors: list[NDArray[np.float64]] = []
    for _ in range(count):
        tries = rng.integers(10, 246, size=(8, 3)).astype(np.float64)
        if not colors:
            colors.append(tries[0])
            continue
        nearest = np.abs(tries[:, None] - np.array(colors)[None, -3:]).sum(axis=-1).min(axis=1)
        colors.append(tries[int(nearest.argmax())] if nearest[0] < 150 else tries[0])
    return colors
