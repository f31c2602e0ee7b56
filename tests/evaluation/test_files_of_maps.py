"""Part maps and answers to expressions of a data set's records: perfect ones score 100, the rest is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.records import Expression, ImageRecord, Instance
from partglee.evaluation import PredictionError
from partglee.evaluation.expression_files import score_expressions
from partglee.evaluation.part_map_files import part_map_evaluator, part_map_name, score_part_maps, write_part_map
from partglee.structures import Vocabulary

SIZE = (12, 16)
FULL = Vocabulary.builtin("pascal_part_116")
DOG, BUS = (FULL.object_names.index(name) for name in ("dog", "bus"))


class Listed(list[ImageRecord]):
    vocabulary = FULL
    ignore = 65535


def square(label: int, x: int, y: int, side: int, **more: Any) -> Instance:
    polygon = (x, y, x + side, y, x + side, y + side, x, y + side)
    return Instance(label, (x, y, x + side, y + side), (tuple(map(float, polygon)),), **more)


def spec(by_object: bool) -> DatasetSpec:
    options = {"labels": "pascal_part_116", "by_object": by_object}
    return DatasetSpec(name="maps", annotations="", images="", reader=read_coco, options=options)  # type: ignore[arg-type]


def samples(by_object: bool) -> Listed:
    """A base and a novel object in one image, and an object without a labelled part."""
    names = FULL.object_names
    kinds = [row for row, name in enumerate(names) if FULL.part_columns(name)][:3]
    objects = [square(kind, 4 * i, 0, 4, annotation_id=kind) for i, kind in enumerate(kinds)]
    parts = [
        square(FULL.part_columns(names[kind])[1], 4 * i, 1, 3, parent=i if not by_object else 0)
        for i, kind in enumerate(kinds[:2])
    ]
    if not by_object:
        return Listed([ImageRecord(Path("a.jpg"), *SIZE, 1, tuple(objects), tuple(parts))])
    own = [((objects[i],), (parts[i],) if i < 2 else ()) for i in range(3)]
    return Listed(ImageRecord(Path("a.jpg"), *SIZE, i + 1, *levels) for i, levels in enumerate(own))


def perfect(record: ImageRecord) -> np.ndarray:
    labels = np.full(SIZE, len(FULL.part_names), np.int64)
    for part in record.parts:
        x0, y0, x1, y1 = map(int, part.box)
        labels[y0:y1, x0:x1] = part.label
    return labels


@pytest.mark.parametrize("by_object", [True, False])
def test_perfect_part_maps(by_object: bool, tmp_path: Path) -> None:
    records = samples(by_object)
    evaluator = part_map_evaluator(spec(by_object), records)
    assert evaluator.mode == ("oracle_obj" if by_object else "pred_all") and evaluator.base.sum() == 74
    for record in records:
        if record.parts:
            write_part_map(perfect(record), tmp_path / part_map_name(record, by_object=by_object))
    results = score_part_maps(tmp_path, records, evaluator)
    assert results["A/mIoU"] == results["B/mIoU"] == results["recall/mRecall"] == pytest.approx(100)
    assert results["num_samples"] == len(records) and results["num_samples_without_part"] == int(by_object)


def test_one_map_for_all_objects_of_an_image(tmp_path: Path) -> None:
    whole = samples(False)[0]
    write_part_map(perfect(whole), tmp_path / "a.png")
    records = samples(True)
    assert score_part_maps(tmp_path, records, part_map_evaluator(spec(True), records))["A/mIoU"] == pytest.approx(100)


def test_wrong_part_maps(tmp_path: Path) -> None:
    records = samples(False)
    with pytest.raises(PredictionError, match="are empty"):
        score_part_maps(tmp_path, records, part_map_evaluator(spec(False), records))
    write_part_map(np.zeros(SIZE, np.int64), tmp_path / "b.png")
    with pytest.raises(PredictionError, match=r"no predicted map for a\.jpg"):
        score_part_maps(tmp_path, records, part_map_evaluator(spec(False), records))
    write_part_map(np.zeros((3, 3), np.int64), tmp_path / "a.png")
    with pytest.raises(PredictionError, match="mask of the wrong size"):
        score_part_maps(tmp_path, records, part_map_evaluator(spec(False), records))


def test_superfluous_part_maps(tmp_path: Path) -> None:
    records = samples(True)
    write_part_map(perfect(samples(False)[0]), tmp_path / "a.png")
    write_part_map(np.zeros(SIZE, np.int64), tmp_path / f"a_{records[0].objects[0].annotation_id + 17}.png")
    with pytest.raises(PredictionError, match="belongs to no sample"):
        score_part_maps(tmp_path, records, part_map_evaluator(spec(True), records))
    with pytest.warns(UserWarning, match="1 x unknown image"):
        results = score_part_maps(tmp_path, records, part_map_evaluator(spec(True), records, strict=False))
    assert results["A/mIoU"] == pytest.approx(100) and results["issues/unknown image"] == 1
    # A process of several does not know the samples of the others.
    rows = range(len(records))
    assert "issues/unknown image" not in score_part_maps(
        tmp_path, records, part_map_evaluator(spec(True), records), rows=rows
    )


def test_the_value_without_a_part_is_that_of_the_files_too(tmp_path: Path) -> None:
    records = samples(False)
    records.ignore = 255
    labels = perfect(records[0])
    missed = labels.copy()
    missed[labels == records[0].parts[0].label] = len(FULL.part_names)
    for values in (np.where(missed == len(FULL.part_names), none, missed) for none in (255, 65535, 116)):
        write_part_map(values, tmp_path / "a.png")
        results = score_part_maps(tmp_path, records, part_map_evaluator(spec(False), records))
        assert results["B/mIoU"] == pytest.approx(50)


def referred() -> Listed:
    first = (square(DOG, 0, 0, 4), square(BUS, 8, 2, 6))
    sentences = (Expression("red bus", (1,)), Expression("left dog", (0,)), Expression("the dog", (0,)))
    return Listed(
        [
            ImageRecord(Path("a.jpg"), *SIZE, 7, first, expressions=sentences),
            ImageRecord(Path("b.jpg"), *SIZE, 8, (square(DOG, 2, 2, 8),), expressions=(Expression("dog", (0,)),)),
        ]
    )


def answer(record: ImageRecord, row: int, place: int, **changes: Any) -> dict[str, Any]:
    from partglee.data.segmentation import encode_segmentation

    target = record.objects[row]
    x0, y0, x1, y1 = target.box
    mask = encode_segmentation(target.segmentation, SIZE, what="target")["counts"].decode()
    best = {"score": 0.9, "bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": {"size": list(SIZE), "counts": mask}}
    worse = {**best, "score": 0.1, "bbox": [0, 0, 1, 1]}
    return {"image_id": record.image_id, "object": row, "sentence": place, "results": [worse, {**best, **changes}]}


def answers() -> list[dict[str, Any]]:
    a, b = referred()
    return [answer(a, 0, 0), answer(a, 0, 1), answer(a, 1, 0), answer(b, 0, 0)]


def write(file: Path, lines: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_perfect_answers(tmp_path: Path) -> None:
    results = score_expressions(write(tmp_path / "a.jsonl", answers()), referred())
    assert results["box/P@0.5"] == results["mask/oIoU"] == results["mask/mIoU"] == pytest.approx(100)
    assert results["mask/num_samples"] == results["box/num_samples"] == 4


def test_lines_by_place_and_by_object_say_the_same(tmp_path: Path) -> None:
    """The place among the expressions of the image; `expression` with the text is of yesterday's files."""
    new = [{"image_id": 7, "expression": 1}, {"image_id": 7, "expression": 2}, {"image_id": 7, "expression": 0}]
    lines = [{**old, **place} for old, place in zip(answers(), [*new, {"expression": "dog"}], strict=True)]
    for line in lines[:3]:
        del line["object"], line["sentence"]
    results = score_expressions(write(tmp_path / "a.jsonl", lines), referred())
    assert results["mask/mIoU"] == results["box/P@0.5"] == pytest.approx(100)
    for place in (3, -1):
        lines[0]["expression"] = place
        with pytest.raises(PredictionError, match=r"unknown image: line 1 .*no expression"):
            score_expressions(write(tmp_path / "a.jsonl", lines), referred())


