"""The data sets of OV-PARTS in miniature, instances or object maps beside maps of parts.

ADE20K-Part-234: instances with ids from 0 in alphabetical order, 16-bit part maps, 65535 = none. Pascal-Part-116: pairs
of 8-bit maps, 255 = none, and the lists of labels that OV-PARTS keeps.
"""

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
