"""Draw the README's picture: parts of a cat, annotated by hand, in the style of the library's output.

The photo is `chelsea` of scikit-image (CC0). The polygons below were placed by hand; no model made them.

    python tools/make_readme_picture.py [docs/images/parsed_cat.jpg]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from partglee.structures import Level, Prediction

# (x, y) pixels in the 451 x 300 photo. The object comes first, its parts follow.
POLYGONS: tuple[tuple[str, tuple[tuple[int, int], ...]], ...] = (
    ("cat", ((38, 0), (400, 0), (384, 30), (372, 60), (360, 76), (364, 120), (360, 150), (345, 185), (335, 210),
             (330, 240), (322, 262), (300, 284), (280, 300), (0, 300), (0, 160), (28, 118), (34, 60))),
    ("head", ((42, 0), (330, 0), (345, 30), (355, 76), (362, 112), (360, 150), (345, 185), (335, 210), (328, 240),
              (315, 262), (290, 278), (255, 287), (205, 278), (150, 240), (95, 190), (50, 150), (34, 112), (36, 50))),
    ("neck", ((0, 162), (30, 116), (36, 114), (50, 150), (95, 190), (150, 240), (205, 278), (255, 287), (268, 285),
              (252, 300), (0, 300))),
    ("muzzle", ((231, 220), (205, 222), (170, 232), (152, 242), (205, 278), (255, 287), (290, 278), (315, 262),
                (312, 240), (292, 224))),
    ("ear", ((40, 0), (84, 0), (76, 16), (62, 28), (44, 34), (38, 22))),
    ("ear", ((318, 0), (400, 0), (384, 30), (372, 60), (359, 76), (347, 48), (334, 22))),
    ("eye", ((136, 104), (141, 92), (155, 87), (172, 86), (188, 92), (200, 104), (206, 118), (203, 132), (193, 142),
             (178, 146), (162, 143), (149, 134), (140, 120))),
    ("eye", ((299, 128), (305, 118), (317, 111), (330, 110), (340, 117), (343, 130), (338, 147), (327, 158),
             (313, 163), (303, 160), (299, 146))),
    ("nose", ((231, 228), (250, 228), (275, 229), (291, 231), (288, 242), (274, 252), (264, 264), (255, 265),
              (250, 250), (241, 242))),
)  # fmt: skip


def annotation() -> Prediction:
    """The hand-placed annotation as a prediction with scores of 1."""
    from skimage import data  # the photo comes with the package

    image = np.asarray(data.chelsea())
    height, width = image.shape[:2]
    masks, boxes = [], []
    for _, points in POLYGONS:
        canvas = Image.new("1", (width, height))
        ImageDraw.Draw(canvas).polygon(points, fill=1)
        mask = np.array(canvas)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        masks.append(mask)
        boxes.append([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    names = [name for name, _ in POLYGONS]
    levels = [Level.OBJECT] + [Level.PART] * (len(names) - 1)
    vocabulary = list(dict.fromkeys(names[1:]))
    return Prediction(
        boxes=torch.tensor(boxes, dtype=torch.float32),
        masks=torch.from_numpy(np.stack(masks)),
        scores=torch.ones(len(names)),
        labels=torch.tensor([0] + [vocabulary.index(name) for name in names[1:]]),
        names=names,
        level=torch.tensor(levels),
        parent=torch.tensor([-1] + [0] * (len(names) - 1)),
        image_size=(height, width),
        image=image,
        file_name="chelsea.png",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the README's picture from a hand-made annotation.")
    parser.add_argument("output", nargs="?", type=Path, default=Path("docs/images/parsed_cat.jpg"))
    output = parser.parse_args().output
    output.parent.mkdir(parents=True, exist_ok=True)
    picture = annotation().draw(scores=False, scale=2, panel=True)
    picture.save(output, quality=85, optimize=True)
    print(f"{output}: {picture.width} x {picture.height}, {output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
