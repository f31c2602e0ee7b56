"""ADE20K-Part-234 in miniature: instances with ids from 0 in alphabetical order, 16-bit part maps, 65535 = none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from partglee.basics.files import write_json
from partglee.structures.vocabulary_files import read_builtin
from partglee.testing.miniatures.shapes import SIZE, box_of, draw_scene, polygons_of, write_map, write_picture


def write_ade20k_part_234(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`ADE20KPart234/` with `ade20k_instance_{train,val}.json`, `num_images` each.

    Annotations and categories are numbered from 0. The training file lists one image more, `ADE_frame_00000001.jpg`,
    that is not there.
    """
    objects: Any = read_builtin("ade20k_part_234").objects
    labels = [(name, part) for name, parts in objects.items() for part in parts]
    ids = {name: number for number, name in enumerate(sorted(objects))}
    folder = root / "ADE20KPart234"
    for number, (split, place) in enumerate((("train", "training"), ("val", "validation"))):
        rng = np.random.default_rng((seed, number))
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(num_images + (split == "train")):
            missing = index == num_images
            stem = "ADE_frame_00000001" if missing else f"ADE_{split}_{index + 1:08d}"
            scene = draw_scene(rng, objects)
            part_map = np.full(SIZE, 65535, np.uint16)
            for shape in scene.objects:
                for part, mask in shape.parts:
                    part_map[mask] = labels.index((shape.name, part))
                annotations.append(
                    {"id": len(annotations), "image_id": index, "category_id": ids[shape.name], "iscrowd": 0,
                     "bbox": box_of(shape.mask), "area": float(shape.mask.sum()),
                     "segmentation": polygons_of(shape.mask)}
                )  # fmt: skip
            images.append({"id": index, "file_name": f"{stem}.jpg", "height": SIZE[0], "width": SIZE[1]})
            write_map(folder / "annotations_detectron2_part" / place / f"{stem}.png", part_map)
            if not missing:
                write_picture(folder / "images" / place / f"{stem}.jpg", scene.image)
        categories = [{"id": number, "name": name} for name, number in ids.items()]
        content = {"images": images, "annotations": annotations, "categories": categories}
        write_json(content, folder / f"ade20k_instance_{split}.json")
