"""Objects and parts of SA-1B against a slow reading of the rule, pair by pair."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle

from partglee.data.prepare.regions import region_from_mask
from partglee.data.prepare.sa1b import hierarchy, levels_of, prepare_shard, shrink


def slow(masks: NDArray[np.bool_], areas: list[float]) -> tuple[list[bool], list[int]]:
    """The rule as it is written down."""
    rank = sorted(range(len(masks)), key=lambda row: (-areas[row], row))
    is_part, parent = [False] * len(masks), [-1] * len(masks)
    for place, row in enumerate(rank):
        for other in rank[:place]:
            inter = int((masks[row] & masks[other]).sum())
            union = int((masks[row] | masks[other]).sum())
            sizes = int(masks[row].sum()), int(masks[other].sum())
            if inter and max(inter / union, inter / sizes[0], inter / sizes[1]) >= 0.5:
                is_part[row] = True
        for other in reversed(rank[:place]):  # the smallest first
            inter = int((masks[row] & masks[other]).sum())
            if is_part[row] and inter and inter / masks[row].sum() >= 0.5:
                parent[row] = other
                break
    return is_part, parent


@pytest.mark.parametrize("seed", range(8))
def test_random_rectangles(seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = np.zeros((30, 16, 20), bool)
    for mask in masks:
        y, x = rng.integers(0, 12, 2)
        mask[y : y + rng.integers(0, 9), x : x + rng.integers(0, 9)] = True  # some are empty
    areas = [float(64 * mask.sum() + rng.integers(-90, 90)) for mask in masks]  # sizes need not agree in order
    areas[3] = areas[7]
    found = hierarchy(masks, areas)
    is_part, parent = slow(masks, areas)
    assert found.is_part.tolist() == is_part and found.parent.tolist() == parent
    assert any(is_part) and not all(is_part) and max(parent) >= 0


def test_a_chain_and_a_neighbour() -> None:
    masks = np.zeros((4, 8, 8), bool)
    masks[2, :, :6] = True  # the object
    masks[0, :4, :6] = True  # a part of it
    masks[3, :2, :4] = True  # a part of the part
    masks[1, :, 6:] = True  # another object
    found = hierarchy(masks, masks.sum((1, 2)) * 64.0)
    assert found.is_part.tolist() == [True, False, False, True] and found.parent.tolist() == [2, -1, -1, 0]


def test_exactly_half_counts() -> None:
    masks = np.zeros((3, 4, 8), bool)
    masks[0, :, :4] = True
    masks[1, 0, 2:6] = True  # half of it inside
    masks[2, 1, 3:7] = True  # a quarter
    found = hierarchy(masks, [16, 4, 3])
    assert found.is_part.tolist() == [False, True, False] and found.parent.tolist() == [-1, 0, -1]


def test_none_and_one() -> None:
    assert hierarchy(np.zeros((0, 2, 2), bool), []).is_part.shape == (0,)
    one = hierarchy(np.ones((1, 2, 2), bool), [4])
    assert one.is_part.tolist() == [False] and one.parent.tolist() == [-1]


@pytest.mark.parametrize("size", [(24, 40), (27, 45), (9, 8)])
def test_every_eighth_pixel(size: tuple[int, int]) -> None:
    mask = np.random.default_rng(0).random(size) > 0.5
    small = shrink(region_from_mask("x", mask).segmentation)
    assert small.shape == (size[0] // 8, size[1] // 8)
    for y in range(small.shape[0]):
        for x in range(small.shape[1]):
            assert small[y, x] == mask[8 * y, 8 * x]


def raw_file(**changes: Any) -> bytes:
    """One annotation file of the download with one square mask."""
    mask = np.zeros((32, 40), bool)
    mask[4:20, 4:20] = True
    counts = rle.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    one = {"segmentation": {"size": [32, 40], "counts": counts}, "area": 256, "bbox": [4, 4, 16, 16]}
    image = {"image_id": 1, "file_name": "sa_1.jpg", "height": 32, "width": 40}
    one.update({key: value for key, value in changes.items() if key in one})
    image.update({key: value for key, value in changes.items() if key in image})
    return json.dumps({"image": image, "annotations": [one] * changes.get("times", 1)}).encode()


DAMAGED: list[tuple[str, bytes]] = [
    ("file name", raw_file(file_name="../../home/secret.png")), ("file name", raw_file(file_name="/etc/passwd")),
    ("pixels", raw_file(height=10**9)), ("pixels", raw_file(width=10**6, height=10**6)),
    ("another size", raw_file(height=31)), ("masks", raw_file(times=5000)),
    ("1 damaged masks", raw_file(segmentation={"size": [32, 40], "counts": "0"})),
    ("1 damaged masks", raw_file(segmentation={"size": [32, 40], "counts": "\u00ff"})),
    ("four numbers", raw_file(bbox=[1, 2, 3])), ("four numbers", raw_file(bbox=[1, 2, 3, float("nan")])),
    ("not as", raw_file(bbox="abcd")), ("not as", raw_file(area="x")), ("not as", raw_file(height=float("inf"))),
    ("not as", b"[" * 100_000), ("not as", b"9" * 5000), ("not as", b"\xff"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "content"), DAMAGED)
def test_what_is_damaged_is_left_out_with_a_reason(reason: str, content: bytes) -> None:
    made = levels_of(content)
    assert isinstance(made, str) and reason in made and len(made) < 200


def test_what_is_sound_is_kept() -> None:
    image, annotations = levels_of(raw_file())
    assert image == {"id": 1, "file_name": "sa_1.jpg", "height": 32, "width": 40} and len(annotations) == 1


def test_a_tar_that_claims_more_than_it_can_hold(tmp_path: Path) -> None:
    member = tarfile.TarInfo("sa_1.json")
    member.size = 1 << 40
    (tmp_path / "sa_000000.tar").write_bytes(member.tobuf() + bytes(10240))
    with pytest.raises(ValueError, match="sa_000000"):
        prepare_shard(tmp_path / "sa_000000.tar", tmp_path)
    assert not (tmp_path / "annotations" / "sa_000000.json").exists()
