"""What the model says: text, and phrases of it with masks. H x W the image."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.ops import masks_to_boxes

from partglee.annotate.masks import encode
from partglee.annotate.stages.tree import mask_tree
from partglee.structures import Level, Prediction

_HUES = ("#e6194b", "#3cb44b", "#4363d8", "#f58231", "#911eb4", "#008080", "#9a6324", "#808000")


class Phrase(NamedTuple):
    """A phrase with its mask."""

    text: str
    span: tuple[int, int]  # characters of the answer's text; empty where no phrase announced the mask
    mask: Tensor  # (H, W) bool
    box: tuple[float, float, float, float]  # xyxy pixels, of the mask; zeros where it is empty
    confidence: float  # in [0, 1], the mask decoder's
    parent: int  # place among the answer's phrases of what it belongs to, -1 for nothing
    level: str  # "object" or "part"


@dataclass(frozen=True, eq=False, kw_only=True)
class Answer:
    """A text whose phrases have masks. Without any the answer is that there is no target: a result like any other."""

    question: str
    text: str  # plain
    said: str  # as it was said, with marks
    phrases: tuple[Phrase, ...]
    whole: bool  # it came to its end
    well_formed: bool  # each mask directly behind a phrase of its own
    pixels: NDArray[np.uint8] = field(repr=False)  # (H, W, 3)
    teacher_forced: bool = False  # the text was given, and the masks alone are the model's

    @property
    def no_target(self) -> bool:
        """No mask was announced."""
        return not self.phrases

    def __str__(self) -> str:
        return self.text

    @cached_property
    def mask(self) -> Tensor:
        """(H, W) bool, all masks united."""
        union = torch.zeros(self.pixels.shape[:2], dtype=torch.bool)
        for phrase in self.phrases:
            union |= phrase.mask
        return union

    @cached_property
    def prediction(self) -> Prediction:
        """The phrases as rows of a prediction of the library: objects, and parts of those that are there."""
        rows = self.phrases
        parts = [row.level == "part" and row.parent >= 0 and rows[row.parent].level == "object" for row in rows]
        names = [row.text or f"mask {place + 1}" for place, row in enumerate(rows)]
        return Prediction(
            boxes=torch.tensor([row.box for row in rows], dtype=torch.float32).reshape(-1, 4),
            masks=torch.stack([row.mask for row in rows]) if rows else torch.zeros(0, *self.mask.shape).bool(),
            scores=torch.tensor([row.confidence for row in rows], dtype=torch.float32),
            labels=torch.arange(len(rows)),
            names=names,
            level=torch.tensor([int(Level.PART if part else Level.OBJECT) for part in parts], dtype=torch.long),
            parent=torch.tensor(
                [row.parent if part else -1 for row, part in zip(rows, parts, strict=True)], dtype=torch.long
            ),
            image_size=(int(self.mask.shape[0]), int(self.mask.shape[1])),
            image=self.pixels,
        )

    def draw(self, **options: Any) -> Image.Image:
        """The image with masks and phrases, the text below; options as of `Prediction.draw`."""
        return self.prediction.draw(self.pixels, **{"caption": self.text, **options})

    def to_dict(self) -> dict[str, Any]:
        """A line of a predictions file (`mglmm.evaluation.predictions`), without the record's name."""
        return {
            "size": list(self.mask.shape),
            "text": self.text,
            "well_formed": self.well_formed,
            "no_target": self.no_target,
            "teacher_forced": self.teacher_forced,
            "phrases": [
                {"span": list(row.span), "segmentation": encode(row.mask.numpy()), "score": row.confidence,
                 "parent": row.parent, "level": row.level}
                for row in self.phrases
            ],
        }  # fmt: skip

    def to_html(self) -> str:
        """A page by itself: hovering a phrase shows its mask."""
        height, width = self.mask.shape
        layers = "".join(
            f'<img class="mask" id="m{place}" src="{_png(_overlay(row.mask, _HUES[place % len(_HUES)]))}">'
            for place, row in enumerate(self.phrases)
        )
        pieces, last = [], 0
        for place, row in sorted(enumerate(self.phrases), key=lambda one: (one[1].span, one[0])):
            start, end = max(row.span[0], last), max(row.span[1], last)
            shown = html.escape(self.text[start:end]) or f"[{place + 1}]"
            pieces += [
                html.escape(self.text[last:start]),
                f'<span class="phrase" data-mask="m{place}" style="border-color:{_HUES[place % len(_HUES)]}" '
                f'title="{row.confidence:.2f}">{shown}</span>',
            ]
            last = end
        text = "".join([*pieces, html.escape(self.text[last:])])
        return _PAGE.format(
            title=html.escape(self.question), width=width, height=height, image=_png(Image.fromarray(self.pixels)),
            layers=layers, text=text,
        )  # fmt: skip


def phrases_of(
    spans: Sequence[tuple[str, tuple[int, int]]],
    masks: Tensor,
    confidence: Sequence[float],
    queries: Sequence[tuple[int, int, int]] | None = None,
) -> tuple[Phrase, ...]:
    """Phrases with masks, and what belongs to what.

    Args:
        spans: the phrase and where it stands, of each mask.
        masks: (N, H, W) bool.
        queries: (level, query, parent query) of each mask, where the decoder knows; else the smallest other mask that
            holds nine tenths of one is its parent.
    """
    rows = len(masks)
    if queries is not None:
        of_query: dict[int, int] = {}
        for place, (level, query, _) in enumerate(queries):
            if level == 0:
                of_query.setdefault(query, place)
        parents = [of_query.get(parent, -1) if level == 1 else -1 for level, _, parent in queries]
        levels = ["part" if level == 1 else "object" for level, _, _ in queries]
    else:
        shapes = [encode(mask.numpy()) for mask in masks]
        parents = mask_tree([str(place) for place in range(rows)], shapes, same=1.0).parent
        levels = ["part" if parent >= 0 else "object" for parent in parents]
    found = []
    for place, (text, span) in enumerate(spans):
        box = (0.0, 0.0, 0.0, 0.0)
        if bool(masks[place].any()):
            x0, y0, x1, y1 = masks_to_boxes(masks[place : place + 1])[0].tolist()
            box = (x0, y0, x1 + 1, y1 + 1)  # corners lie on the outer edges of pixels
        found.append(Phrase(text, span, masks[place], box, float(confidence[place]), parents[place], levels[place]))
    return tuple(found)


def _overlay(mask: Tensor, color: str) -> Image.Image:
    red, green, blue = (int(color[at : at + 2], 16) for at in (1, 3, 5))
    layer = np.zeros((*mask.shape, 4), np.uint8)
    layer[mask.numpy()] = (red, green, blue, 150)
    return Image.fromarray(layer)


def _png(picture: Image.Image) -> str:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


_PAGE = """<!doctype html>
<meta charset="utf-8"><title>{title}</title>
<style>
.picture {{ position: relative; width: {width}px; height: {height}px; }}
.picture img {{ position: absolute; left: 0; top: 0; }}
.mask {{ visibility: hidden; }}
.mask.on {{ visibility: visible; }}
.phrase {{ border-bottom: 3px solid; cursor: pointer; }}
</style>
<h4>{title}</h4>
<div class="picture"><img src="{image}">{layers}</div>
<p>{text}</p>
<script>
for (const phrase of document.querySelectorAll(".phrase")) {{
  const mask = document.getElementById(phrase.dataset.mask);
  phrase.onmouseenter = () => mask.classList.add("on");
  phrase.onmouseleave = () => mask.classList.remove("on");
}}
</script>
"""
