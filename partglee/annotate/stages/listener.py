"""Captions by which an independent model does not find the mask again are dropped (GroundingSuite's filter)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.annotate import masks
from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Pixels, Region, Sample
from partglee.annotate.stage import Stage


class FilterListener(Stage):
    """Drops regions whose caption leads a referring model to another mask.

    The listener must not be the model that made masks or captions, or it agrees with its own mistakes. One whose masks
    are poor finds the right thing with a small IoU; `margin` asks which region it means, and not how well it draws.
    `tools/measure_listener.py` chooses both numbers for a listener on scenes with planted mistakes.

    Args:
        listener: "partglee" (a model with a text tower), or `module:attribute` that is called with `weights` and
            `device` and gives a predictor: called with an image and a list of expressions, it gives for each an answer
            that has a `mask` (H, W), such as `rela:Predictor.from_pretrained` or `unires:Predictor.from_pretrained`.
        weights: of the listener.
        threshold: the least IoU that is kept.
        margin: the least by which the IoU with the region exceeds that with any other region of its level that is kept
            and has a mask, -1 to 1; 0 keeps what fits its own region best. None = do not compare.
        mirror: also ask about the mirrored image, with "left" and "right" of the caption exchanged (English), and take
            the mean of both overlaps: twice the time, and steadier.
        device: None = a GPU when there is one.
    """

    inputs = ("image", "region.mask", "region.caption")
    outputs = ("region.scores.listener", "region.scores.listener_margin")
    version = "2"

    def __init__(
        self,
        *,
        listener: str,
        weights: str,
        threshold: float = 0.5,
        margin: float | None = None,
        mirror: bool = False,
        device: str | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, got {threshold}")
        if margin is not None and not -1 <= margin <= 1:
            raise ValueError(f"margin must be in -1..1, got {margin}")
        self.listener, self.weights, self.device = listener, weights, device
        self.threshold, self.margin, self.mirror = threshold, margin, mirror
        self._find: Any = None

    def weight_files(self) -> Sequence[Path]:
        return (Path(self.weights),) if Path(self.weights).is_file() else ()

    def open(self) -> None:
        self._find = resolve(self.listener, LISTENERS, "listener")(self.weights, device=self.device)

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            regions = [region for _, region in sample.kept()]
            if not regions:
                continue
            assert sample.image is not None
            overlaps = self._overlaps(sample.image, regions, mirrored=False)  # [caption, region]
            if self.mirror:
                overlaps = (overlaps + self._overlaps(sample.image, regions, mirrored=True)) / 2
            for row, region in enumerate(regions):
                own = float(overlaps[row, row])
                others = [
                    overlaps[row, n] for n, other in enumerate(regions) if n != row and other.level == region.level
                ]
                region.scores["listener"] = own
                region.scores["listener_margin"] = margin = own - float(max(others, default=0.0))
                if own < self.threshold:
                    region.dropped = f"{self.name}: IoU {own:.3f} < {self.threshold:g}"
                elif self.margin is not None and margin < self.margin:
                    region.dropped = f"{self.name}: IoU {own:.3f} is {margin:+.3f} beside another region's"

    def _overlaps(self, image: Pixels, regions: Sequence[Region], *, mirrored: bool) -> NDArray[np.float64]:
        """(N, N) IoU of what each caption leads to with each region."""
        captions = [str(region.caption) for region in regions]
        if mirrored:
            image, captions = np.ascontiguousarray(image[:, ::-1]), [exchanged(caption) for caption in captions]
        step = -1 if mirrored else 1
        found = [masks.encode(np.asarray(answer.mask, bool)[:, ::step]) for answer in self._find(image, captions)]
        shapes = [region.mask for region in regions if region.mask is not None]
        sizes = {tuple(mask["size"]) for mask in (*found, *shapes)}
        if len(found) != len(regions) or len(sizes) > 1:
            raise ValueError(f"the listener gives {len(found)} masks for {len(regions)} captions, of sizes {sizes}")
        return masks.ious(found, shapes)


def exchanged(caption: str) -> str:
    """A caption of the mirrored image: "leftmost dog" -> "rightmost dog"."""
    return _SIDES.sub(lambda found: _OTHER[found[0].lower()], caption)


_OTHER = {"left": "right", "right": "left"}
_SIDES = re.compile(r"\b(left|right)(?=most\b|\b)", re.IGNORECASE)


def _partglee(weights: str, *, device: str | None) -> Callable[..., Any]:
    from partglee.engine import Predictor

    return partial(Predictor.from_pretrained(weights, device=device).ground, union=True)


LISTENERS: Mapping[str, Callable[..., Any]] = {"partglee": _partglee}
