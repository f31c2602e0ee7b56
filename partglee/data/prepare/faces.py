"""CelebAMask-HQ (Lee et al., 2020): portraits with an index map of 18 labels. Alone, and as small faces side by side.

H, W: size of a photo.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.basics.files import write_jpeg
from partglee.data.images import read_image
from partglee.data.prepare.command import Argv, mapped_parser, run, shown, write_apart, write_shares
from partglee.data.prepare.files import AnnotatedImage, num_validation
from partglee.data.prepare.mapping import NameMapping, load_mapping
from partglee.data.prepare.regions import Mask, Region, drop_specks, region_from_mask, split_pair
from partglee.data.segmentation import decode, label_files, labels_in, read_label_map

LABELS = (  # 0 = background
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
    "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip
MIN_AREA = 12  # pixels; smaller regions are noise of the labelling tool
_MOUTH = ("mouth", "u_lip", "l_lip")
_BELOW = ("neck_l", "neck", "cloth")  # what is no part of the head
SIDES = (48, 64, 80, 106, 160)  # pixels of a small face; mosaics are 320 x 320


def read_faces(raw: Path, mapping: NameMapping, *, min_area: int = MIN_AREA) -> Iterator[AnnotatedImage]:
    """Images of a raw folder with `images/NAME.jpg` and `masks/NAME.png`, both of one size.

    Each has a person and its head, and the parts of the head under both. The mouth is what is between the lips together
    with them. Maps without skin are left out.

    Raises:
        ValueError: for missing or damaged files, a label above 18, or a map without its photo.
    """
    for file in label_files(raw / "masks"):
        photo = f"images/{file.stem}.jpg"
        if not (raw / photo).is_file():
            raise ValueError(f"{file.name} has no photo {raw / photo}; download the photos again")
        grid = read_label_map(file)
        labels_in(grid, len(LABELS) + 1, 0, file)
        objects = face_objects(grid, mapping, min_area=min_area)
        if objects:
            yield AnnotatedImage(photo, grid.shape[0], grid.shape[1], objects)


def face_objects(grid: NDArray[np.int64], mapping: NameMapping, *, min_area: int = MIN_AREA) -> tuple[Region, ...]:
    """One index map (H, W) -> the person and the head, each with its parts."""
    of_label = {raw: drop_specks(grid == value, min_area) for value, raw in enumerate(LABELS, 1)}
    if not of_label["skin"].any():
        return ()
    of_label["mouth"] = _union(of_label[raw] for raw in _MOUTH)
    head = _union(mask for raw, mask in of_label.items() if raw not in _BELOW)
    parts = [region_from_mask("person:head", head)] if "head" in mapping.objects["person"] else []
    for raw, mask in of_label.items():
        name = mapping.target(raw)
        if name is not None and mask.any():
            pieces = split_pair(mask, min_area) if name in mapping.pairs else [mask]
            parts += [region_from_mask(name, piece) for piece in pieces]
    person = region_from_mask("person", _union(of_label.values()), tuple(parts))
    if "head" not in mapping.objects:
        return (person,)
    of_head = [replace(part, name=part.name.replace("person:", "head:")) for part in parts]
    known = {f"head:{part}" for part in mapping.objects["head"]}
    return person, region_from_mask("head", head, tuple(part for part in of_head if part.name in known))


def _union(masks: Iterable[Mask]) -> Mask:
    union: Mask = np.logical_or.reduce(list(masks))
    return union


# ---------------------------------------------------------------------- small faces


def small_faces(
    images: Sequence[AnnotatedImage], raw: Path, folder: str, *, side: int = 320, seed: int = 0
) -> Iterator[AnnotatedImage]:
    """Portraits at 48 to 160 pixels, side by side on pictures of `side` pixels that are written to `raw / folder`.

    Every portrait is used once. A picture holds portraits of one size, as many as fit; sizes go round. Regions that
    vanish at their size are left out. The pictures follow from the images and the seed.
    """
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    number = 0
    while order:
        face = SIDES[number % len(SIDES)]
        across = side // face
        chosen, order = order[: across * across], order[across * across :]
        canvas = np.full((side, side, 3), 128, np.uint8)
        objects: list[Region] = []
        for place, row in enumerate(chosen):
            top, left = (index * (side // across) for index in divmod(place, across))
            image = images[row]
            pixels = Image.fromarray(read_image(raw / image.file_name)).resize((face, face), Image.Resampling.LANCZOS)
            canvas[top : top + face, left : left + face] = np.asarray(pixels)
            moved = (_shrunk(region, face, top, left, side) for region in image.objects)
            objects += [region for region in moved if region is not None]
        name = f"{folder}/{number:04d}.jpg"
        write_jpeg(Image.fromarray(canvas), raw / name, quality=95)
        yield AnnotatedImage(name, side, side, tuple(objects))
        number += 1


def _shrunk(region: Region, face: int, top: int, left: int, side: int) -> Region | None:
    """The region at its place on the picture; a pixel of the small face is its own where its centre was."""
    mask = decode(region.segmentation, *region.segmentation["size"])
    height, width = mask.shape
    rows = ((np.arange(face) + 0.5) * height / face).astype(int)
    columns = ((np.arange(face) + 0.5) * width / face).astype(int)
    canvas = np.zeros((side, side), bool)
    canvas[top : top + face, left : left + face] = mask[np.ix_(rows, columns)].astype(bool)
    if not canvas.any():
        return None
    parts = (_shrunk(part, face, top, left, side) for part in region.parts)
    return region_from_mask(region.name, canvas, tuple(part for part in parts if part is not None))


# ---------------------------------------------------------------------- command line


def main(argv: Argv = None) -> int:
    """`datasets/prepare_faces.py`."""
    return run(mapped_parser("CelebAMask-HQ", "faces", raw=""), argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    """train.json and val.json; of the last two shares small faces too, small_test.json and small_val.json."""
    mapping = load_mapping(arguments.mapping)
    images = sorted(shown(read_faces(arguments.raw, mapping)), key=lambda image: image.file_name)
    categories, description = mapping.categories(), "CelebAMask-HQ"
    yield from write_shares(images, arguments, categories=categories, description=description)
    last = len(images) - num_validation(len(images), arguments.val_share)
    before = max(0, 2 * last - len(images))
    small = {
        f"small_{name}": list(small_faces(chosen, arguments.raw, f"small_{name}"))
        for name, chosen in (("test", images[before:last]), ("val", images[last:]))
        if chosen
    }
    yield from write_apart(small, arguments.output, categories=categories, description=description)
