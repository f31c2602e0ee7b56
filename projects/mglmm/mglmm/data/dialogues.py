"""Several questions about one image, one after another: an image is encoded once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mglmm.data.make import resolve
from mglmm.data.record import Record
from mglmm.data.source import Scenes


class Dialogues:
    """Records of several sources over the same images, joined to one conversation each.

    Any question may come first, so that what is learned serves a single question as well.

    Args:
        sources: whose rows are the same images.
        shares: how often each is asked, relative to the others.
        number: of questions.

    Raises:
        ValueError: for sources of different length, other shares than sources, or no question.
    """

    def __init__(self, name: str, sources: Sequence[Scenes], *, shares: Sequence[float], number: int = 3) -> None:
        if not sources or len({len(source) for source in sources}) != 1:
            raise ValueError(f"expected sources over the same images, got {[len(source) for source in sources]} rows")
        if len(shares) != len(sources) or min(shares) < 0 or sum(shares) <= 0 or number < 1:
            raise ValueError(
                f"expected one share for each of {len(sources)} sources and a question or more, got {list(shares)} and "
                f"{number}"
            )
        self.name, self.images = name, sources[0].images
        self.sources = tuple(sources)
        self.shares = np.array(shares, float) / sum(shares)
        self.number = number

    def __len__(self) -> int:
        return len(self.sources[0])

    def draw(self, index: int, rng: np.random.Generator) -> Record | None:
        """No question comes twice; None where none can be asked."""
        made: list[Record] = []
        for row in rng.choice(len(self.sources), size=self.number, p=self.shares):
            source = self.sources[row]
            record = source.made(index, rng)
            if record is not None and all(record.turns[0] != other.turns[0] for other in made):
                made.append(record)
        return resolve(joined(made).check(), self.sources[0].wordings, rng) if made else None


def joined(records: Sequence[Record]) -> Record:
    """One conversation of all turns, in order; each keeps its masks. What is ignored is that of the last answer, which
    alone is scored.

    Raises:
        ValueError: for none, or records of different images.
    """
    if len({(record.image, record.size) for record in records}) != 1:
        raise ValueError(f"expected records of one image, got {[record.image for record in records]}")
    turns, masks = list(records[0].turns), list(records[0].masks)
    for record in records[1:]:
        before = len(masks)
        turns += [
            turn._replace(spans=tuple(span._replace(mask=span.mask + before) for span in turn.spans))
            for turn in record.turns
        ]
        masks += [
            replace(mask, parent=mask.parent + before if mask.parent >= 0 else mask.parent) for mask in record.masks
        ]
    return replace(records[0], turns=tuple(turns), masks=tuple(masks), ignored=records[-1].ignored)
