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
    expressions: tuple[tuple[str, ...], ...] = ()  # referring data: for each object the sentences that mean it
    pixels: NDArray[np.uint8] | None = field(default=None, compare=False, repr=False)  # of an image without file

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
