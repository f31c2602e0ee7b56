"""What goes through a pipeline: one image at a time, with the regions that stages find in it.

H x W the image. Boxes are xyxy in pixels of the upright image; masks are COCO run lengths (`size`, `counts` as text).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # (H, W, 3) RGB
RunLengths = Mapping[str, Any]  # {"size": [H, W], "counts": text}


@dataclass(slots=True, kw_only=True)
class Region:
    """One object or part. Its number, the place in `Sample.regions`, never changes: filters mark and do not remove."""

    name: str
    level: str = "object"  # or "part"
    box: tuple[float, float, float, float] | None = None
    score: float | None = None  # of whoever found it, in [0, 1]
    mask: RunLengths | None = None
    parent: int = -1  # number of the region it belongs to, -1 for none or an unknown one
    caption: str | None = None
    scores: dict[str, float] = field(default_factory=dict)  # of filters: {"clip": 0.71}
    dropped: str = ""  # why a filter does not want it; "" = it counts
    stages: list[str] = field(default_factory=list)  # those that it went through
    extra: dict[str, Any] = field(default_factory=dict)  # values of columns that a user registered

    def copy(self) -> Region:
        """One that may be changed."""
        return replace(self, scores=dict(self.scores), stages=list(self.stages), extra=dict(self.extra))


@dataclass(slots=True, kw_only=True)
class Description:
    """A text over a node of the mask tree, whose phrases are regions."""

    node: int  # number of the region it describes, -1 for the whole image
    text: str  # phrases stand between <p> and </p>, each followed by [SEG]
    regions: tuple[int, ...] = ()  # of the phrases, in their order


@dataclass(slots=True, kw_only=True)
class Sample:
    """One image on its way through the stages."""

    image_id: str  # unique in the job
    file: str  # where it came from, for messages and the catalogue
    seed: int = 0  # of this image in this job; the same whatever the number of workers
    image: Pixels | None = None
    content: bytes | None = None  # the file as it was read, where something wants to pass it on unchanged
    size: tuple[int, int] | None = None  # (H, W)
    vocabulary: dict[str, tuple[str, ...]] | None = None  # object names with their parts, of this image
    regions: list[Region] = field(default_factory=list)
    descriptions: list[Description] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> Sample:
        """One that may be changed; the pixels, which nothing changes, are shared."""
        regions = [region.copy() for region in self.regions]
        return replace(self, regions=regions, descriptions=list(self.descriptions), extra=dict(self.extra))

    def kept(self) -> Iterator[tuple[int, Region]]:
        """(number, region) of those that no filter dropped."""
        return ((number, region) for number, region in enumerate(self.regions) if not region.dropped)

    def random(self, stage: str) -> np.random.Generator:
        """Chance for one stage on this image, which no other image, stage or worker takes part in."""
        return np.random.default_rng([self.seed, *stage.encode()])
