"""What a data set knows of one image, before any transform.

Readers make these from annotation files, mappers turn them into training samples. Boxes are xyxy in pixels of the image
file as it is stored upright.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from partglee.structures import Vocabulary

Segmentation = tuple[tuple[float, ...], ...] | Mapping[str, Any] | None
"""Polygons (x0, y0, x1, y1, ...), a COCO run-length dict {"size", "counts"}, or None where there is only a box."""


@dataclass(frozen=True, slots=True)
class Instance:
    """One annotated object or part."""

    label: int  # position among the object names, or among the part columns, of the data set's vocabulary
    box: tuple[float, float, float, float]  # xyxy pixels
    segmentation: Segmentation = None
    parent: int = -1  # of a part: row in `ImageRecord.objects`, -1 unknown; of an object: -1
    crowd: bool = False  # a region of many, not an instance: never a target, ignored in evaluation
    annotation_id: int = 0  # of the file, for messages
    attributes: tuple[int, ...] = ()  # ids of the file's attributes (PACO); nothing of the model reads them


@dataclass(frozen=True, slots=True)
class Expression:
    """A sentence and what it means in one image: any number of objects and parts, or nothing at all.

    Raises:
        ValueError: for a sentence without a letter that is not space.
    """

    text: str
    objects: tuple[int, ...] = ()  # rows of `ImageRecord.objects`
    parts: tuple[int, ...] = ()  # rows of `ImageRecord.parts`
    id: int = 0  # of the file, for messages

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError(f"an expression is a sentence, got {self.text!r}")

    @property
    def no_target(self) -> bool:
        """It means nothing in this image."""
        return not self.objects and not self.parts

    @property
    def of_parts(self) -> bool:
        """It means parts and no whole object."""
        return bool(self.parts) and not self.objects


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image with its annotations."""

    file: Path
    height: int
    width: int
    image_id: int
    objects: tuple[Instance, ...] = ()
    parts: tuple[Instance, ...] = ()
    negative_objects: frozenset[int] | None = None  # federated: labels looked for and not found; None = all were
    negative_parts: frozenset[int] | None = None
    not_exhaustive_objects: frozenset[int] = frozenset()  # labels with more instances than are annotated
    not_exhaustive_parts: frozenset[int] = frozenset()
    expressions: tuple[Expression, ...] = ()  # referring data; answers are keyed by image id and place in here
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)  # of an image without file

    def targets(self, expression: Expression) -> tuple[Instance, ...]:
        """What an expression of this image means: objects, then parts."""
        return (
            *(self.objects[row] for row in expression.objects),
            *(self.parts[row] for row in expression.parts),
        )

    @property
    def source(self) -> Path | NDArray[np.uint8]:
        """What `read_image` takes."""
        return self.file if self.pixels is None else self.pixels


class Records(Protocol):
    """A data set that is read: a sequence of images that costs little until an image is asked for."""

    vocabulary: Vocabulary

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> ImageRecord: ...

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the annotations say; (0, 0) where they do not."""
        ...

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object labels and part labels that an image has, without decoding it (for repeat-factor sampling)."""
        ...
