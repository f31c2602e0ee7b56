"""Pascal-Part-116 in miniature: pairs of 8-bit maps, 255 = none, and the lists of labels that OV-PARTS keeps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import read_builtin
from partglee.testing.miniatures.shapes import SIZE, draw_scene, write_map, write_picture


def write_pascal_part_116(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`PascalPart116/{images,annotations_detectron2_obj,annotations_detectron2_part}/{train,val}`, `num_images` each.

    A `._` file of macOS lies among the maps, as in the download.
    """
    objects: Any = read_builtin("pascal_part_116").objects
    labels = [(name, part) for name, parts in objects.items() for part in parts]
    folder = root / "PascalPart116"
    for number, split in enumerate(("train", "val")):
        rng = np.random.default_rng((seed, number))
        counts: dict[str, dict[str, list[int]]] = {"obj": {}, "part": {}}
        for index in range(num_images):
            stem = f"2008_{1000 * number + index + 1:06d}"
            scene = draw_scene(rng, objects)
            maps = {level: np.full(SIZE, 255, np.uint8) for level in counts}
            for shape in scene.objects:
                maps["obj"][shape.mask] = list(objects).index(shape.name)
                for part, mask in shape.parts:
                    maps["part"][mask] = labels.index((shape.name, part))
            write_picture(folder / "images" / split / f"{stem}.jpg", scene.image)
            for level, labelled in maps.items():
                write_map(folder / f"annotations_detectron2_{level}" / split / f"{stem}.png", labelled)
                counts[level][f"{stem}.png"] = [int(v) for v in np.unique(labelled) if v != 255]
        for level, listed in counts.items():
            write_json(listed, folder / "annotations_detectron2_part" / f"{split}_{level}_label_count.json")
        (folder / "annotations_detectron2_part" / split / "._2008_000001.png").write_bytes(b"Mac OS X")
