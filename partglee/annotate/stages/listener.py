"""Captions by which an independent model does not find the mask again are dropped (GroundingSuite's filter)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from partglee.annotate import masks
from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Sample
from partglee.annotate.stage import Stage


class FilterListener(Stage):
    """Drops regions whose caption leads a referring model to another mask.

    The listener must not be the model that made masks or captions, or it agrees with its own mistakes.

    Args:
        listener: "partglee" (a model with a text tower), or `module:attribute` that is called with `weights` and
            `device` and gives a predictor: called with an image and a list of expressions, it gives for each an answer
            that has a `mask` (H, W), such as `rela:Predictor.from_pretrained` or `unires:Predictor.from_pretrained`.
        weights: of the listener.
        threshold: the least IoU that is kept.
        device: None = a GPU when there is one.
    """

    inputs = ("image", "region.mask", "region.caption")
    outputs = ("region.scores.listener",)

    def __init__(self, *, listener: str, weights: str, threshold: float = 0.5, device: str | None = None) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be in 0..1, got {threshold}")
        self.listener, self.weights, self.threshold, self.device = listener, weights, threshold, device
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
            answers = self._find(sample.image, [str(region.caption) for region in regions])
            for region, answer in zip(regions, answers, strict=True):
                assert region.mask is not None
                found, wanted = np.asarray(answer.mask, bool), masks.decode(region.mask)
                union = np.logical_or(found, wanted).sum()
                overlap = float(np.logical_and(found, wanted).sum() / union) if union else 0.0
                region.scores["listener"] = overlap
                if overlap < self.threshold:
                    region.dropped = f"{self.name}: IoU {overlap:.3f} < {self.threshold:g}"


def _partglee(weights: str, *, device: str | None) -> Callable[..., Any]:
    from partglee.engine import Predictor

    return partial(Predictor.from_pretrained(weights, device=device).ground, union=True)


LISTENERS: Mapping[str, Callable[..., Any]] = {"partglee": _partglee}
