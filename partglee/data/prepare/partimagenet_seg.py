"""PartImageNet_Seg, the second release: label maps of parts (0-39, 40 none) and of whole objects (0-157, 158 none).

The object is the region of its ImageNet class, so its mask is whole; its kind is that of most of its part pixels. Parts
inside it that are of this kind have it as parent, others have none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.partimagenet import partimagenet_names
from partglee.data.prepare.regions import Mask, region_from_mask
from partglee.data.segmentation import label_files, labels_in, read_label_map

NO_PART, NO_OBJECT = 40, 158


def read_partimagenet_seg(root: Path, split: str, notes: Counter[str]) -> Iterator[AnnotatedImage]:
    """Images of `annotations/SPLIT/`, `annotations/SPLIT_whole/` and `images/SPLIT/`; file names begin in `images/`.

    Raises:
        ValueError: for missing or damaged files, maps of different sizes, or labels out of range.
    """
    folder = root / "annotations" / split
    for file in label_files(folder):
        place = file.relative_to(folder)
        whole_file = root / "annotations" / f"{split}_whole" / place
        parts, wholes = read_label_map(file), read_label_map(whole_file)
        if parts.shape != wholes.shape:
            raise ValueError(f"{file} is a map of {parts.shape}, but {whole_file} one of {wholes.shape}")
        labels = labels_in(parts, NO_PART, NO_PART, file)
        classes = labels_in(wholes, NO_OBJECT, NO_OBJECT, whole_file)
        name = (Path(split) / place.with_suffix(".JPEG")).as_posix()
        yield _image(name, parts, wholes, labels, classes, notes)


def _image(
    name: str,
    parts: NDArray[np.int64],
    wholes: NDArray[np.int64],
    labels: list[int],
    classes: list[int],
    notes: Counter[str],
) -> AnnotatedImage:
    names = partimagenet_names()[1]
    objects, loose = [], []
    covered = np.zeros(parts.shape, dtype=bool)
    for number in classes:
        whole = wholes == number
        kind = _kind(parts[whole], names)
        if kind is None:
            notes["objects without a part, whose kind is unknown (left out)"] += 1
            continue
        mine: list[tuple[str, Mask]] = []
        for label in labels:
            mask = whole & (parts == label)
            if names[label][0] == kind and mask.any():
                mine.append((names[label][1], mask))
                covered |= mask
        objects.append(region_from_mask(kind, whole, tuple(region_from_mask(part, mask) for part, mask in mine)))
    for label in labels:
        rest = (parts == label) & ~covered
        if rest.any():
            loose.append(region_from_mask(names[label][1], rest))
    height, width = parts.shape
    return AnnotatedImage(name, height, width, tuple(objects), loose=tuple(loose))


def _kind(values: NDArray[np.int64], names: list[tuple[str, str]]) -> str | None:
    """The object that most part pixels belong to."""
    pixels: Counter[str] = Counter()
    for label, count in zip(*np.unique(values, return_counts=True), strict=True):
        if label != NO_PART:
            pixels[names[label][0]] += int(count)
    return pixels.most_common(1)[0][0] if pixels else None
