"""Run lengths of many masks at once, compiled and not, against the format's definition one character at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from pycocotools import mask as rle

from partglee.basics.masks import damaged_run_lengths
from partglee.ops import dispatch, native
from partglee.ops.run_lengths import Texts, mask_areas, mask_ious

SIZE = (23, 31)
PIXELS = SIZE[0] * SIZE[1]


@pytest.fixture(params=["reference", "native"], autouse=True)
def mode(request: pytest.FixtureRequest) -> Iterator[None]:
    """Both ways of computing."""
    with dispatch.use_ops(request.param):
        if request.param == "native" and not dispatch.native_run_lengths():
            pytest.skip("the compiled operators are not built")
        yield


def shapes(count: int, seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noise = [rng.random(size) < rng.choice([0, 0.02, 0.3, 0.9, 1]) for _ in range(count)]
    for mask in noise[::3]:  # long runs, so numbers of several characters
        mask[:] = False
        mask[rng.integers(size[0]) :, rng.integers(size[1]) :] = True
    return np.array(noise)


def texts_of(counts: list[bytes], gap: bytes = b"") -> Texts:
    length = np.array([len(entry) for entry in counts], np.int64)
    start = np.cumsum(length + len(gap)) - length
    return bytearray(b"".join(gap + entry for entry in counts)), start, length


def encoded(masks: np.ndarray) -> list[bytes]:
    return [rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"] for mask in masks]


def test_areas_of_sound_masks() -> None:
    masks = shapes(300, 0)
    for gap in (b"", b"0PQ"):
        areas = mask_areas(texts_of(encoded(masks), gap), np.full(300, PIXELS))
        assert areas.tolist() == masks.sum((1, 2)).tolist()
    large = shapes(3, 1, (3000, 2000))
    assert mask_areas(texts_of(encoded(large)), np.full(3, 6_000_000)).tolist() == large.sum((1, 2)).tolist()
    assert mask_areas(texts_of([]), np.zeros(0, np.int64)).tolist() == []


def test_damage_is_that_of_the_messages() -> None:
    rng = np.random.default_rng(2)
    counts = [b"", b"P", b"\xff0", b"P" * 12 + b"1", b"P" * 7 + b"0", b"P" * 8 + b"0", b"=L", b"0", b"5", b"o" * 30]
    for entry in encoded(shapes(1500, 3)):
        text = bytearray(entry)
        for _ in range(rng.integers(0, 4)):
            where = int(rng.integers(len(text))) if text else 0
            if rng.random() < 0.5 and text:
                text[where] = rng.integers(40, 120)
            elif rng.random() < 0.5:
                del text[where : where + 1]
            else:
                text.insert(where, rng.integers(48, 112))
        counts.append(bytes(text))
    damaged = damaged_run_lengths(counts, [PIXELS] * len(counts))
    areas = mask_areas(texts_of(counts), np.full(len(counts), PIXELS))
    assert set(np.flatnonzero(areas < 0).tolist()) == set(damaged) and 300 < len(damaged) < 1400
    sound = [row for row in range(len(counts)) if row not in damaged]
    expected = [int(rle.area({"size": list(SIZE), "counts": counts[row]})) for row in sound]
    assert areas[sound].tolist() == expected
    one_by_one = [int(mask_areas(texts_of([entry]), np.array([PIXELS]))[0]) for entry in counts[:200]]
    assert one_by_one == areas[:200].tolist()


def test_ious_are_those_of_pixels() -> None:
    rng = np.random.default_rng(4)
    masks, others = shapes(160, 5), shapes(60, 6)
    cells = np.sort(np.concatenate([[0, 160], rng.integers(0, 161, 18)]))  # some have none
    other_cells = np.sort(np.concatenate([[0, 60], rng.integers(0, 61, 18)]))
    crowd = rng.random(60) < 0.3
    found = mask_ious(texts_of(encoded(masks), b"0"), cells, texts_of(encoded(others)), other_cells, crowd)
    expected = []
    for c in range(19):
        for own in masks[cells[c] : cells[c + 1]]:
            for row in range(other_cells[c], other_cells[c + 1]):
                both = (own & others[row]).sum()
                union = own.sum() if crowd[row] else (own | others[row]).sum()
                expected.append(both / union if both else 0.0)
    assert found.tolist() == expected and len(expected) > 100
    none = np.zeros(1, np.int64)
    assert mask_ious(texts_of([]), none, texts_of([]), none, np.zeros(0, bool)).shape == (0,)


def test_more_masks_than_a_byte_counts() -> None:
    masks = shapes(600, 7)
    found = mask_ious(
        texts_of(encoded(masks)), np.array([0, 600]), texts_of(encoded(masks[:2])), np.array([0, 2]), np.zeros(2, bool)
    )
    both = (masks[:, None] & masks[:2]).sum((2, 3))
    union = (masks[:, None] | masks[:2]).sum((2, 3))
    assert found.reshape(600, 2).tolist() == np.divide(both, union, out=np.zeros((600, 2)), where=both > 0).tolist()


def test_the_compiled_operators_read_nothing_beside_the_text() -> None:
    if not dispatch.native_run_lengths():
        pytest.skip("of the compiled operators alone")
    text, start, length = texts_of(encoded(shapes(4, 8)))
    pixels = np.full(4, PIXELS)
    for wrong in ((text, start, length + 1), (text, start - 1, length), (text, start, np.full(4, 1 << 60))):
        with pytest.raises(RuntimeError, match="outside of the text"):
            mask_areas(wrong, pixels)
    with pytest.raises(RuntimeError, match="pixels must be 4 int64"):
        mask_areas((text, start, length), pixels[:3])
    cells, crowd = np.array([0, 4]), np.zeros(4, bool)
    for borders in (np.array([0, 5]), np.array([3, 1, 4]), np.array([-1, 4])):
        with pytest.raises(RuntimeError, match="cells must"):
            mask_ious((text, start, length), borders, (text, start, length), cells, crowd)
    assert native.CPU.loaded
