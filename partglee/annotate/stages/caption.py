"""Referring captions: a text for each region that means it and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from partglee.annotate.endpoint import Endpoint
from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Pixels, Region, Sample
from partglee.annotate.stage import Stage
from partglee.basics.names import name_key

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


class Captioner(Protocol):
    """Texts for regions."""

    def __call__(self, image: Pixels | None, regions: Sequence[Region], wanted: Sequence[int]) -> Sequence[str]:
        """All regions of an image, and the numbers of those that need a caption -> their captions."""
        ...


class Caption(Stage):
    """Gives each region that counts a caption.

    Args:
        captioner: "template", "endpoint", or `module:attribute` that is called with `weights` (and `options`) and gives
            a `Captioner`.
        weights: of the captioner.
        options: further values for it.
        replace: also regions that have a caption get a new one.
    """

    inputs = ("image", "region.box", "region.name", "region.level")
    outputs = ("region.caption",)

    def __init__(
        self,
        *,
        captioner: str = "template",
        weights: str = "",
        options: Mapping[str, Any] | None = None,
        replace: bool = False,
    ) -> None:
        self.captioner, self.weights, self.options, self.replace = captioner, weights, dict(options or {}), replace
        self._caption: Any = None

    def weight_files(self) -> Sequence[Path]:
        return (Path(self.weights),) if Path(self.weights).is_file() else ()

    def open(self) -> None:
        self._caption = resolve(self.captioner, CAPTIONERS, "captioner")(self.weights, **self.options)

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            wanted = [n for n, region in sample.kept() if region.caption is None or self.replace]
            texts = self._caption(sample.image, sample.regions, wanted) if wanted else []
            for number, text in zip(wanted, texts, strict=True):
                clean = " ".join(text.split())
                if not any(sign.isalnum() for sign in clean):
                    raise ValueError(
                        f"the captioner says {text!r} of region {number} ({sample.regions[number].name!r})"
                    )
                sample.regions[number].caption = clean


# -- captioners ------------------------------------------------------------------------------------------------------


def template_captioner(weights: str) -> Captioner:
    """Names and places: "dog", "second dog from the left", "head of the dog on the right". Needs no model."""
    del weights

    def caption(image: Pixels | None, regions: Sequence[Region], wanted: Sequence[int]) -> list[str]:
        del image
        return [template(regions, number) for number in wanted]

    return caption


def template(regions: Sequence[Region], number: int) -> str:
    """The caption of one region among all that count."""
    region = regions[number]
    parent = regions[region.parent] if 0 <= region.parent < len(regions) else None
    twins = [
        n for n, other in enumerate(regions)
        if (not other.dropped or n == number)
        and (other.level, name_key(other.name)) == (region.level, name_key(region.name))
        and (parent is None or other.parent == region.parent)
    ]  # fmt: skip
    own = _placed(region.name, number, twins, regions)
    return own if parent is None else f"{own} of the {template(regions, region.parent)}"


def _placed(name: str, number: int, twins: Sequence[int], regions: Sequence[Region]) -> str:
    if len(twins) == 1:
        return name
    centres = {n: _centre(regions[n]) for n in twins}
    spread = np.ptp(np.array(list(centres.values())), axis=0)
    axis = 0 if spread[0] >= spread[1] else 1
    order = sorted(twins, key=lambda n: (centres[n][axis], centres[n][1 - axis], n))
    place = order.index(number)
    first, last = (("left", "right"), ("top", "bottom"))[axis]
    if len(twins) == 2:
        return f"{name} {'on the' if axis == 0 else 'at the'} {(first, last)[place]}"
    return f"{_ordinal(place)} {name} from the {first}"


def _ordinal(place: int) -> str:
    return _ORDINALS[place] if place < len(_ORDINALS) else f"number {place + 1}"


def _centre(region: Region) -> tuple[float, float]:
    x0, y0, x1, y1 = region.box or (0.0, 0.0, 0.0, 0.0)
    return (x0 + x1) / 2, (y0 + y1) / 2


def location(box: Sequence[float], size: tuple[int, int]) -> str:
    """A box as captioners of MRES are asked: corners as integers 0..999 of the image's sides, "[x0, y0, x1, y1]"."""
    height, width = size
    scaled = np.array(box) / np.array([width, height, width, height]) * 1000
    return str([int(value) for value in np.clip(np.floor(scaled), 0, 999)])


_QUESTION = (
    "Write a short referring expression, at most {words} words, that means the {what} in the box {box} of this image "
    "and nothing else in it. The box has its left top and right bottom corner in thousandths of the image's sides. "
    "Answer with the expression alone."
)


def endpoint_captioner(weights: str, *, words: int = 15, **endpoint: Any) -> Captioner:
    """A vision-language model behind an address, asked for one region after the other.

    Args:
        words: that a sound answer may have.
        endpoint: what `Endpoint` takes.
    """
    del weights
    server = Endpoint(**endpoint)

    def read(text: str) -> str:
        clean = " ".join(text.strip().strip("\"'.").split())
        if not any(sign.isalpha() for sign in clean):
            raise ValueError(f"no expression in {text!r:.60}")
        if len(clean.split()) > words:
            raise ValueError(f"the expression has {len(clean.split())} words, more than {words}")
        return clean

    def caption(image: Pixels | None, regions: Sequence[Region], wanted: Sequence[int]) -> list[str]:
        assert image is not None
        texts: list[str] = []
        for number in wanted:
            region = regions[number]
            what = region.name
            if 0 <= region.parent < len(regions):
                what += f" of the {regions[region.parent].name}"
            box = location(region.box or (0, 0, 0, 0), (image.shape[0], image.shape[1]))
            texts.append(server.ask(_QUESTION.format(words=words, what=what, box=box), read, image=image))
        return texts

    return caption


CAPTIONERS: dict[str, Callable[..., Captioner]] = {"template": template_captioner, "endpoint": endpoint_captioner}
"""Captioners by name; a project adds its own here."""
