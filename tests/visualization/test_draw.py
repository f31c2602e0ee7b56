"""Pictures: what must be visible is, and no input breaks the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from partglee.structures import Prediction
from partglee.visualization import draw_prediction
from partglee.visualization.colors import OBJECT_COLORS, UNKNOWN_OBJECT, object_color, row_colors, shade, text_color
from partglee.visualization.labels import Label, place_labels


def scene(height: int = 120, width: int = 160, *, masks: bool = True, scores: float = 0.9) -> Prediction:
    """A car with two wheels and a person, on grey."""
    boxes = torch.tensor([[0.1, 0.3, 0.6, 0.8], [0.15, 0.6, 0.25, 0.8], [0.45, 0.6, 0.55, 0.8], [0.7, 0.2, 0.9, 0.9]])
    boxes = boxes * torch.tensor([width, height, width, height])
    painted = torch.zeros(4, height, width, dtype=torch.bool)
    for row, (left, top, right, bottom) in enumerate(boxes.long().tolist()):
        painted[row, top:bottom, left:right] = True
    return Prediction(
        boxes=boxes,
        masks=painted if masks else None,
        scores=torch.full((4,), scores),
        labels=torch.tensor([0, 0, 0, 1]),
        names=["car", "wheel", "wheel", "person"],
        level=torch.tensor([0, 1, 1, 0]),
        parent=torch.tensor([-1, 0, 0, -1]),
        image_size=(height, width),
        image=np.full((height, width, 3), 128, np.uint8),
    )


def test_objects_and_parts_get_their_colours() -> None:
    prediction = scene()
    colors = row_colors(prediction)
    assert colors[0] == OBJECT_COLORS[0]
    assert colors[3] == OBJECT_COLORS[1]
    assert colors[1] == colors[2] != colors[0]
    picture = np.asarray(draw_prediction(prediction, scale=1, labels=False, boxes=False)).astype(int)
    for row, point in ((0, (45, 60)), (1, (84, 32)), (3, (60, 128))):
        moved = picture[point] - 128
        assert np.dot(moved, np.array(colors[row]) - 128) > 0, f"row {row} is not tinted with its colour"
    assert (picture[5, 5] == 128).all()


def test_boxes_are_drawn_in_rgb() -> None:
    picture = np.asarray(draw_prediction(scene(masks=False), scale=1, labels=False))
    assert tuple(picture[60, 16]) == OBJECT_COLORS[0]


def test_input_is_not_changed() -> None:
    prediction = scene()
    draw_prediction(prediction, panel=True)
    assert prediction.image is not None
    assert (prediction.image == 128).all()


@pytest.mark.parametrize("option", ["masks", "boxes", "labels", "scores"])
def test_each_option_changes_the_picture(option: str) -> None:
    on, off = draw_prediction(scene()), draw_prediction(scene(), **{option: False})
    assert on.size == off.size
    assert (np.asarray(on) != np.asarray(off)).any()


def test_a_picture_has_the_size_of_its_image_and_scale_is_obeyed() -> None:
    for size in ((120, 160), (7, 5), (1500, 1200)):
        assert draw_prediction(scene(*size)).size == size[::-1]
    assert draw_prediction(scene(), scale=2).size == (320, 240)
    assert draw_prediction(scene(), scale=None).size == (1000, 750)
    assert draw_prediction(scene(20, 20), scale=None).size == (640, 640)


def lab_distance(a: Sequence[int], b: Sequence[int]) -> float:
    """How different two colours look: CIE76, whose just noticeable difference is about 2."""
    from skimage.color import rgb2lab

    one, other = rgb2lab(np.array([[a, b]], dtype=np.uint8))[0]
    return float(np.linalg.norm(one - other))


def test_parts_are_told_apart_from_their_object_and_from_each_other() -> None:
    for number in range(24):
        base = object_color(number)
        colors = [base, *(shade(base, part) for part in range(12))]
        assert min(lab_distance(a, b) for a, b in combinations(colors[:7], 2)) > 30
        assert min(lab_distance(a, b) for a, b in combinations(colors, 2)) > 18
    unknown = [UNKNOWN_OBJECT, *(shade(UNKNOWN_OBJECT, part) for part in range(8))]
    assert min(lab_distance(a, b) for a, b in combinations(unknown, 2)) > 12


def test_objects_have_hues_of_their_own() -> None:
    colors = [object_color(number) for number in range(100)]
    assert colors[: len(OBJECT_COLORS)] == list(OBJECT_COLORS) and len(set(colors)) == 100
    assert min(lab_distance(a, b) for a, b in combinations(colors[:16], 2)) > 15


@pytest.mark.parametrize("row", [0, 1])
def test_an_outline_is_seen_on_a_photo_of_its_own_colour(row: int) -> None:
    prediction = scene(60, 80)
    color = row_colors(prediction)[row]
    photo = np.full((60, 80, 3), color, np.uint8)
    picture = np.asarray(draw_prediction(prediction, photo, labels=False, boxes=False))
    left, top, _, bottom = (int(side) for side in prediction.boxes[row].tolist())
    middle = (top + bottom) // 2
    across = picture[middle, max(left - 4, 0) : left + 4].tolist()
    assert max(lab_distance(color, pixel) for pixel in across) > 20


@pytest.mark.parametrize("size", [(1, 1), (20, 20), (1, 300), (300, 1), (30, 2000)])
@pytest.mark.parametrize("masks", [True, False])
def test_odd_sizes(size: tuple[int, int], masks: bool) -> None:
    picture = draw_prediction(scene(*size, masks=masks), panel=True, caption="untrained weights")
    assert picture.mode == "RGB"
    assert picture.width >= 320


def test_no_detections() -> None:
    image = np.full((40, 60, 3), 77, np.uint8)
    empty = Prediction.empty(image_size=(40, 60))
    assert (np.asarray(draw_prediction(empty, image)) == 77).all()
    assert draw_prediction(empty, image, panel=True).width > 60


def test_empty_mask_and_full_mask() -> None:
    prediction = scene()
    assert prediction.masks is not None
    prediction.masks[1] = False
    prediction.masks[0] = True
    assert draw_prediction(prediction, scale=1).size == (160, 120)


def test_panel_and_caption_add_to_the_sides() -> None:
    plain, panel = draw_prediction(scene(240, 400)), draw_prediction(scene(240, 400), panel=True)
    assert panel.width > plain.width
    assert panel.height == plain.height
    captioned = draw_prediction(scene(240, 400), caption="drawn with untrained weights " * 8)
    assert captioned.width == plain.width
    assert captioned.height > plain.height
    strip = np.asarray(captioned)[plain.height :]
    assert strip.max() > 200, "the caption's text is not there"


def test_many_rows_are_fast_enough_and_the_panel_stays_in_bounds() -> None:
    count = 150
    prediction = Prediction(
        boxes=torch.rand(count, 4).sort(dim=1).values * 100,
        scores=torch.rand(count),
        labels=torch.zeros(count, dtype=torch.long),
        names=[f"a rather long name for number {i} of all these things" for i in range(count)],
        level=torch.zeros(count, dtype=torch.long),
        parent=torch.full((count,), -1),
        image_size=(100, 100),
        image=np.zeros((100, 100, 3), np.uint8),
    )
    picture = draw_prediction(prediction, panel=True, scale=10)
    assert picture.height == 1000
    assert picture.width < 3000


def test_other_images() -> None:
    prediction = scene()
    assert draw_prediction(prediction, Image.new("L", (160, 120))).size == (160, 120)
    with pytest.raises(ValueError, match=r"must be \(120, 160, 3\) uint8 .* got \(160, 120, 3\)"):
        draw_prediction(prediction, np.zeros((160, 120, 3), np.uint8))
    prediction.image = None
    with pytest.raises(ValueError, match="no image to draw on"):
        draw_prediction(prediction)
    with pytest.raises(ValueError, match="scale must be positive, got 0"):
        draw_prediction(scene(), scale=0)


def test_labels_never_overlap_and_stay_inside() -> None:
    generator = np.random.default_rng(0)
    labels = [
        Label(text=f"part {i}", color=(9, 9, 9), font_size=12, anchor=tuple(generator.uniform(150, 250, 2)))
        for i in range(40)
    ]
    placed = place_labels(labels, (400, 400))
    assert len(placed) > 25
    for a, b in combinations([entry.rect for entry in placed], 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for left, top, right, bottom in (entry.rect for entry in placed):
        assert 0 <= left < right <= 400
        assert 0 <= top < bottom <= 400


def test_label_lies_on_a_large_part_and_beside_a_small_one() -> None:
    large = Label(text="door", color=(0, 0, 0), font_size=12, anchor=(100.0, 100.0), area=20000)
    small = Label(text="eye", color=(0, 0, 0), font_size=12, anchor=(100.0, 100.0), area=20)
    assert place_labels([large], (200, 200))[0].leader is None
    assert place_labels([small], (200, 200))[0].leader is not None


def test_text_reads_on_its_background() -> None:
    assert text_color((255, 255, 0)) == (0, 0, 0)
    assert text_color((0, 0, 120)) == (255, 255, 255)
