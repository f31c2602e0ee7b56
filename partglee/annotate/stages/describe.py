"""Dense descriptions over the mask tree: the whole image, and each object with what it has (MGSC's third step).

In a text every region is announced as `<p> phrase </p> [SEG]`, the k-th phrase means the k-th region.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from partglee.annotate.endpoint import Endpoint
from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Description, Pixels, Region, Sample
from partglee.annotate.stage import Stage

_PHRASE = re.compile(r"<p>\s*(.+?)\s*</p>\s*\[SEG\]")


class Describer(Protocol):
    """Writes the sentences of one node."""

    def __call__(
        self, image: Pixels | None, regions: Sequence[Region], node: int, order: Sequence[int], plain: str
    ) -> str:
        """The text of a node.

        Args:
            regions: all of the image.
            node: number of the region that is described, -1 for the whole image.
            order: numbers of the regions that the text announces, in this order.
            plain: the text by rule, which announces them.
        """
        ...


class Describe(Stage):
    """A description of the root, which names its children, and one of each child that has anything below it.

    Args:
        endpoint: a language model that writes the sentences: `url`, `model` and what else `Endpoint` takes; None = by
            rule. An answer that does not announce every region once, in order, is asked for again.
        describer: `module:attribute` in place of an endpoint, called with `weights` and `options`; gives a `Describer`.
            A text that does not announce every region once, in order, fails the image.
        weights: of the describer.
        options: further values for it.
        by: what regions are called: their "caption" where they have one, or always their "name".
    """

    inputs = ("region.name", "region.parent")
    outputs = ("descriptions",)

    def __init__(
        self,
        *,
        endpoint: Mapping[str, Any] | None = None,
        describer: str = "",
        weights: str = "",
        options: Mapping[str, Any] | None = None,
        by: str = "caption",
    ) -> None:
        if by not in ("caption", "name"):
            raise ValueError(f"by must be caption or name, got {by!r}")
        if endpoint is not None and describer:
            raise ValueError("either an endpoint or a describer writes the sentences; leave one out")
        self.describer, self.weights, self.options = describer, weights, dict(options or {})
        self._write: Any = None
        try:
            self.endpoint = None if endpoint is None else Endpoint(**endpoint)
        except TypeError as error:
            raise ValueError(f"endpoint: {error}") from error
        self.by = by

    def weight_files(self) -> Sequence[Path]:
        return (Path(self.weights),) if Path(self.weights).is_file() else ()

    def open(self) -> None:
        if self.describer:
            self._write = resolve(self.describer, {}, "describer")(self.weights, **self.options)

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            children: dict[int, list[int]] = {}
            for number, region in sample.kept():
                above = region.parent
                while above >= 0 and sample.regions[above].dropped:  # it hangs on what is left above it
                    above = sample.regions[above].parent
                children.setdefault(above, []).append(number)
            sample.descriptions = []
            for node in [-1, *children.get(-1, ())]:
                if node in children:
                    sample.descriptions.append(self._describe(sample, node, children))

    def _describe(self, sample: Sample, node: int, children: Mapping[int, Sequence[int]]) -> Description:
        order = list(children[node]) if node < 0 else _below(node, children)
        phrases = [self._phrase(sample.regions[number]) for number in order]
        text = by_rule(node, sample.regions, children, self._phrase)
        if self.endpoint is not None:
            what = "the whole image" if node < 0 else f"the {self._phrase(sample.regions[node])} and what belongs to it"
            question = (
                f"Write a detailed, coherent description of {what}, two to five sentences, that mentions each of these "
                f"phrases exactly once, in this order, each written as <p> phrase </p> [SEG]: {json.dumps(phrases)}. "
                f"A plain version: {text}"
            )
            text = self.endpoint.ask(question, lambda answer: _checked(answer, phrases), image=sample.image)
        elif self._write is not None:
            text = _checked(self._write(sample.image, sample.regions, node, order, text), phrases)
        return Description(node=node, text=text, regions=tuple(order))

    def _phrase(self, region: Region) -> str:
        text = region.caption if self.by == "caption" and region.caption else region.name
        return " ".join(re.sub(r"[<>\[\]]", " ", text).split())


def _below(node: int, children: Mapping[int, Sequence[int]]) -> list[int]:
    """All descendants as `by_rule` names them: children first, then what each of these has."""
    own = list(children.get(node, ()))
    return own + [entry for child in own for entry in _below(child, children)]


def by_rule(node: int, regions: Sequence[Region], children: Mapping[int, Sequence[int]], phrase: Any) -> str:
    """The plain text: what a node has, then what each of these has. Of the root only its children are named."""
    named = _listed([f"<p> {phrase(regions[child])} </p> [SEG]" for child in children[node]])
    if node < 0:
        return f"The image shows {named}."
    sentences = [f"The {phrase(regions[node])} has {named}."]
    for child in children[node]:
        if child in children:
            sentences.append(by_rule(child, regions, children, phrase))
    return " ".join(sentences)


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def _checked(text: str, phrases: Sequence[str]) -> str:
    clean = " ".join(text.split())
    found = _PHRASE.findall(clean)
    if [one.lower() for one in found] != [one.lower() for one in phrases]:
        raise ValueError(f"it announces {found} in place of {list(phrases)}")
    if clean.count("[SEG]") != len(phrases):
        raise ValueError("it has a [SEG] without a phrase")
    return clean
