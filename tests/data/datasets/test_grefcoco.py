"""gRefCOCO: raw miniature -> prepare script -> records and batches; refs that contradict themselves are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.prepare.refer import main
from partglee.data.referring import build_referring_loader
from partglee.testing.miniatures import MINIATURES

SPLITS = ("train", "val", "testA", "testB")
Refs = list[dict[str, Any]]


@pytest.fixture
def grefcoco(data_root: Path) -> Path:
    MINIATURES["grefcoco"](data_root, num_images=3, seed=4)
    return data_root


def raw(root: Path) -> tuple[Refs, dict[int, dict[str, Any]]]:
    folder = root / "refer" / "grefcoco"
    annotations = json.loads((folder / "instances.json").read_text())["annotations"]
    return json.loads((folder / "grefs(unc).json").read_text()), {entry["id"]: entry for entry in annotations}


def test_published_counts() -> None:
    """Released: 259,859 of the paper's expressions, on the 19,994 images of RefCOCO."""
    counts = [get_dataset(f"grefcoco-unc-{split}").counts for split in SPLITS]
    assert sum(count.expressions or 0 for count in counts) == 259859
    assert sum(count.images or 0 for count in counts) == 19994
    assert all("expressions" in count.unconfirmed for count in counts)


def test_every_split_says_what_its_refs_say(grefcoco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refs, annotations = raw(grefcoco)
    assert any(isinstance(ref["ann_id"], int) for ref in refs) and any(len(ref["sentences"]) == 3 for ref in refs)
    assert main([]) == 0
    out = capsys.readouterr().out
    assert out.count("multi target") == out.count("no target") == 4 and "empty sentences (left out)" in out
    for split in SPLITS:
        records = get_dataset(f"grefcoco-unc-{split}").read()
        expected = {}
        crowds = 0
        for ref in refs:
            if ref["split"] != split:
                continue
            ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
            wanted = [key for key in ids if key != -1 and not annotations[key]["iscrowd"]]
            crowds += sum(key != -1 and annotations[key]["iscrowd"] for key in ids)
            for sentence in ref["sentences"]:
                if sentence["sent"]:
                    expected[sentence["sent_id"], ref["image_id"]] = sentence["sent"], wanted
        found = {}
        for record in (records[index] for index in range(len(records))):
            for said in record.expressions:
                ids = [target.annotation_id for target in record.targets(said)]
                found[said.id, record.image_id] = said.text, ids
                assert said.no_target == (not ids)
        assert found == expected and len(found) > 6
        assert (f"{crowds} targets that are crowds (left out)" in out) or not crowds
    assert "targets that are crowds" in out


def change(root: Path, edit: Callable[[Refs], object]) -> None:
    path = root / "refer" / "grefcoco" / "grefs(unc).json"
    refs = json.loads(path.read_text())
    edit(refs)
    path.write_text(json.dumps(refs))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda refs: refs[2].update(no_target=False),
            r"ref_id 2 of .*contradicts itself: ann_id \[-1\], no_target False",
        ),
        (lambda refs: refs[2].pop("no_target"), r"ref_id 2 of .*contradicts itself"),
        (lambda refs: refs[1].update(no_target=True), r"ref_id 1 of .*contradicts itself: ann_id \["),
        (lambda refs: refs[1]["ann_id"].append(-1), r"ref_id 1 of .*contradicts itself"),
        (lambda refs: refs[0].update(no_target="no"), r"ref_id 0 of .*no_target 'no'"),
        (
            lambda refs: refs[0].update(ann_id=refs[3]["ann_id"]),
            r"ref_id 0 of .*means annotation \d+ of image \d+, but",
        ),
        (lambda refs: refs[0].update(ann_id=[]), r"ref_id 0 of .*ann_id must be a whole number or a list"),
        (lambda refs: refs[0].update(ann_id=["x"]), "ann_id must be a whole number or a list"),
        (lambda refs: refs[0].update(ann_id=[7]), r"1 of \d+ refs .*ref_id 0\) mean an annotation or image that"),
        (lambda refs: refs[0].update(image_id=7), "mean an annotation or image that"),
        (lambda refs: refs[0].update(sentences=["a"]), "each of its sentences must have a text `sent`"),
        (lambda refs: refs[0].pop("split"), "must hold a list of dicts with"),
    ],
)
def test_refs_that_cannot_be(
    grefcoco: Path, edit: Callable[[Refs], object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    change(grefcoco, edit)
    assert main(["grefcoco-unc"]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1
    assert not (grefcoco / "annotations").exists()


def test_an_expression_of_crowds_alone_is_left_out(grefcoco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = grefcoco / "refer" / "grefcoco" / "instances.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    path.write_text(json.dumps(content))
    assert main([]) == 0
    assert "expressions of crowds alone (left out)" in capsys.readouterr().out
    records = get_dataset("grefcoco-unc-val").read()
    assert all(said.no_target for index in range(len(records)) for said in records[index].expressions)


def test_training_batches(grefcoco: Path) -> None:
    assert main([]) == 0
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = ["grefcoco-unc-train"]
    cfg.INPUT.TRAIN.MODE, cfg.INPUT.TRAIN.SIZE = "squash", [48, 48]
    cfg.SOLVER.BATCH_SIZE, cfg.DATALOADER.NUM_WORKERS = 4, 0
    records = get_dataset("grefcoco-unc-train").read()
    total = sum(len(records[index].expressions) for index in range(len(records)))
    seen: set[tuple[str, str]] = set()
    for batch in islice(build_referring_loader(cfg), -(-total // 4)):
        assert torch.equal(batch.masks.flatten(1).any(1), ~batch.no_target) and batch.masks.shape == (4, 64, 64)
        seen |= set(zip(batch.files, batch.expressions, strict=True))
    assert len(seen) >= total - 3  # with left and right swapped by flips they may count twice, none is missing
