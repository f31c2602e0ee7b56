"""Expressions of one image, in passes that share one text: those that mean objects, then those that mean parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch

from partglee.modeling.frame import Frame
from partglee.modeling.postprocess import ground, ground_part
from partglee.structures import Grounding, ModelOutput, TextEmbeddings, Vocabulary
from partglee.text import TextEncoder
from partglee.text.phrases import PartPhrase, PhraseParser, part_columns


class Question(NamedTuple):
    """One expression: its place in the list that was asked, and the part that it means, if it means one."""

    place: int
    text: str
    phrase: PartPhrase | None


class Questions(NamedTuple):
    """Expressions that go through the model together; all of them mean parts of `names`, or none does."""

    asked: tuple[Question, ...]
    names: Vocabulary | None

    def embed(self, encoder: TextEncoder) -> TextEmbeddings:
        """What the model reads: the sentences, of those that mean parts what they say of the object, and the parts."""
        told = [asked.text if asked.phrase is None else asked.phrase.owner for asked in self.asked]
        text = encoder.embed_expressions(told)
        return text if self.names is None else text._replace(parts=encoder.embed(self.names, with_tokens=False).parts)

    @torch.no_grad()
    def answers(
        self, output: ModelOutput, frame: Frame, *, union: bool, score_threshold: float
    ) -> Iterator[tuple[int, Grounding]]:
        """Place and answer of each; options as of `Predictor.ground`."""
        for row, (place, text, phrase) in enumerate(self.asked):
            if self.names is None or phrase is None:
                yield place, ground(output, row, text, frame, union=union, score_threshold=score_threshold)
                continue
            columns, rivals = part_columns(phrase, self.names)
            yield (
                place,
                ground_part(output, row, text, frame, columns=columns, rivals=rivals, score_threshold=score_threshold),
            )


def sentences(expressions: str | Sequence[str]) -> list[str]:
    """One expression or several, as a list; TypeError for what is no text."""
    if isinstance(expressions, str):
        return [expressions]
    if not isinstance(expressions, Sequence):
        raise TypeError(f"expected a sentence or a list of them, got {expressions!r:.60}")
    for text in expressions:
        if not isinstance(text, str):
            raise TypeError(f"a referring expression is text, got {type(text).__name__} {text!r:.60}; pass one string")
    return list(expressions)


def questions(
    expressions: Sequence[str], names: Vocabulary | None, parser: PhraseParser, *, at_once: int
) -> Iterator[Questions]:
    """Every expression once, a few at a time.

    Args:
        names: whose parts expressions may mean; None = none does.
        at_once: how many.
    """
    phrases = [None if names is None else _parsed(text, names, parser) for text in expressions]
    asked = [Question(place, *pair) for place, pair in enumerate(zip(expressions, phrases, strict=True))]
    for kind, vocabulary in (
        ([one for one in asked if one.phrase is None], None),
        ([one for one in asked if one.phrase is not None], names),
    ):
        for first in range(0, len(kind), at_once):
            yield Questions(tuple(kind[first : first + at_once]), vocabulary)


def _parsed(text: str, names: Vocabulary, parser: PhraseParser) -> PartPhrase | None:
    phrase = parser(text, names.part_names)
    if phrase is None or (isinstance(phrase, PartPhrase) and all(isinstance(word, str) for word in phrase)):
        return phrase
    raise TypeError(
        f"the parser must give a PartPhrase(owner, part), or None where {text!r:.60} means an object, "
        f"got {phrase!r:.60}; see partglee.text.phrases"
    )
