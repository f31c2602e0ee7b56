"""Geometry against the slow way: bitmaps of the whole image, resized, cropped and mirrored."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from coco_files import square
from pycocotools import mask as rle
from scipy import ndimage

from partglee.data.augmentation import JitterCrop, ShortSide
from partglee.data.segmentation import decode, encode_segmentation
from partglee.data.transforms import (
    Geometry,
    flipped_labels,
    jitter_color,
    short_side_size,
    swap_sides,
)
from partglee.structures import Vocabulary

SEEDS = range(12)


def random_geometry(rng: np.random.Generator) -> Geometry:
    source = tuple(int(side) for side in rng.integers(17, 120, size=2))
    size = tuple(int(side) for side in rng.integers(16, 100, size=2))
    return JitterCrop(size=size, scale=(0.5, 2.0), flip=0.5).draw(source, rng, whole=False)


def slow(full: np.ndarray, geometry: Geometry) -> np.ndarray:
    """Sample a bitmap at the centre of every pixel of the result, one by one."""
    result = np.zeros(geometry.size, full.dtype)
    for row in range(geometry.size[0]):
        for column in range(geometry.size[1]):
            seen = geometry.size[1] - 1 - column if geometry.flip else column
            y = (row + geometry.top + 0.5) * geometry.source[0] / geometry.resized[0]
            x = (seen + geometry.left + 0.5) * geometry.source[1] / geometry.resized[1]
            result[row, column] = full[min(int(y), full.shape[0] - 1), min(int(x), full.shape[1] - 1)]
    return result


@pytest.mark.parametrize("seed", SEEDS)
def test_run_lengths(seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = random_geometry(rng)
    full = rng.random(geometry.source) < 0.5
    packed = rle.encode(np.asfortranarray(full.astype(np.uint8)))
    differing = geometry.mask(packed) != slow(full, geometry)
    # Centres that fall between two pixels are rounded by float32 there and by float64 here.
    y = (np.arange(geometry.size[0]) + geometry.top + 0.5) * geometry.source[0] / geometry.resized[0]
    x = (np.arange(geometry.size[1]) + geometry.left + 0.5) * geometry.source[1] / geometry.resized[1]
    x = x[::-1] if geometry.flip else x
    between = np.add.outer(np.abs(y - y.round()) < 1e-4, np.abs(x - x.round()) < 1e-4)
    assert not (differing & ~between).any()


@pytest.mark.parametrize("seed", SEEDS)
def test_polygons_follow_the_bitmap_up_to_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    geometry = random_geometry(rng)
    height, width = geometry.source
    angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
    radius = rng.uniform(0.2, 0.6, 9)
    star = np.stack([width * (0.5 + radius * np.cos(angles)), height * (0.5 + radius * np.sin(angles))], axis=1)
    polygons = (tuple(star.ravel()), *map(tuple, square(0, 0, width / 4, height / 4)))  # also over the image's edge
    wanted = slow(decode(polygons, height, width), geometry)
    got = geometry.mask(polygons)
    grow = 1 + int(np.ceil(max(geometry.resized[0] / height, geometry.resized[1] / width)))
    window = np.ones((2 * grow + 1, 2 * grow + 1), bool)
    assert (ndimage.binary_erosion(wanted, window, border_value=1) <= got).all()
    assert (got <= ndimage.binary_dilation(wanted, window)).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_boxes(seed: int) -> None:
    """A box goes where its corners go, and is cut off at the crop's edge."""
    rng = np.random.default_rng(seed)
    geometry = random_geometry(rng)
    height, width = geometry.source
    corners = np.sort(rng.uniform(0, 1, (8, 2, 2)) * [width, height], axis=1).reshape(8, 4)
    got = geometry.boxes(corners)
    for box, result in zip(corners, got, strict=True):
        x = np.clip(box[[0, 2]] * geometry.resized[1] / width - geometry.left, 0, geometry.size[1])
        y = np.clip(box[[1, 3]] * geometry.resized[0] / height - geometry.top, 0, geometry.size[0])
        x = geometry.size[1] - x[::-1] if geometry.flip else x
        assert result == pytest.approx([x[0], y[0], x[1], y[1]], abs=1e-3)
    assert geometry.boxes(np.zeros((0, 4))).shape == (0, 4)


@pytest.mark.parametrize("seed", SEEDS)
def test_pixels_and_masks_go_to_the_same_place(seed: int) -> None:
    """The centre of a bright blob in the image, and the centre of its mask."""
    rng = np.random.default_rng(seed)
    geometry = JitterCrop(size=(64, 80), scale=(0.6, 1.0), flip=0.5).draw((90, 70), rng, whole=True)
    mask = np.zeros((90, 70), np.uint8)
    y, x = rng.integers(5, 50, size=2)
    mask[y : y + 20, x : x + 16] = 1
    image = geometry.image(np.repeat(mask[..., None] * 255, 3, axis=2))
    assert image.shape == (3, *geometry.size) and image.dtype == torch.uint8 and image.is_contiguous()
    shape = square(x, y, x + 16, y + 20)
    wanted = ndimage.center_of_mass(image[0].numpy().astype(float))
    for segmentation in (tuple(map(tuple, shape)), rle.encode(np.asfortranarray(mask))):
        assert ndimage.center_of_mass(geometry.mask(segmentation)) == pytest.approx(wanted, abs=0.51)
    box = geometry.boxes(np.array([[x, y, x + 16, y + 20]], float))[0]
    assert ((box[1] + box[3]) / 2 - 0.5, (box[0] + box[2]) / 2 - 0.5) == pytest.approx(wanted, abs=0.05)


