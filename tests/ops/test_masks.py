"""Masks in the pixels of an image: the compiled operator against two interpolations written out and against PyTorch."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from partglee.ops import masks, native, use_ops
from partglee.ops.dispatch import native_masks
from partglee.ops.masks import ImageMasks, image_masks, mask_confidence, masks_to_image

Size = tuple[int, int]
NONE = torch.zeros(0, 4, dtype=torch.int64)
compiled = pytest.mark.skipif(not native_masks(torch.zeros(1, 2, 2)), reason="no compiled operator")
# (h, w) of the map, canvas, resized image on it, original image
SIZES: list[tuple[Size, Size, Size, Size]] = [
    ((8, 12), (32, 48), (32, 48), (32, 48)),
    ((8, 12), (32, 48), (29, 45), (29, 45)),
    ((8, 12), (32, 48), (30, 41), (101, 77)),
    ((8, 12), (32, 48), (30, 41), (7, 150)),
    ((8, 8), (32, 32), (32, 17), (1, 1)),
    ((1, 1), (4, 4), (4, 3), (5, 200)),
    ((16, 40), (64, 160), (64, 159), (64, 159)),
]


@pytest.fixture(params=["avx512", "avx2", "baseline"])
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    before = native.cpu_instruction_set()
    if before is None or not native.use_cpu_instruction_set(request.param):
        pytest.skip(f"no {request.param} here")
    yield request.param
    native.use_cpu_instruction_set(before)


def line(values: list[float], count: int) -> list[float]:
    """Linear interpolation of one line, its first and last pixel reaching as far as the line itself."""
    out = []
    for i in range(count):
        at = max((i + 0.5) * len(values) / count - 0.5, 0.0)
        low = min(int(at), len(values) - 1)
        high = min(low + 1, len(values) - 1)
        out.append(values[low] * (1 - (at - low)) + values[high] * (at - low))
    return out


def enlarged(rows: list[list[float]], size: Size) -> list[list[float]]:
    wide = [line(row, size[1]) for row in rows]
    columns = [line([row[x] for row in wide], size[0]) for x in range(size[1])]
    return [[column[y] for column in columns] for y in range(size[0])]


def by_loops(logits: Tensor, canvas: Size, resized: Size, image: Size) -> list[float]:
    full = [row[: resized[1]] for row in enlarged(logits.tolist(), canvas)[: resized[0]]]
    return [value for row in (full if resized == image else enlarged(full, image)) for value in row]


def both(logits: Tensor, canvas: Size = (16, 16), resized: Size = (16, 16), image: Size = (20, 20)) -> ImageMasks:
    return image_masks(logits, canvas=canvas, padded_from=resized, image_size=image, inside=True, confidence=True)


@compiled
@pytest.mark.parametrize(("small", "canvas", "resized", "image"), SIZES)
def test_the_operator_against_loops(
    small: Size, canvas: Size, resized: Size, image: Size, instruction_set: str
) -> None:
    logits = 3 * torch.randn(3, *small)
    found = both(logits, canvas, resized, image)
    assert found.inside is not None and found.inside.shape == (3, *image) and found.inside.dtype == torch.bool
    assert found.confidence is not None and found.confidence.dtype == torch.float32
    for mask in range(3):
        values = by_loops(logits[mask].double(), canvas, resized, image)
        for own, value in zip(found.inside[mask].flatten().tolist(), values, strict=True):
            assert own == (value > 0) or abs(value) < 1e-5
        above = [1 / (1 + math.exp(-value)) for value in values if value > 1e-5]
        if len(above) == int(found.inside[mask].sum()):
            expected = sum(above) / len(above) if above else 0.0
            assert float(found.confidence[mask]) == pytest.approx(expected, abs=2e-6)


@compiled
@pytest.mark.parametrize(("small", "canvas", "resized", "image"), SIZES)
def test_the_operator_against_pytorch(
    small: Size, canvas: Size, resized: Size, image: Size, instruction_set: str
) -> None:
    logits = 6 * torch.randn(40, *small) - 1
    logits[0], logits[1], logits[2] = -1.0, 500.0, 0.0
    found = both(logits, canvas, resized, image)
    full = masks_to_image(logits, canvas=canvas, padded_from=resized, image_size=image)
    assert found.inside is not None and found.confidence is not None
    assert (found.inside == (full > 0))[full.abs() > 1e-5].all()
    same = (found.inside == (full > 0)).flatten(1).all(1)
    assert same.sum() > 35
    torch.testing.assert_close(found.confidence[same], mask_confidence(full)[same], atol=2e-6, rtol=0)
    assert found.confidence[:3].tolist() == pytest.approx([0.0, 1.0, 0.0], abs=2e-6)


@compiled
@pytest.mark.parametrize(("small", "canvas", "resized", "image"), SIZES)
def test_masks_of_a_few_pixels(small: Size, canvas: Size, resized: Size, image: Size, instruction_set: str) -> None:
    """Of which the operator makes no more than what reaches them: at each place of the map, corners and none too."""
    height, width = small
    places = [(y, x) for y in (0, height // 2, height - 1) for x in (0, width // 2, width - 1)]
    logits = torch.full((len(places) + 2, height, width), -0.5)
    for row, (y, x) in enumerate(places):
        logits[row, y, x] = 3.0
    logits[-2, 0, 0] = logits[-2, -1, -1] = 2.0
    found = both(logits, canvas, resized, image)
    full = masks_to_image(logits, canvas=canvas, padded_from=resized, image_size=image)
    assert found.inside is not None and found.confidence is not None
    clear = full.abs() > 1e-5
    assert torch.equal(found.inside[clear], (full > 0)[clear]) and not found.inside[-1].any()
    torch.testing.assert_close(found.confidence, mask_confidence(full.clone()), atol=1e-4, rtol=0)
    windows = torch.tensor([[0, image[0] // 2, image[1] // 3, image[1]]]).repeat(len(logits), 1)
    options = {"canvas": canvas, "padded_from": resized, "image_size": image}
    cut = image_masks(logits, **options, inside=True, windows=windows)  # type: ignore[arg-type]
    wanted = found.inside.clone()
    wanted[:, image[0] // 2 :], wanted[:, :, : image[1] // 3] = False, False
    assert cut.inside is not None and torch.equal(cut.inside, wanted)


@pytest.mark.parametrize("mode", ["auto", "reference"])
def test_nothing_of_a_mask_lies_outside_of_its_window(mode: str) -> None:
    logits = 4 * torch.randn(5, 8, 24) + 2
    windows = torch.tensor([[0, 33, 0, 97], [3, 20, 10, 90], [5, 5, 0, 97], [0, 33, 64, 65], [30, 33, 0, 2]])
    options = {"canvas": (32, 96), "padded_from": (32, 96), "image_size": (33, 97)}
    with use_ops(mode):
        found = image_masks(logits, **options, inside=True, confidence=True, windows=windows)  # type: ignore[arg-type]
    full = masks_to_image(logits, **options)  # type: ignore[arg-type]
    assert found.inside is not None and found.confidence is not None
    for mask, (top, bottom, left, right) in enumerate(windows.tolist()):
        wanted = torch.zeros(33, 97, dtype=torch.bool)
        cut = full[mask, top:bottom, left:right]
        wanted[top:bottom, left:right] = cut > 0
        assert torch.equal(found.inside[mask], wanted)
        mean = float(cut[cut > 0].sigmoid().mean()) if wanted.any() else 0.0
        assert float(found.confidence[mask]) == pytest.approx(mean, abs=2e-6)


@compiled
@pytest.mark.parametrize("window", [[-1, 4, 0, 4], [0, 5, 0, 4], [3, 2, 0, 4], [0, 4, 0, 5], [0, 4, 2, 1]])
def test_windows_outside_of_the_image_are_refused(window: list[int]) -> None:
    taps = torch.arange(4, dtype=torch.int32), torch.ones(4, 1), torch.arange(4, dtype=torch.int32), torch.ones(1, 4)
    with pytest.raises(RuntimeError, match="window 0 must be top, bottom, left, right inside 4 x 4"):
        native.OPERATORS.enlarge_masks(torch.zeros(1, 4, 4), *taps, torch.tensor([window]), True, True)
    with pytest.raises(RuntimeError, match="N = 1 or 0"):
        native.OPERATORS.enlarge_masks(torch.zeros(1, 4, 4), *taps, torch.zeros(2, 4, dtype=torch.int64), True, True)


@compiled
def test_what_is_not_asked_for_is_not_made() -> None:
    options = {"canvas": (16, 16), "padded_from": (16, 16), "image_size": (20, 20)}
    logits = torch.randn(4, 4, 4)
    wanted = both(logits)
    inside = image_masks(logits, **options, inside=True)  # type: ignore[arg-type]
    confidence = image_masks(logits, **options, confidence=True)  # type: ignore[arg-type]
    assert inside.confidence is None and confidence.inside is None
    torch.testing.assert_close((inside.inside, confidence.confidence), tuple(wanted), atol=0, rtol=0)
    empty = both(logits[:0])
    assert empty.inside is not None and empty.inside.shape == (0, 20, 20)
    assert empty.confidence is not None and empty.confidence.shape == (0,)


@compiled
def test_threads_do_not_change_a_bit() -> None:
    logits, before = torch.randn(9, 16, 16), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(tuple(both(logits, (64, 64), (61, 64), (122, 128))))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=0, rtol=0)


def test_defaults_of_the_moment_change_nothing() -> None:
    sizes = {"canvas": (24, 40), "padded_from": (23, 37), "image_size": (57, 91)}
    logits = torch.randn(2, 6, 10)
    masks._taps.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            found = image_masks(logits, inside=True, confidence=True, **sizes)
    finally:
        torch.set_default_dtype(torch.float32)
    again = image_masks(logits, inside=True, confidence=True, **sizes)
    masks._taps.cache_clear()
    expected = image_masks(logits, inside=True, confidence=True, **sizes)
    for one in (found, again):
        assert torch.equal(one.inside, expected.inside) and torch.equal(one.confidence, expected.confidence)


@compiled
def test_when_pytorch_does_it() -> None:
    logits = torch.randn(1, 4, 4, requires_grad=True)
    assert not native_masks(logits)  # somebody wants the gradient
    assert native_masks(logits.detach()) and not native_masks(logits.detach().to("meta"))
    with torch.no_grad():
        assert native_masks(logits)
    with use_ops("reference"):
        assert not native_masks(logits.detach())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_types(dtype: torch.dtype) -> None:
    logits = (4 * torch.randn(5, 4, 4)).to(dtype)
    found = both(logits)
    with use_ops("reference"):
        wanted = both(logits.float())
    assert found.confidence is not None and found.confidence.dtype == dtype
    torch.testing.assert_close(found.confidence.float(), wanted.confidence, atol=0.02, rtol=0)


@compiled
@pytest.mark.parametrize(
    ("first", "weight", "told"),
    [
        ([0, 1, 3], [[0.5] * 3] * 2, "lie in 0..2, got 3 at 2"),
        ([0, 2, 1], [[0.5] * 3] * 2, "must not fall"),
        ([-1, 0, 1], [[0.5] * 3] * 2, "got -1 at 0"),
        ([0, 1], [[0.5] * 3] * 2, "one row for each of 2 outputs"),
    ],
)
def test_taps_that_point_outside_are_refused(first: list[int], weight: list[list[float]], told: str) -> None:
    logits, right = torch.zeros(1, 4, 4), (torch.zeros(1, dtype=torch.int32), torch.ones(1, 1))
    columns = torch.tensor(first, dtype=torch.int32), torch.tensor(weight)
    with pytest.raises(RuntimeError, match=told):
        native.OPERATORS.enlarge_masks(logits, *right, *columns, NONE, True, True)
    with pytest.raises(RuntimeError, match="contiguous float32"):
        native.OPERATORS.enlarge_masks(logits.double(), *right, *right, NONE, True, True)
