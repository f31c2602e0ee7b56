"""Toy scenes: exact masks, true parents, the same scene for the same seed."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as rle

from partglee.data import get_dataset
from partglee.data.checks.content import validate
from partglee.data.images import read_image
from partglee.testing import TOY_VOCABULARY, ToyRecords, register_toy, toy_scene, write_toy_dataset
from partglee.testing.toy_figures import KINDS, PARTS, Figure
from partglee.testing.toy_scene import MIN_PIXELS, PlacedObject, annotate, render
from partglee.text.table import TableBackend


def masks_of(content: dict[str, Any]) -> dict[int, NDArray[np.bool_]]:
    return {entry["id"]: rle.decode(entry["segmentation"]).astype(bool) for entry in content["annotations"]}


def names_of(content: dict[str, Any]) -> dict[int, str]:
    categories = {entry["id"]: entry["name"] for entry in content["categories"]}
    return {entry["id"]: categories[entry["category_id"]] for entry in content["annotations"]}


def rectangle(part: str | None, x0: int, y0: int, x1: int, y1: int) -> Figure:
    """Corner pixels belong to it."""
    return Figure(part, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], dtype=float))


def test_a_scene_checked_by_hand() -> None:
    """A cap covers the top of a body, a ball its lower right; of a kite too little is left."""
    objects = [
        PlacedObject("kite", [rectangle(None, 30, 20, 33, 22)]),  # 4 x 3 = 12 pixels, of which the ball leaves 9
        PlacedObject("bottle", [rectangle("body", 4, 10, 13, 29), rectangle("cap", 6, 6, 11, 11)]),
        PlacedObject("ball", [rectangle(None, 9, 15, 30, 34)]),
    ]
    rng = np.random.default_rng(0)
    image, owner = render(objects, np.zeros((40, 40, 3), np.uint8), rng)
    content = annotate(objects, owner)
    found = [(entry["id"], entry.get("parent_id"), entry["area"], entry["bbox"]) for entry in content["annotations"]]
    assert found == [
        (1, None, 10 * 20 + 6 * 4 - 5 * 15, [4, 6, 10, 24]),  # body, cap above it, less what the ball covers
        (2, 1, 10 * 20 - 6 * 2 - 5 * 15, [4, 10, 10, 20]),
        (3, 1, 6 * 6, [6, 6, 6, 6]),
        (4, None, 22 * 20, [9, 15, 22, 20]),
    ]  # fmt: skip
    assert list(names_of(content).values()) == ["bottle", "bottle:body", "bottle:cap", "ball"]
    masks = masks_of(content)
    assert not (masks[1] & masks[4]).any() and (masks[1] == masks[2] | masks[3]).all()
    assert len(np.unique(image[masks[3]] // 64, axis=0)) <= 8  # one colour with grain


@pytest.mark.parametrize("size", [(128, 128), (33, 97), (161, 64)])
def test_masks_are_disjoint_and_parts_lie_in_their_parents(size: tuple[int, int]) -> None:
    for seed in range(25):
        image, content = toy_scene(seed, size)
        assert image.shape == (*size, 3) and image.dtype == np.uint8
        report = validate(content)
        assert not report.errors and not report.warnings, report.text()
        masks, names = masks_of(content), names_of(content)
        objects = [key for key, name in names.items() if ":" not in name]
        assert sum(masks[key].astype(int) for key in objects).max() <= 1
        covered = np.zeros(size, dtype=int)
        for entry in content["annotations"]:
            mask = masks[entry["id"]]
            assert mask.sum() == entry["area"] >= MIN_PIXELS and mask.shape == size
            if "parent_id" in entry:
                assert not (mask & ~masks[entry["parent_id"]]).any()
                assert names[entry["id"]].split(":")[0] == names[entry["parent_id"]]
                covered += mask
        assert covered.max() <= 1


def test_scenes_are_varied() -> None:
    """Every name, 1 to 4 objects, kinds without parts."""
    seen: set[str] = set()
    counts: set[int] = set()
    for seed in range(150):
        names = names_of(toy_scene(seed, (96, 96))[1])
        seen |= set(names.values())
        counts.add(sum(":" not in name for name in names.values()))
    assert seen == set(PARTS) | {f"{kind}:{part}" for kind, parts in PARTS.items() for part in parts}
    assert counts >= {1, 2, 3, 4} and any(not parts for parts in PARTS.values())


def test_occlusion_happens() -> None:
    """Without the objects in front a part would be larger: in some scenes it is."""
    hidden = 0
    for seed in range(40):
        _, content = toy_scene(seed, (96, 96), kinds=["bottle"])
        areas = [entry["area"] for entry in content["annotations"] if "parent_id" not in entry]
        boxes = [entry["bbox"] for entry in content["annotations"] if "parent_id" not in entry]
        hidden += any(
            boxes[a][0] < boxes[b][0] + boxes[b][2] and boxes[b][0] < boxes[a][0] + boxes[a][2]
            and boxes[a][1] < boxes[b][1] + boxes[b][3] and boxes[b][1] < boxes[a][1] + boxes[a][3]
            for a in range(len(areas)) for b in range(a)
        )  # fmt: skip
    assert 5 < hidden < 40


def test_seeds() -> None:
    image, content = toy_scene(5, (64, 80))
    again, same = toy_scene(5, (64, 80))
    other, different = toy_scene(6, (64, 80))
    assert (image == again).all() and content == same
    assert (image != other).any() and content["annotations"] != different["annotations"]
    assert (toy_scene((0, 1))[0] != toy_scene((1, 0))[0]).any()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="32 x 32 pixels or more, got 31 x 64"):
        toy_scene(0, (31, 64))
    with pytest.raises(ValueError, match="have the kinds"):
        toy_scene(0, kinds=["house"])
    with pytest.raises(ValueError, match="one image or more"):
        write_toy_dataset("nowhere", 0)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_every_kind(kind: str) -> None:
    for seed in range(5):
        figures = KINDS[kind](np.random.default_rng(seed))
        points = np.concatenate([figure.points for figure in figures])
        assert {figure.part for figure in figures} - {None} == set(PARTS[kind])
        assert (np.abs(points) < 0.75).all() and np.ptp(points, axis=0).max() > 0.6


def test_the_real_name_table_has_every_name(shared: Path) -> None:
    table = TableBackend(file=shared / "data/clip_name_embeddings/clip_rn50_names.npz", width=1024)
    table.tokenize([*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts])


def test_endless_records_agree_with_the_scenes() -> None:
    records = ToyRecords(seed=3, size=(64, 96))
    assert len(records) == 1_000_000 and records.size(7) == (64, 96)
    record = records[999_999]
    image, content = toy_scene((3, 999_999), (64, 96))
    assert record.pixels is not None and (read_image(record.source) == image).all()
    names = [TOY_VOCABULARY.object_names[instance.label] for instance in record.objects]
    assert names == [name for name in names_of(content).values() if ":" not in name]
    for part in record.parts:
        owner = record.objects[part.parent].label
        assert TOY_VOCABULARY.part_owner[part.label] == (owner,)
    parts = [TOY_VOCABULARY.part_names[part.label] for part in record.parts]
    assert parts == [name.split(":")[1] for name in names_of(content).values() if ":" in name]
    assert records.labels(999_999) == (
        frozenset(o.label for o in record.objects), frozenset(p.label for p in record.parts),
    )  # fmt: skip
    with pytest.raises(IndexError):
        records[1_000_000]


def test_records_travel_to_other_processes() -> None:
    records = ToyRecords(num_images=9, seed=2, size=(40, 50), kinds=["car", "ball"])
    copy = pickle.loads(pickle.dumps(records))
    assert len(copy) == 9 and copy[4] == records[4] and (copy[4].source == records[4].source).all()


def test_written_scenes_are_read_by_name(tmp_path: Path) -> None:
    spec = register_toy("toy_written_here", num_images=4, seed=5, size=(48, 56), folder=tmp_path)
    assert get_dataset("toy_written_here") is spec and spec.evaluator
    assert sorted(path.name for path in tmp_path.rglob(".*")) == []  # nothing is left beside the files
    written = json.loads((tmp_path / "toy_written_here.json").read_text())
    report = validate(written, images=tmp_path)
    assert not report.errors and not report.warnings, report.text()
    records, endless = spec.read(), ToyRecords(seed=5, size=(48, 56))
    assert len(records) == 4
    for index in range(4):
        read, drawn = records[index], endless[index]
        assert [o.box for o in read.objects] == [o.box for o in drawn.objects]
        assert [p.parent for p in read.parts] == [p.parent for p in drawn.parts]
        assert np.abs(read_image(read.file).astype(int) - read_image(drawn.source)).mean() < 12  # JPEG


def test_endless_scenes_by_name() -> None:
    spec = register_toy("toy_endless_here", seed=1, size=(40, 40))
    assert len(spec.read()) == 1_000_000 and not spec.evaluator
    assert pickle.loads(pickle.dumps(spec)).read()[5] == spec.read()[5]  # worker processes get it
    register_toy("toy_endless_here", num_images=3)
    assert len(get_dataset("toy_endless_here").read()) == 3
