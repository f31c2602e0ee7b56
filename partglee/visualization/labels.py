"""Where labels go, and drawing them: no label covers another, and a line leads from a label that had to move away."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from partglee.visualization.colors import Color, text_color
from partglee.visualization.fonts import Font, legible

Rect = tuple[float, float, float, float]  # xyxy

_SUPERSAMPLE_BELOW = 4_000_000  # pixels; larger pictures are drawn without, their edges are fine enough


@dataclass(frozen=True, kw_only=True)
class Label:
    """A text that wants to be near a point."""

    text: str
    color: Color
    font_size: int
    anchor: tuple[float, float]  # (x, y) it points at
    area: float = 0.0  # pixels of the thing at the anchor: a label may lie on a large thing, not on a small one
    corner: Rect | None = None  # box whose top left corner it wants instead (objects)


@dataclass(frozen=True)
class PlacedLabel:
    """A label and the rectangle it got."""

    label: Label
    rect: Rect

    @property
    def leader(self) -> tuple[float, float, float, float] | None:
        """Line from the anchor to the rectangle; None when the rectangle is at its place."""
        if self.label.corner is not None:
            return None
        x, y = self.label.anchor
        left, top, right, bottom = self.rect
        end_x, end_y = min(max(x, left), right), min(max(y, top), bottom)
        return None if (end_x, end_y) == (x, y) else (x, y, end_x, end_y)


def text_size(text: str, font: Font) -> tuple[float, float]:
    """(width, height) of a line of text; the height is that of the font, so that lines align."""
    left, _, right, _ = font.getbbox(text)
    _, top, _, bottom = font.getbbox("Tg")
    return right - left, bottom - top


def place_labels(labels: Sequence[Label], size: tuple[int, int], *, font_path: str | None = None) -> list[PlacedLabel]:
    """Give labels places inside a picture, the first ones first; a label that finds no free place near it is left out.

    Args:
        size: (width, height) of the picture.
    """
    placed: list[PlacedLabel] = []
    taken = np.zeros((0, 4))
    anchors = np.array([label.anchor for label in labels], dtype=float).reshape(-1, 2)
    for i, label in enumerate(labels):
        width, height = _label_size(label, font_path)
        if width > size[0] or height > size[1]:
            continue
        others = np.delete(anchors, i, axis=0)
        candidates, cost = _candidates(label, width, height, others)
        inside = (
            (candidates[:, 0] >= 0) & (candidates[:, 1] >= 0)
            & (candidates[:, 2] <= size[0]) & (candidates[:, 3] <= size[1])
        )  # fmt: skip
        free = inside & ~_overlap(candidates, taken).any(axis=1)
        if not free.any():
            continue
        cost = cost + 2 * height * _covers(candidates, others).sum(axis=1)
        leaders = [leader for entry in placed if (leader := entry.leader) is not None]
        cost = cost + 2 * height * _crossings(label.anchor, candidates, np.array(leaders).reshape(-1, 4))
        best = int(np.argmin(np.where(free, cost, np.inf)))
        rect = candidates[best]
        placed.append(PlacedLabel(label, (float(rect[0]), float(rect[1]), float(rect[2]), float(rect[3]))))
        taken = np.concatenate([taken, rect[None]])
    return placed


def draw_labels(picture: Image.Image, placed: Sequence[PlacedLabel], *, font_path: str | None = None) -> Image.Image:
    """The picture with its labels on it."""
    if not placed:
        return picture
    factor = 2 if picture.width * picture.height < _SUPERSAMPLE_BELOW else 1
    overlay = Image.new("RGBA", (picture.width * factor, picture.height * factor))
    draw = ImageDraw.Draw(overlay)
    for entry in placed:
        _draw_leader(draw, entry, factor)
    for entry in placed:
        size = entry.label.font_size
        font, (text,) = legible([entry.label.text], size * factor, font_path)
        left, top, right, bottom = (round(side * factor) for side in entry.rect)
        draw.rounded_rectangle((left, top, right - 1, bottom - 1), radius=0.3 * size * factor, fill=entry.label.color)
        middle = ((left + right) / 2, (top + bottom) / 2)
        draw.text(middle, text, font=font, fill=text_color(entry.label.color), anchor="mm")
    if factor > 1:
        overlay = overlay.resize(picture.size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(picture.convert("RGBA"), overlay).convert("RGB")


def _draw_leader(draw: ImageDraw.ImageDraw, entry: PlacedLabel, factor: int) -> None:
    leader = entry.leader
    if leader is None:
        return
    line = [side * factor for side in leader]
    thickness = max(1, round(entry.label.font_size * factor / 9))
    draw.line(line, fill=(0, 0, 0, 150), width=3 * thickness)
    draw.line(line, fill=entry.label.color, width=thickness)
    for radius, fill in ((2.2 * thickness, (0, 0, 0, 150)), (1.5 * thickness, entry.label.color)):
        draw.ellipse((line[0] - radius, line[1] - radius, line[0] + radius, line[1] + radius), fill=fill)


def _label_size(label: Label, font_path: str | None) -> tuple[float, float]:
    font, (text,) = legible([label.text], label.font_size, font_path)
    width, height = text_size(text, font)
    return math.ceil(width + 0.8 * label.font_size), math.ceil(height + 0.5 * label.font_size)


def _candidates(
    label: Label, width: float, height: float, others: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places for a label, (M, 4) xyxy, and how far from ideal each is, (M,) in pixels; `others` (N, 2) are anchors."""
    if label.corner is not None:
        left, top, right, bottom = label.corner
        corners = [
            (left, top - height), (left, top), (right - width, top - height), (right - width, top), (left, bottom),
            (left, bottom - height), (right - width, bottom), (right - width, bottom - height),
        ]  # fmt: skip
        # Along the top edge, where the corners are taken or outside the picture, and pushed inside at the left edge.
        corners += [(left + share * (right - left), top) for share in (0.25, 0.5, 0.75)]
        corners += [(max(left, 0.0), max(top, 0.0) + step * height) for step in range(4)]
        starts = np.array(corners)
        cost = np.arange(len(corners), dtype=float)
    else:
        x, y = label.anchor
        steps = np.concatenate([[0.0], np.arange(1.0, 9.0, 0.75)])
        angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        radius, angle = (grid.ravel() for grid in np.meshgrid(steps * height, angles, indexing="ij"))
        # An ellipse, because labels are wide: at the same step all of them clear the anchor by about the same distance.
        offsets = np.stack([np.cos(angle) * (radius + (radius > 0) * width / 2), np.sin(angle) * radius], axis=1)
        starts = np.array([x, y]) + offsets - np.array([width / 2, height / 2])
        covers_it = radius == 0
        small = label.area < 2.5 * width * height
        cost = radius + np.where(covers_it & small, 4 * height, 0.0)
        crowd = others[np.abs(others - (x, y)).max(axis=1) < 6 * height]
        if len(crowd):  # move away from the neighbours, so that labels of a face surround it
            away_x, away_y = np.array([x, y]) - crowd.mean(axis=0)
            outward = math.atan2(away_y, away_x)
            cost = cost + np.where(covers_it, 0.0, 0.75 * height * (1 - np.cos(angle - outward)))
    return np.concatenate([starts, starts + np.array([width, height])], axis=1), cost


