"""What to do with bad input: an error that says what is wrong, or a counted warning.

Kinds (the same words appear in errors, warnings and results): `unknown image`, `unknown category`, `unknown name`,
`score not finite`, `box not finite`, `box of negative size`, `mask of the wrong size`, `mask unreadable`,
`image given twice`, `no mask`, `no box`, `no predictions`, `image without prediction`, `detection given twice`,
`repeated by the sampler`, `level not annotated`, `not federated`, `parent not found`,
`pixels without a predicted part`, `annotation without a mask`, `annotation whose mask covers no pixel`.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any

from partglee.data.segmentation import is_finite

# Legitimate in themselves, but a reader of the number should know: never an error.
NOTES = frozenset(
    {
        "no predictions",
        "image without prediction",
        "detection given twice",
        "repeated by the sampler",
        "level not annotated",
        "not federated",
        "parent not found",
        "pixels without a predicted part",
        "annotation without a mask",
        "annotation whose mask covers no pixel",
    }
)


class PredictionError(ValueError):
    """A prediction that cannot be scored."""


class InputIssues:
    """Counts what was wrong with the predictions.

    Args:
        strict: raise `PredictionError` at the first bad prediction. Otherwise the prediction is left out, counted, and
            the counts appear in the results (`issues/<kind>`) and as one warning for each kind.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}

    def add(self, kind: str, detail: str, *, count: int = 1) -> None:
        """Report one finding; raises `PredictionError` when strict, unless the kind is only a note."""
        if self.strict and kind not in NOTES:
            raise PredictionError(
                f"{kind}: {detail} (--lenient, in Python strict=False, leaves such predictions out and counts them)"
            )
        self.counts[kind] += count
        self._examples.setdefault(kind, detail)

    def merge(self, other: InputIssues) -> None:
        """Add the counts of another process."""
        self.counts.update(other.counts)
        self._examples = {**other._examples, **self._examples}

    def warn(self) -> None:
        """Emit one warning for each kind."""
        for kind, count in sorted(self.counts.items()):
            warnings.warn(f"{count} x {kind}; first: {self._examples[kind]}", stacklevel=3)

    def as_results(self) -> dict[str, float]:
        """Counts for the result dict."""
        return {f"issues/{kind}": float(count) for kind, count in sorted(self.counts.items())}


def wrong_box(box: Any) -> tuple[str, str] | None:
    """The kind of issue and what is wrong with an xywh box; None when nothing is. A side of 0 is allowed."""
    try:
        wrong = len(box) != 4 or not all(map(is_finite, box))
    except TypeError:  # no list
        wrong = True
    if wrong:
        return "box not finite", f"bbox must be four finite numbers xywh, got {box!s:.80}"
    if box[2] < 0 or box[3] < 0:
        return "box of negative size", f"bbox must be x, y, width and height, not two corners, got {list(box)!r}"
    return None
