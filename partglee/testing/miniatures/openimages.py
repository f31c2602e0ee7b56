"""Open Images in miniature: CSV files of boxes and verified labels, of eight objects and all 13 body parts."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import whole_file
from partglee.data.prepare.open_images import HUMAN_PARTS
from partglee.testing.miniatures.shapes import box_of, draw_scene, write_picture

KINDS = {
    "Man": ("Human head", "Human arm", "Human leg"), "Woman": ("Human face", "Human hand"), "Car": (), "Dog": (),
    "Tree": (),
}  # fmt: skip
CODES = {name: f"/m/0{number:04d}" for number, name in enumerate([*KINDS, "Person", "Boy", "Girl", *HUMAN_PARTS])}
_BOX = (
    "ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsOccluded", "IsTruncated",
    "IsGroupOf", "IsDepiction", "IsInside",
)  # fmt: skip


def write_openimages(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`openimages/` with class descriptions, boxes and verified labels of train and validation, and their images."""
    folder = root / "openimages"
    _write(folder / "class-descriptions-boxable.csv", [(code, name) for name, code in CODES.items()])
    for number, (split, prefix) in enumerate((("train", "oidv6-train"), ("validation", "validation"))):
        rng = np.random.default_rng((seed, 90 + number))
        boxes: list[tuple[Any, ...]] = [_BOX]
        labels: list[tuple[Any, ...]] = [("ImageID", "Source", "LabelName", "Confidence")]
        for _ in range(num_images):
            name = f"{int(rng.integers(2**63, 2**64, dtype=np.uint64)):016x}"
            scene = draw_scene(rng, KINDS)
            height, width = scene.image.shape[:2]
            write_picture(folder / split / f"{name}.jpg", scene.image)
            present = set()
            for place, shape in enumerate(scene.objects):
                for kind, mask in ((shape.name, shape.mask), *shape.parts):
                    x, y, w, h = box_of(mask)
                    sides = (x / width, (x + w) / width, y / height, (y + h) / height)
                    group = int(place == 2 and kind == shape.name)
                    boxes.append((name, "xclick", CODES[kind], 1, *(f"{s:.6f}" for s in sides), 0, 0, group, 0, 0))
                    present.add(kind)
            labels += [(name, "verification", CODES[kind], 1) for kind in sorted(present)]
            labels += [(name, "verification", CODES[kind], 0) for kind in ("Car", "Human beard") if kind not in present]
        _write(folder / f"{prefix}-annotations-bbox.csv", boxes)
        _write(folder / f"{split}-annotations-human-imagelabels-boxable.csv", labels)


def _write(path: Path, rows: Iterable[tuple[Any, ...]]) -> None:
    with whole_file(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
