"""Clothing Co-Parsing (Yang et al., 2014): street photos of one main person, 58 clothing labels per pixel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.prepare.command import Argv, run_mapped
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.mapping import NameMapping
from partglee.data.prepare.raw_files import load_mat
from partglee.data.prepare.regions import Region, drop_specks, region_from_mask, split_components, split_pair

MIN_AREA = 20  # pixels; smaller regions are noise of the labelling tool


def read_clothing(raw: Path, mapping: NameMapping, *, min_area: int = MIN_AREA) -> Iterator[AnnotatedImage]:
    """Images of a raw folder with `photos/`, `annotations/pixel-level/` and `label_list.mat`.

    Raises:
        ValueError: for missing or damaged files, a label that the mapping does not have, or a label map without photo.
    """
    labels = [str(name) for name in np.atleast_1d(load_mat(raw / "label_list.mat", "label_list"))]
    targets = {name: mapping.target(name) for name in labels}
    files = sorted((raw / "annotations" / "pixel-level").glob("*.mat"))
    if not files:
        raise ValueError(
            f"no label maps in {raw / 'annotations' / 'pixel-level'}; is {raw} the folder of the data set?"
        )
    for file in files:
        photo = f"photos/{file.stem}.jpg"
        if not (raw / photo).is_file():
            raise ValueError(f"{file.name} has no photo {raw / photo}; download the photos again")
        grid = np.asarray(load_mat(file, "groundtruth"))
        if grid.ndim != 2 or grid.max(initial=0) >= len(labels):
            raise ValueError(
                f"{file} must hold a map (h, w) of labels below {len(labels)}, got {grid.shape} up to {grid.max()}"
            )
        objects = clothing_objects(grid, labels, targets, mapping, min_area=min_area)
        if objects:  # one of the first 600 maps is blank
            yield AnnotatedImage(photo, grid.shape[0], grid.shape[1], objects)


def clothing_objects(
    grid: NDArray[Any],
    labels: list[str],
    targets: dict[str, str | None],
    mapping: NameMapping,
    *,
    min_area: int = MIN_AREA,
) -> tuple[Region, ...]:
    """One label map (h, w) -> the person with its garments, and what is carried.

    A label is one instance, however it is cut by arms and belts, unless its name comes in pairs. Regions under
    `min_area` pixels are dropped from instances.
    """
    body = np.zeros(grid.shape, dtype=bool)
    parts: list[Region] = []
    carried: list[Region] = []
    for value in np.unique(grid):
        raw = labels[value]
        name = targets[raw]
        mask = grid == value
        if name is None:
            if raw in mapping.body:
                body |= drop_specks(mask, min_area)
            continue
        instances = [region_from_mask(name, piece) for piece in _instances(name, mask, mapping, min_area)]
        if ":" in name:
            body |= drop_specks(mask, min_area)
            parts += instances
        else:
            carried += instances
    person = (region_from_mask("person", body, tuple(parts)),) if body.any() else ()
    return (*person, *carried)


def _instances(name: str, mask: NDArray[np.bool_], mapping: NameMapping, min_area: int) -> list[NDArray[np.bool_]]:
    if name in mapping.pairs:
        return split_pair(mask, min_area)
    if name in mapping.components:
        return split_components(mask, min_area)
    whole = drop_specks(mask, min_area)
    return [whole] if whole.any() else []


def main(argv: Argv = None) -> int:
    """`datasets/prepare_clothing.py`."""
    return run_mapped(argv, "Clothing Co-Parsing", "clothing", raw="", read=read_clothing)