def _overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(M, 4) and (N, 4) xyxy -> (M, N)."""
    overlap: NDArray[np.bool_] = (
        (a[:, None, 0] < b[None, :, 2]) & (b[None, :, 0] < a[:, None, 2])
        & (a[:, None, 1] < b[None, :, 3]) & (b[None, :, 1] < a[:, None, 3])
    )  # fmt: skip
    return overlap


def _covers(rects: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(M, 4) xyxy and (N, 2) -> (M, N)."""
    return _overlap(rects, np.concatenate([points, points], axis=1))


def _crossings(
    start: tuple[float, float], rects: NDArray[np.float64], leaders: NDArray[np.float64]
) -> NDArray[np.float64]:
    """How many of the (N, 4) leaders a new leader from `start` to each of the (M, 4) rectangles would cross, (M,)."""
    p = np.array(start)
    q = np.clip(p, rects[:, :2], rects[:, 2:])[:, None]  # (M, 1, 2)
    a, b = leaders[None, :, :2], leaders[None, :, 2:]

    def side(u: NDArray[np.float64], v: NDArray[np.float64], w: NDArray[np.float64]) -> NDArray[np.float64]:
        cross: NDArray[np.float64] = (v[..., 0] - u[..., 0]) * (w[..., 1] - u[..., 1]) - (v[..., 1] - u[..., 1]) * (
            w[..., 0] - u[..., 0]
        )
        return cross

    crossing = (side(p, q, a) * side(p, q, b) < 0) & (side(a, b, p) * side(a, b, q) < 0)
    counts: NDArray[np.float64] = crossing.sum(axis=1).astype(float)
    return counts
