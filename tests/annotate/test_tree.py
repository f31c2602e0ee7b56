"""The mask tree against worked examples, levels against SA-1B's rule, descriptions over both."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from partglee.annotate import Region, Sample, masks, read_recipe
from partglee.annotate.stages.describe import Describe
from partglee.annotate.stages.tree import Levels, MaskTree, mask_tree
from partglee.data.prepare.sa1b import hierarchy


def block(y0: int, x0: int, y1: int, x1: int, size: int = 8) -> np.ndarray:
    mask = np.zeros((size, size), bool)
    mask[y0:y1, x0:x1] = True
    return mask


# building, two windows, a door with its handle, a car, the building again
NODES = [
    ("building", block(0, 0, 6, 6)), ("window", block(1, 1, 2, 2)), ("Window ", block(1, 3, 2, 4)),
    ("door", block(4, 2, 6, 4)), ("door handle", block(5, 3, 6, 4)), ("car", block(6, 5, 8, 8)),
    ("building", block(0, 0, 6, 6)),
]  # fmt: skip


def sample_of(nodes: list[tuple[str, np.ndarray]]) -> Sample:
    regions = [Region(name=name, mask=masks.encode(mask), box=(0.0, 0.0, 1.0, 1.0)) for name, mask in nodes]
    return Sample(image_id="a", file="a", size=nodes[0][1].shape, regions=regions)


def build(kind: str, **values: Any) -> Any:
    return read_recipe({"stages": [{"stage": kind, **values}]}).stages[0]


def test_worked_example() -> None:
    tree = mask_tree([name for name, _ in NODES], [masks.encode(mask) for _, mask in NODES])
    assert [n for n in range(7) if tree.same_as[n] == n] == [0, 1, 2, 3, 4, 5]
    assert tree.parent[:6] == [-1, 0, 0, 0, 3, -1]
    assert tree.merged_into == [0, 1, 1, 3, 4, 5, 6]


def test_golden(shared: Path) -> None:
    """The same numbers, as the folder of golden values has them (nodes from 1, root 0)."""
    golden = json.loads((shared / "golden" / "referring_golden.json").read_text())["mask_tree"]
    tree = mask_tree([name for name, _ in NODES], [masks.encode(mask) for _, mask in NODES])
    assert [n + 1 for n in range(7) if tree.same_as[n] == n] == golden["kept"]
    assert {str(n + 1): tree.parent[n] + 1 for n in range(6)} == golden["parent"]
    sample = sample_of(NODES)
    build("mask_tree").run([sample])
    found = {region.name.strip().lower(): int(masks.areas([region.mask])[0]) for _, region in sample.kept()}
    assert found == {key.partition("/")[2]: entry["area"] for key, entry in golden["merged"].items()}


def test_stage_drops_merges_and_hangs_children_on_the_union() -> None:
    sample = sample_of([*NODES, ("pane", block(1, 3, 2, 4))])  # the second window again, under another name
    sample.regions[7].mask = masks.encode(np.zeros((8, 8), bool))  # and without a pixel
    MaskTree().run([sample])
    told = [region.dropped.partition(": ")[2] for region in sample.regions]
    assert told == ["", "", "merged into region 1", "", "", "", "the same as region 0", ""]
    assert [(n, r.parent, r.level) for n, r in sample.kept()] == [
        (0, -1, "object"), (1, 0, "part"), (3, 0, "part"), (4, 3, "part"), (5, -1, "object"), (7, -1, "object")
    ]  # fmt: skip
    assert np.array_equal(masks.decode(sample.regions[1].mask), NODES[1][1] | NODES[2][1])
    assert sample.regions[1].box == (1.0, 1.0, 4.0, 2.0)


def test_siblings_under_a_union_are_siblings() -> None:
    nodes = [("house", block(0, 0, 3, 3)), ("window", block(1, 1, 2, 2)), ("house", block(5, 5, 8, 8)),
             ("window", block(6, 6, 7, 7))]  # fmt: skip
    sample = sample_of(nodes)
    MaskTree().run([sample])
    assert [(n, region.parent) for n, region in sample.kept()] == [(0, -1), (1, 0)]
    assert masks.areas([sample.regions[1].mask])[0] == 2


def test_overlaps_are_those_of_arrays() -> None:
    chance = np.random.default_rng(0)
    arrays = [chance.random((13, 17)) < share for share in (0, 0.1, 0.5, 0.9, 1)]
    runs = [masks.encode(array) for array in arrays]
    inter = [[np.logical_and(one, two).sum() for two in arrays] for one in arrays]
    union = [[np.logical_or(one, two).sum() for two in arrays] for one in arrays]
    assert np.array_equal(masks.intersections(runs, runs[1:]), np.array(inter)[:, 1:])
    assert np.allclose(masks.ious(runs, runs), np.array(inter) / np.maximum(union, 1))
    assert all(np.array_equal(masks.decode(run), array) for run, array in zip(runs, arrays, strict=True))
    assert masks.intersections([], runs).shape == (0, 5)


def test_levels_are_those_of_the_script_for_sa1b() -> None:
    chance = np.random.default_rng(1)
    arrays = []
    for _ in range(12):
        y, x, h, w = (int(value) for value in chance.integers(4, 40, 4))
        arrays.append(block(y, x, y + h, x + w, 96))
    sample = sample_of([(f"thing {n}", array) for n, array in enumerate(arrays)])
    wanted = hierarchy(np.stack([array[::4, ::4] for array in arrays]), [array.sum() for array in arrays])
    Levels(step=4).run([sample])
    assert [region.level == "part" for region in sample.regions] == wanted.is_part.tolist()
    assert [region.parent for region in sample.regions] == wanted.parent.tolist()
    assert wanted.is_part.any() and not wanted.is_part.all()
    assert (sample.regions[0].name, sample.regions[0].caption) == (sample.regions[0].level, "thing 0")


def test_description_names_every_region_in_order() -> None:
    sample = sample_of(NODES)
    MaskTree().run([sample])
    Describe().run([sample])
    root, building = sample.descriptions
    assert root.text == "The image shows <p> building </p> [SEG] and <p> car </p> [SEG]."
    assert (root.node, root.regions) == (-1, (0, 5))
    assert building.text == (
        "The building has <p> window </p> [SEG] and <p> door </p> [SEG]. The door has <p> door handle </p> [SEG]."
    )
    assert (building.node, building.regions) == (0, (1, 3, 4))


def test_descriptions_of_a_plugged_describer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, list[int]]] = []

    class Talker:
        def __init__(self, weights: str, *, says: str) -> None:
            self.says = says

        def __call__(self, image: Any, regions: Any, node: int, order: Any, plain: str) -> str:
            asked.append((node, list(order)))
            return f"{self.says} {plain}" if self.says else "Nothing to see."

    monkeypatch.setitem(sys.modules, "project_of_a_test", SimpleNamespace(Talker=Talker))
    sample = sample_of(NODES)
    MaskTree().run([sample])
    stage = build("describe", describer="project_of_a_test:Talker", options={"says": "Behold!"})
    stage.open()
    stage.run([sample])
    assert asked == [(-1, [0, 5]), (0, [1, 3, 4])]
    assert sample.descriptions[0].text == "Behold! The image shows <p> building </p> [SEG] and <p> car </p> [SEG]."
    silent = build("describe", describer="project_of_a_test:Talker", options={"says": ""})
    silent.open()
    with pytest.raises(ValueError, match=r"it announces \[\] in place of \['building', 'car'\]"):
        silent.run([sample])
    with pytest.raises(ValueError, match="leave one out"):
        build("describe", describer="a:b", endpoint={"url": "http://x", "model": "m"})


def test_description_hangs_on_what_is_left() -> None:
    sample = sample_of(NODES)
    MaskTree().run([sample])
    sample.regions[3].dropped = "by a filter"
    Describe(by="name").run([sample])
    assert sample.descriptions[1].regions == (1, 4), "the handle belongs to the building without its door"


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [("mask_tree", {"same": 0}, "expected 0 < same"), ("levels", {"step": 0}, "step must be"),
     ("describe", {"by": "id"}, "caption or name")],
)  # fmt: skip
def test_bad_values(kind: str, values: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build(kind, **values)
