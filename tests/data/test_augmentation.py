"""Where training images go: each mode by itself, and a mode that a project adds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from partglee.config import get_cfg
from partglee.data import augmentation
from partglee.data.augmentation import Letterbox, Squash, build_augmentation, register_augmentation
from partglee.data.transforms import Geometry

SOURCES = [(60, 100), (100, 60), (7, 300), (480, 480), (1, 1), (333, 101)]


@pytest.mark.parametrize("source", SOURCES)
def test_squash_fills_the_canvas(source: tuple[int, int]) -> None:
    drawn = Squash(size=(48, 64), flip=0.0).draw(source, np.random.default_rng(0), whole=False)
    assert drawn == Geometry(source, (48, 64), 0, 0, (48, 64), False)


@pytest.mark.parametrize("source", SOURCES)
def test_letterbox_keeps_the_shape(source: tuple[int, int]) -> None:
    """As large as fits: one side touches, and no larger factor would."""
    box = Letterbox(size=(48, 64), flip=0.0)
    height, width = box.draw(source, np.random.default_rng(0), whole=True).size
    factor = min(48 / source[0], 64 / source[1])
    assert (height, width) == (max(1, round(source[0] * factor)), max(1, round(source[1] * factor)))
    assert height <= 48 and width <= 64 and (height == 48 or width == 64) and box.canvas == (48, 64)


@pytest.mark.parametrize("mode", ["squash", "letterbox", "jitter"])
def test_flips_come_as_often_as_asked(mode: str) -> None:
    cfg = get_cfg()
    cfg.INPUT.TRAIN.MODE, cfg.INPUT.TRAIN.FLIP, cfg.INPUT.TRAIN.SIZE = mode, 0.25, [8, 12]
    made, rng = build_augmentation(cfg), np.random.default_rng(0)
    assert made.canvas == (8, 12)
    assert 0.2 < np.mean([made.draw((9, 9), rng, whole=False).flip for _ in range(800)]) < 0.3


def test_a_mode_of_a_project(monkeypatch: pytest.MonkeyPatch) -> None:
    @dataclass
    class Corner:
        canvas = (4, 4)

        def draw(self, source: tuple[int, int], rng: np.random.Generator, *, whole: bool) -> Geometry:
            return Geometry(source, source, 0, 0, (4, 4), False)

    monkeypatch.setattr(augmentation, "_BUILDERS", dict(augmentation._BUILDERS))
    register_augmentation("corner", lambda cfg: Corner())
    cfg = get_cfg()
    cfg.INPUT.TRAIN.MODE = "corner"
    assert isinstance(build_augmentation(cfg), Corner)
    with pytest.raises(ValueError, match="'corner' is there already"):
        register_augmentation("corner", lambda cfg: Corner())
    cfg.INPUT.TRAIN.MODE = "corners"
    with pytest.raises(ValueError, match=r"one of corner, .*got 'corners'; did you mean 'corner'"):
        build_augmentation(cfg)
