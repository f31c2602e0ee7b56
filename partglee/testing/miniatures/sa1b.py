"""SA-1B in miniature: tars of JPEG files and JSON files with the keys of the release, masks without names."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from partglee.basics.files import whole_file
from partglee.testing.miniatures.shapes import Mask, box_of, draw_scene, run_lengths_of

SIZE = (192, 256)  # masks are compared at an eighth of it


def write_sa1b(root: Path, *, num_images: int = 4, seed: int = 0) -> None:
    """`SA1B/sa_000000.tar` and `SA1B/sa_000001.tar` of `num_images` each."""
    for number in range(2):
        rng = np.random.default_rng((seed, 60 + number))
        with whole_file(root / "SA1B" / f"sa_{number:06d}.tar") as beside, tarfile.open(beside, "w") as tar:
            for place in range(num_images):
                _add_image(tar, rng, image_id=11186 * number + place + 1)


def _add_image(tar: tarfile.TarFile, rng: np.random.Generator, *, image_id: int) -> None:
    scene = draw_scene(rng, {"a": tuple("bcde"), "f": tuple("gh"), "i": ()}, size=SIZE)
    masks: list[Mask] = []
    for shape in scene.objects:
        masks += [shape.mask, *(mask for _, mask in shape.parts)]
        for _, mask in shape.parts[:1]:  # a part of a part: its left half
            half = mask.copy()
            half[:, int(np.flatnonzero(mask.any(0)).mean()) :] = False
            masks.append(half)
    content: dict[str, Any] = {
        "image": {"image_id": image_id, "width": SIZE[1], "height": SIZE[0], "file_name": f"sa_{image_id}.jpg"},
        "annotations": [
            {"id": int(rng.integers(10**8, 10**9)), "segmentation": run_lengths_of(masks[row]),
             "bbox": box_of(masks[row]), "area": int(masks[row].sum()), "predicted_iou": 0.95, "stability_score": 0.97,
             "crop_box": [0, 0, SIZE[1], SIZE[0]], "point_coords": [box_of(masks[row])[:2]]}
            for row in rng.permutation(len(masks))
        ],
    }  # fmt: skip
    picture = io.BytesIO()
    Image.fromarray(scene.image).save(picture, format="JPEG")
    for suffix, data in (("jpg", picture.getvalue()), ("json", json.dumps(content).encode())):
        member = tarfile.TarInfo(f"./sa_{image_id}.{suffix}")
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
