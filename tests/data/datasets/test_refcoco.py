"""RefCOCO, RefCOCO+ and RefCOCOg: raw miniature -> prepare script -> records and batches."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

from partglee.data import get_dataset, list_datasets
from partglee.data.images import read_image
from partglee.data.prepare.refer import REFER_SETS
from partglee.data.prepare.refer import main as refcoco_main
from partglee.data.records import Expression
from partglee.evaluation import EVALUATORS
from partglee.testing.miniatures import MINIATURES

SETS = [which for which in REFER_SETS if not which.generalized]
NAMES = [f"{which.name}-{split}" for which in SETS for split in which.splits]


@pytest.fixture
def refcoco(data_root: Path) -> Path:
    MINIATURES["refcoco"](data_root, num_images=2, seed=4)
    return data_root


def test_names_and_published_counts() -> None:
    assert set(NAMES) <= set(list_datasets()) and len(NAMES) == 13
    total = {name: sum(get_dataset(n).counts.objects or 0 for n in NAMES if n.startswith(f"{name}-")) for name in (
        "refcoco-unc", "refcocoplus-unc", "refcocog-umd")}  # fmt: skip
    assert total == {"refcoco-unc": 50000, "refcocoplus-unc": 49856, "refcocog-umd": 49822}
    told = {name: sum(get_dataset(n).counts.expressions or 0 for n in NAMES if n.startswith(f"{name}-")) for name in (
        "refcoco-unc", "refcocoplus-unc", "refcocog-umd", "refcocog-google")}  # fmt: skip
    assert told == {
        "refcoco-unc": 142210, "refcocoplus-unc": 141564, "refcocog-umd": 95010, "refcocog-google": 95010,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "name"), [("unc", "refcoco-unc-val"), ("unc+", "refcocoplus-unc-val"), ("gref_umd", "refcocog-umd-val")]
)
def test_published_counts_are_those_of_the_real_sentences(shared: Path, file: str, name: str) -> None:
    path = shared / "data" / "refcoco_val" / f"{file}_val.json.gz"
    if not path.is_file():
        pytest.skip(f"../shared/data/refcoco_val/{path.name} is not here")
    rows = json.loads(gzip.decompress(path.read_bytes()))
    counts = get_dataset(name).counts
    assert counts.expressions == len(rows)
    assert counts.objects == len({row["ann"] for row in rows}) and counts.images == len({row["image"] for row in rows})


def test_every_split_holds_what_its_refs_say(refcoco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refcoco_main([]) == 0
    assert capsys.readouterr().out.count(" expressions") == 13
    for which in SETS:
        refs = pickle.loads((refcoco / "refer" / which.folder / f"refs({which.by}).p").read_bytes())
        annotations = {
            entry["id"]: entry
            for entry in json.loads((refcoco / "refer" / which.folder / "instances.json").read_text())["annotations"]
        }
        for split in which.splits:
            spec = get_dataset(f"{which.name}-{split}")
            records = spec.read()
            mine = [ref for ref in refs if ref["split"] == split]
            assert len(records) == len({ref["image_id"] for ref in mine}) > 0
            assert records.issues == {}  # type: ignore[attr-defined]
            assert spec.evaluator in EVALUATORS and records.vocabulary.to_dict() == {"object": []}
            for record in records:
                said = [
                    (ref["ann_id"], s["sent"], s["sent_id"])
                    for ref in mine for s in ref["sentences"] if ref["image_id"] == record.image_id
                ]  # fmt: skip
                ids = [instance.annotation_id for instance in record.objects]
                assert said == [(ids[e.objects[0]], e.text, e.id) for e in record.expressions]
                for instance in record.objects:
                    x, y, w, h = annotations[instance.annotation_id]["bbox"]
                    assert instance.box == (x, y, x + w, y + h)
                assert read_image(record.source).shape == (record.height, record.width, 3)
                assert record.file.name == f"COCO_train2014_{record.image_id:012d}.jpg"
            held = records.counts()  # type: ignore[attr-defined]
            sentences = sum(len(ref["sentences"]) for ref in mine)
            assert held["expressions"] == held["single target"] == sentences and held["objects"] == len(mine)


def test_a_batch_of_expressions(refcoco: Path, first_batch) -> None:
    assert refcoco_main(["refcoco-unc"]) == 0
    batch = first_batch("refcoco-unc-train", 3)
    assert batch.names is None and batch.expressions is not None and len(batch.expressions) == 3
    assert batch.supervision.parts.background == (False,) * len(batch.images)  # nothing is known of parts
    rows = {(str(r.file), s) for r in get_dataset("refcoco-unc-train").read() for s in [e.text for e in r.expressions]}
    swap = {"left": "right", "right": "left"}
    for file, text, target in zip(batch.files, batch.expressions, batch.targets, strict=True):
        flipped = " ".join(swap.get(word, word) for word in text.split())
        assert (file, text) in rows or (file, flipped) in rows
        assert target.objects.labels.tolist() == [0] and target.objects.masks is not None


def test_pictures_of_2017(refcoco: Path) -> None:
    """They are the same as those of 2014, under other names."""
    assert refcoco_main(["refcocog-umd", "--train2017"]) == 0
    record = get_dataset("refcocog-umd-val").read()[0]
    assert record.file.resolve().parent == (refcoco / "coco" / "train2017").resolve()
    assert len(record.file.stem) == 12 and record.file.stem.isdigit()


def test_files_of_another_converter_with_lists_for_each_object(refcoco: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two objects of one picture in one entry."""
    square = [[2, 2, 9, 2, 9, 9, 2, 9]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 48, "width": 64, "expressions": [["one"], ["two", "2"]]}],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [2, 2, 7, 7], "segmentation": square} for i in (1, 2)
        ],
    }
    spec = get_dataset("refcoco-unc-val")
    spec.annotation_path.parent.mkdir(parents=True)
    spec.annotation_path.write_text(json.dumps(content))
    assert spec.read()[0].expressions == (Expression("one", (0,)), Expression("two", (1,)), Expression("2", (1,)))
    assert "deprecated" in caplog.text and spec.read().counts()["expressions"] == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda refs: refs[0].update(ann_id=-5), "mean an annotation or image that"),
        (lambda refs: refs[0].pop("sentences"), "must hold a list of dicts with"),
        (lambda refs: refs[0].update(split=np.float64(1)), r"it asks for numpy"),
    ],
)
def test_refs_that_do_not_fit(refcoco: Path, change, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = refcoco / "refer" / "refcoco" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    change(refs)
    path.write_bytes(pickle.dumps(refs, protocol=2))
    assert refcoco_main(["refcoco-unc"]) == 2
    assert message in capsys.readouterr().err
    assert not (refcoco / "annotations").exists()


def test_no_refs_at_all(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refcoco_main([]) == 2
    assert "give the folder by --raw" in capsys.readouterr().err
    assert refcoco_main(["refcoco-umd"]) == 2
    assert "there are refcoco-unc" in capsys.readouterr().err