def test_the_identity_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (13, 17, 3), dtype=np.uint8)
    geometry = Geometry((13, 17), (13, 17), 0, 0, (13, 17), False)
    assert (geometry.image(pixels).permute(1, 2, 0).numpy() == pixels).all()
    mirrored = geometry._replace(flip=True)
    assert (mirrored.image(pixels).permute(1, 2, 0).numpy() == pixels[:, ::-1]).all()
    shape = ((2.3, 1.2, 14.8, 3.0, 9.9, 12.1),)
    assert (geometry.mask(shape) == decode(shape, 13, 17)).all()
    assert (mirrored.mask(shape) == decode(shape, 13, 17)[:, ::-1]).all()


# -- drawing ---------------------------------------------------------------------------------------------------------


def test_jitter_stays_in_its_ranges() -> None:
    rng = np.random.default_rng(0)
    augmentation = JitterCrop(size=(100, 200), scale=(0.5, 2.0), flip=0.5)
    drawn = [augmentation.draw((300, 400), rng, whole=False) for _ in range(300)]
    scales = [geometry.resized[0] / 100 for geometry in drawn]
    assert 0.5 <= min(scales) < 0.6 and 1.9 < max(scales) <= 2.0
    assert all(g.resized[1] == pytest.approx(g.resized[0] * 4 / 3, abs=1) for g in drawn)
    assert all(g.size == (min(g.resized[0], 100), min(g.resized[1], 200)) for g in drawn)
    assert all(0 <= g.top <= g.resized[0] - g.size[0] and 0 <= g.left <= g.resized[1] - g.size[1] for g in drawn)
    assert 100 < sum(g.flip for g in drawn) < 200 and len({g.top for g in drawn}) > 20
    whole = [augmentation.draw((300, 400), rng, whole=True) for _ in range(300)]
    assert all(g.size == g.resized for g in whole)


@pytest.mark.parametrize("source", [(1, 1), (1, 500), (500, 1), (7, 3)])
def test_extreme_sizes(source: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    for augmentation in (
        JitterCrop(size=(33, 20), scale=(0.1, 2.0), flip=0.5),
        ShortSide(short_sides=(20,), max_side=40, flip=1.0),
    ):
        geometry = augmentation.draw(source, rng, whole=False)
        assert geometry.image(np.zeros((*source, 3), np.uint8)).shape == (3, *geometry.size)
        assert min(geometry.size) >= 1


def test_short_side() -> None:
    rng = np.random.default_rng(0)
    augmentation = ShortSide(short_sides=(100, 150), max_side=240, flip=0.0)
    sizes = {augmentation.draw((200, 300), rng, whole=False).size for _ in range(30)}
    assert sizes == {(100, 150), (150, 225)}
    assert short_side_size((200, 600), 100, 240) == (80, 240)
    assert short_side_size((600, 200), 100, 1000) == (300, 100)


def test_color() -> None:
    image = torch.randint(0, 256, (3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    changed = jitter_color(image, 0.5, np.random.default_rng(0))
    assert changed.dtype == torch.uint8 and changed.shape == image.shape and not torch.equal(changed, image)
    assert torch.equal(changed, jitter_color(image, 0.5, np.random.default_rng(0)))


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("left mirror", "right mirror"),
        ("front_right_door", "front_left_door"),
        ("Left-eye", "Right-eye"),
        ("the man left of the RIGHT car", "the man right of the LEFT car"),
        ("upright copyrighted leftover", "upright copyrighted leftover"),
        ("the leftmost of two Rightmost ones", "the rightmost of two Leftmost ones"),
        ("leftmostly", "leftmostly"),
        ("wheel", "wheel"),
    ],
)
def test_swap_sides(text: str, mirrored: str) -> None:
    assert swap_sides(text) == mirrored and swap_sides(mirrored) == text


def test_flipped_labels() -> None:
    vocabulary = Vocabulary(
        {
            "car": ["left mirror", "wheel", "right mirror"],
            "dog": ["left ear"],
            "left shoe": ["sole"],
            "Right Shoe": ["sole"],
        }
    )
    objects, parts = flipped_labels(vocabulary)
    assert objects.tolist() == [0, 1, 3, 2]
    assert parts.tolist() == [2, 1, 0, 3, 5, 4]  # no right ear: the label stays; a sole follows its shoe


# -- segmentations ---------------------------------------------------------------------------------------------------


def test_decode_needs_a_mask_of_the_image() -> None:
    with pytest.raises(ValueError, match="no segmentation"):
        decode(None, 4, 4)
    with pytest.raises(ValueError, match="no segmentation"):
        decode((), 4, 4)
    with pytest.raises(ValueError, match=r"size .4, 5."):
        decode(rle.encode(np.zeros((4, 5), np.uint8, order="F")), 4, 4)
    with pytest.raises(ValueError, match="less than three points"):
        encode_segmentation([[1, 1, 2, 2]], (4, 4), what="it")
