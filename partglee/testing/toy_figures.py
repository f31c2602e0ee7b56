"""The objects of toy scenes: each is a list of polygons, some of which are named parts.

Coordinates are relative to the object: x to the right, y down, its longest side about 1, its middle at 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (n, 2) x, y


class Figure(NamedTuple):
    """One polygon; later figures cover earlier ones."""

    part: str | None  # None: belongs to the object, but is no named part
    points: Points


Kind = Callable[[np.random.Generator], list[Figure]]


def car(rng: np.random.Generator) -> list[Figure]:
    """Wheels below a body, windows in a cabin."""
    back, front = rng.uniform(-0.3, -0.22), rng.uniform(0.2, 0.3)
    roof = rng.uniform(-0.26, -0.2)
    middle = rng.uniform(-0.05, 0.05)
    radius = rng.uniform(0.1, 0.13)
    return [
        _polygon(None, (-0.5, -0.02), (0.42, -0.02), (0.5, 0.06), (0.5, 0.2), (-0.5, 0.2)),
        _polygon(None, (back, 0.0), (back + 0.08, roof), (front - 0.1, roof), (front, 0.0)),
        _polygon("window", (back + 0.04, -0.02), (back + 0.09, roof + 0.03), (middle - 0.02, roof + 0.03),
                 (middle - 0.02, -0.02)),
        _polygon("window", (middle + 0.02, -0.02), (middle + 0.02, roof + 0.03), (front - 0.11, roof + 0.03),
                 (front - 0.03, -0.02)),
        _ellipse("wheel", -0.29, 0.19, radius, radius),
        _ellipse("wheel", 0.29, 0.19, radius, radius),
    ]  # fmt: skip


def bicycle(rng: np.random.Generator) -> list[Figure]:
    """Two wheels, a frame without a name, saddle and handlebar."""
    radius = rng.uniform(0.19, 0.23)
    top = rng.uniform(-0.2, -0.12)
    saddle, bar = rng.uniform(-0.16, -0.08), rng.uniform(0.14, 0.22)
    return [
        _ellipse("wheel", -0.28, 0.15, radius, radius),
        _ellipse("wheel", 0.28, 0.15, radius, radius),
        _bar(None, (-0.28, 0.15), (saddle, top), 0.05),
        _bar(None, (saddle, top), (bar, top), 0.05),
        _bar(None, (0.28, 0.15), (bar, top - 0.08), 0.05),
        _bar(None, (saddle, top), (0.02, 0.15), 0.05),
        _ellipse("saddle", saddle, top - 0.05, 0.14, 0.065),
        _bar("handlebar", (bar - 0.1, top - 0.15), (bar + 0.12, top - 0.07), 0.11),
    ]


def person(rng: np.random.Generator) -> list[Figure]:
    """Head, torso, two arms and two legs, which swing."""
    arms = rng.uniform(0.1, 2.6, size=2)  # radians away from hanging down
    legs = rng.uniform(0.05, 0.45, size=2)
    figures = [_ellipse(None, 0.0, -0.28, 0.05, 0.06)]
    for side, arm, leg in zip((-1.0, 1.0), arms, legs, strict=True):
        hip, shoulder = (side * 0.065, 0.06), (side * 0.13, -0.22)
        figures.append(_limb("leg", hip, side * leg, 0.42, 0.12))
        figures.append(_limb("arm", shoulder, side * arm, 0.34, 0.1))
    return [
        *figures,
        _polygon("torso", (-0.16, -0.27), (0.16, -0.27), (0.12, 0.1), (-0.12, 0.1)),
        _ellipse("head", 0.0, -0.39, 0.1, 0.12),
    ]


def bottle(rng: np.random.Generator) -> list[Figure]:
    """A body and a cap."""
    half, neck, shoulder = rng.uniform(0.14, 0.2), rng.uniform(0.06, 0.08), rng.uniform(-0.12, 0.0)
    return [
        _polygon("body", (-half, 0.5), (-half, shoulder), (-neck, shoulder - 0.14), (-neck, -0.36), (neck, -0.36),
                 (neck, shoulder - 0.14), (half, shoulder), (half, 0.5)),
        _polygon("cap", (-neck - 0.02, -0.5), (neck + 0.02, -0.5), (neck + 0.02, -0.35), (-neck - 0.02, -0.35)),
    ]  # fmt: skip


def boat(rng: np.random.Generator) -> list[Figure]:
    """A hull (the name table says body) and one or two sails on a mast without a name."""
    deck, bow = rng.uniform(0.1, 0.18), rng.uniform(0.28, 0.38)
    figures = [
        _bar(None, (0.0, -0.5), (0.0, deck), 0.05),
        _polygon("body", (-0.5, deck), (0.5, deck), (bow, 0.42), (-bow, 0.42)),
        _polygon("sail", (0.05, -0.47), (0.05, deck - 0.06), (rng.uniform(0.34, 0.46), deck - 0.06)),
    ]
    if rng.random() < 0.5:
        figures.append(_polygon("sail", (-0.05, -0.36), (-0.05, deck - 0.06), (-0.36, deck - 0.06)))
    return figures


def ball(rng: np.random.Generator) -> list[Figure]:
    """A disc with a stripe; no parts."""
    width = rng.uniform(0.08, 0.16)
    return [_ellipse(None, 0.0, 0.0, 0.4, 0.4), _bar(None, (-0.36, 0.0), (0.36, 0.0), width)]


def kite(rng: np.random.Generator) -> list[Figure]:
    """A diamond of two colours; no parts."""
    half, middle = rng.uniform(0.26, 0.36), rng.uniform(-0.2, 0.0)
    return [
        _polygon(None, (0.0, -0.5), (half, middle), (0.0, 0.5), (-half, middle)),
        _polygon(None, (0.0, -0.5), (half, middle), (0.0, middle)),
    ]


KINDS: Mapping[str, Kind] = {
    "car": car, "bicycle": bicycle, "person": person, "bottle": bottle, "boat": boat, "ball": ball, "kite": kite,
}  # fmt: skip
PARTS: Mapping[str, tuple[str, ...]] = {
    "car": ("wheel", "window"),
    "bicycle": ("wheel", "saddle", "handlebar"),
    "person": ("head", "torso", "arm", "leg"),
    "bottle": ("body", "cap"),
    "boat": ("body", "sail"),
    "ball": (),
    "kite": (),
}

_CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
                    np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False))], axis=1)  # fmt: skip


def _polygon(part: str | None, *points: tuple[float, float]) -> Figure:
    return Figure(part, np.array(points, dtype=np.float64))


def _ellipse(part: str | None, x: float, y: float, rx: float, ry: float) -> Figure:
    return Figure(part, _CIRCLE * (rx, ry) + (x, y))


def _bar(part: str | None, start: tuple[float, float], end: tuple[float, float], width: float) -> Figure:
    a, b = np.array(start), np.array(end)
    along = (b - a) / np.linalg.norm(b - a)
    across = np.array([-along[1], along[0]]) * width / 2
    return Figure(part, np.stack([a - across, b - across, b + across, a + across]))


def _limb(part: str | None, joint: tuple[float, float], angle: float, length: float, width: float) -> Figure:
    end = (joint[0] + length * np.sin(angle), joint[1] + length * np.cos(angle))
    return _bar(part, joint, end, width)
