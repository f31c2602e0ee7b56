"""What an exported file says of itself: its names, its sizes, where it comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from partglee.structures import Vocabulary

KEY = "partglee"
VERSION = 1
NAME_INPUTS = ("object_names", "part_names", "allowed")
_COLUMNS = ("object_names", "part_names", "object_prompts", "part_prompts", "part_owner")


@dataclass(frozen=True, kw_only=True)
class Card:
    """Written into the file as one JSON text.

    Attributes:
        vocabulary: what the graph looks for; None = names are inputs.
        short_side, max_side: what images are resized to before they are padded to multiples of `divisibility`.
        size: (H, W) of every input where the graph has one size; None = any.
        pixel_mean: RGB of the padding, in 0..255.
        score_threshold: what the graph keeps; fixed in it.
        mask_box: masks end at so many times their box, once they have the size of the image; None = they lie anywhere.
        remarks: of the weights, such as the terms of their training data.
    """

    vocabulary: Vocabulary | None
    short_side: int
    max_side: int
    divisibility: int
    size: tuple[int, int] | None
    pixel_mean: tuple[float, float, float]
    score_threshold: float
    mask_box: float | None = None
    weights: str = ""
    remarks: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        names = self.vocabulary
        content: dict[str, Any] = {"version": VERSION, **self.__dict__, "remarks": dict(self.remarks)}
        content["vocabulary"] = None if names is None else {name: getattr(names, name) for name in _COLUMNS}
        return json.dumps(content, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | None, source: str) -> Card:
        """Read one.

        Raises:
            ValueError: for a text that is none, or of a later version.
        """
        try:
            content = json.loads(text or "")
            if content.pop("version") > VERSION:
                raise ValueError(f"{source} was exported by a later partglee; update it: pip install -U partglee")
            names = content.pop("vocabulary")
            size = content.pop("size")
            vocabulary = None if names is None else Vocabulary.from_columns(**names)
            mean = tuple(content.pop("pixel_mean"))
            return cls(**content, vocabulary=vocabulary, pixel_mean=mean, size=None if size is None else tuple(size))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{source} was not written by `partglee export --format` ({error}); export it again"
            ) from error