def test_answers_that_lack_or_are_wrong(tmp_path: Path) -> None:
    lines = answers()
    lines[1]["results"] = []
    with pytest.warns(UserWarning, match="1 x image without prediction"):
        results = score_expressions(write(tmp_path / "a.jsonl", lines[:3]), referred())
    assert results["box/P@0.5"] == results["mask/mIoU"] == pytest.approx(50)
    assert results["mask/oIoU"] == pytest.approx(100 * (16 + 36) / (16 + 16 + 36 + 64))
    # The images of another process do not count.
    results = score_expressions(write(tmp_path / "a.jsonl", answers()[3:]), referred(), rows=[1])
    assert results["mask/num_samples"] == 1 and results["mask/oIoU"] == pytest.approx(100)


BAD = {
    "unknown image": lambda a: [answer(a, 0, 0), {**answer(a, 0, 0), "sentence": 5}],
    "image given twice": lambda a: [answer(a, 0, 0), answer(a, 0, 0)],
    "mask of the wrong size": lambda a: [answer(a, 0, 0, segmentation={"size": [3, 3], "counts": "90"})],
    "mask unreadable": lambda a: [answer(a, 0, 0, segmentation={"size": list(SIZE), "counts": "90"})],
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_answers(kind: str, tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", BAD[kind](referred()[0]))
    with pytest.raises(PredictionError, match=kind):
        score_expressions(file, referred())
    with pytest.warns(UserWarning, match=kind):
        assert score_expressions(file, referred(), strict=False)[f"mask/issues/{kind}"] == 1


@pytest.mark.parametrize("place", [0, 1])
def test_a_score_that_is_no_number_is_found_wherever_it_stands(place: int, tmp_path: Path) -> None:
    """NaN is neither more nor less than a score, so a maximum depends on the order."""
    lines = answers()
    lines[0]["results"].insert(place, {**lines[0]["results"][0], "score": float("nan")})
    file = write(tmp_path / "a.jsonl", lines)
    with pytest.raises(PredictionError, match="score not finite"):
        score_expressions(file, referred())
    with pytest.warns(UserWarning, match="score not finite"):
        results = score_expressions(file, referred(), strict=False)
    assert results["mask/issues/score not finite"] == 1 and results["box/P@0.5"] == pytest.approx(100)


def test_an_answer_without_a_box(tmp_path: Path) -> None:
    lines = answers()
    del lines[0]["results"][1]["bbox"]
    with pytest.raises(ValueError, match="bbox must be four finite numbers xywh, got None"):
        score_expressions(write(tmp_path / "a.jsonl", lines), referred())


def test_lines_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"line 1 .* is no answer"):
        score_expressions(write(tmp_path / "a.jsonl", [{"image_id": 7, "results": []}]), referred())
