"""Reading predictions of any system, and bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from evaluation_worlds import dataset, encode, feed, image, random_world, rect, result
from PIL import Image

from partglee.evaluation import (
    CategoryMap,
    CocoEvaluator,
    GroundTruth,
    HierarchicalEvaluator,
    LvisEvaluator,
    PredictionError,
    SemanticPartEvaluator,
    detect_format,
    score_file,
    score_label_images,
)
from partglee.structures import Prediction, Vocabulary

SIZE = (20, 20)
CATEGORIES = [
    {"id": 7, "name": "dog"},
    {"id": 8, "name": "cat"},
    {"id": 20, "name": "dog:head"},
    {"id": 21, "name": "cat:head"},
]
DOG, HEAD = rect(0, 10, 0, 10, SIZE), rect(0, 4, 0, 4, SIZE)


def truth():
    images = [image(1, SIZE), image(2, SIZE)]
    rows = [(1, 7, DOG), (1, 20, HEAD, {"parent_id": 1}), (2, 8, DOG), (2, 21, HEAD, {"parent_id": 3})]
    return dataset(images, rows, CATEGORIES)


def prediction(name, file_name, size=SIZE):
    masks = torch.zeros(2, *size, dtype=torch.bool)
    masks[0, :10, :10] = masks[1, :4, :4] = True
    return Prediction(
        boxes=[[0, 0, 10, 10], [0, 0, 4, 4]], scores=[0.9, 0.8], labels=[0, 0], names=[name, "head"], level=[0, 1],
        parent=[-1, 0], image_size=size, masks=masks, file_name=file_name,
    )  # fmt: skip


def write(path, lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_json_lines_find_categories_by_name_and_parent(tmp_path):
    lines = [prediction("dog", "photos/1.jpg").to_json(), prediction("cat", "2.jpg").to_json()]
    path = write(tmp_path / "found.jsonl", lines)
    assert detect_format(path) == "partglee"
    results = score_file(path, CocoEvaluator(ground_truth=truth()))
    assert (results["bbox/AP"], results["segm/AP"]) == pytest.approx((100, 100))
    results = score_file(path, HierarchicalEvaluator(ground_truth=truth()))
    assert (results["segm/hAP"], results["segm/parent_accuracy"]) == pytest.approx((100, 100))


def test_prediction_objects_and_explicit_ids():
    vocabulary = Vocabulary({"dog": ["head"], "cat": ["head"]}, part_format="{object} {part}")
    found = prediction("dog", None)
    table = GroundTruth.load(truth())
    by_vocabulary = CategoryMap(ground_truth=table, vocabulary=vocabulary)
    assert [row["category_id"] for row in by_vocabulary.translate(found.to_coco())] == [7, 20]
    explicit = CategoryMap(ground_truth=table, object_category_ids=[8], part_category_ids={0: 21})
    assert [row["category_id"] for row in explicit.translate(found.to_coco())] == [8, 21]
    evaluator = CocoEvaluator(ground_truth=table)
    evaluator.process(1, found)
    evaluator.process(2, [])
    assert evaluator.evaluate()["segm/AP"] == pytest.approx(50)


def test_objects_are_left_out_where_only_parts_are_annotated():
    """Pascal-Part's own val.json has the 93 parts and no objects; the model predicts both."""
    parts = dataset([image(1, SIZE)], [(1, 20, HEAD)], CATEGORIES[2:])
    evaluator = CocoEvaluator(ground_truth=parts)
    evaluator.process(1, prediction("dog", None))
    with pytest.warns(UserWarning, match="level not annotated"):
        results = evaluator.evaluate()
    assert (results["segm/AP"], results["issues/level not annotated"]) == (pytest.approx(100), 1)
    evaluator.reset()
    with pytest.raises(PredictionError, match=r"image 1: part 'head' is no category"):
        evaluator.process(1, prediction("horse", None))


def test_coco_and_lvis_results_files_equal_direct_feeding(tmp_path):
    for lvis, kind in ((False, CocoEvaluator), (True, LvisEvaluator)):
        annotations, rows = random_world(1, lvis=lvis)
        path = tmp_path / "found.json"
        shuffled = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
        path.write_text(json.dumps(shuffled))
        (tmp_path / "truth.json").write_text(json.dumps(annotations))
        from_file = score_file(path, kind(ground_truth=tmp_path / "truth.json"))
        direct = feed(kind(ground_truth=annotations), shuffled)
        for key, value in direct.items():
            if not key.startswith("issues/"):
                assert from_file[key] == pytest.approx(value, nan_ok=True, abs=1e-12)


BAD = {
    "unknown image": result(9, 7, DOG, 0.5),
    "unknown category": result(1, 99, DOG, 0.5),
    "score not finite": result(1, 7, DOG, float("nan")),
    "box not finite": {**result(1, 7, DOG, 0.5), "bbox": [0, 0, float("inf"), 4]},
    "mask of the wrong size": {**result(1, 7, DOG, 0.5), "segmentation": encode(np.ones((5, 5)))},
    "no mask": {"image_id": 1, "category_id": 7, "bbox": [0, 0, 4, 4], "score": 0.5},
    "mask unreadable": {**result(1, 7, DOG, 0.5), "segmentation": [[0, 0, 1, 1]]},
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_rows_are_errors_or_counted(kind, tmp_path):
    good = [result(1, 7, DOG, 0.9), result(2, 8, DOG, 0.9), result(1, 20, HEAD, 0.8), result(2, 21, HEAD, 0.8)]
    path = tmp_path / "found.json"
    path.write_text(json.dumps([*good, BAD[kind]]))
    with pytest.raises(PredictionError, match=kind):
        score_file(path, CocoEvaluator(ground_truth=truth()))
    for value in (None, "0.5"):
        with pytest.raises(PredictionError, match="score not finite"):
            CocoEvaluator(ground_truth=truth()).process(1, [{**result(1, 7, DOG, 0.5), "score": value}])
    with pytest.warns(UserWarning, match=kind):
        results = score_file(path, CocoEvaluator(ground_truth=truth(), strict=False))
    assert results[f"issues/{kind}"] == 1
    assert results["segm/AP"] == pytest.approx(100)


def test_bad_lines(tmp_path):
    def score(lines, **options):
        return score_file(write(tmp_path / "found.jsonl", lines), CocoEvaluator(ground_truth=truth(), **options))

    good = prediction("dog", "1.jpg").to_json()
    with pytest.raises(ValueError, match="line 2"):
        score([good, "{"])
    with pytest.raises(PredictionError, match="image given twice"):
        score([good, good])
    with pytest.raises(PredictionError, match="unknown image"):
        score([prediction("dog", "9.jpg").to_json()])
    with pytest.raises(PredictionError, match=r"unknown name.*'horse'"):
        score([prediction("horse", "1.jpg").to_json()])
    with pytest.raises(PredictionError, match="wrong size"):
        score([prediction("dog", "1.jpg", size=(30, 30)).to_json()])
    with pytest.warns(UserWarning) as caught:
        results = score([good, good, prediction("horse", "2.jpg").to_json()], strict=False)
    assert results["issues/image given twice"] == 1
    assert results["issues/unknown name"] == 2  # the horse, and its head
    assert any("image given twice" in str(w.message) for w in caught)


def test_empty_files(tmp_path):
    empty = tmp_path / "found.json"
    empty.write_text("")
    with pytest.raises(PredictionError, match="is empty"):
        score_file(empty, CocoEvaluator(ground_truth=truth()))
    empty.write_text("[]")
    for kind in (CocoEvaluator, LvisEvaluator, HierarchicalEvaluator):
        with pytest.warns(UserWarning, match="not one detection"):
            results = score_file(empty, kind(ground_truth=truth()))
        assert results["bbox/AP"] == results["segm/AP"] == 0
        assert results["issues/image without prediction"] == 2


def test_files_of_the_wrong_kind(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        detect_format(tmp_path / "none.json")
    other = tmp_path / "found.txt"
    other.write_text("x")
    with pytest.raises(ValueError, match="must end in"):
        detect_format(other)
    annotations = tmp_path / "truth.json"
    annotations.write_text(json.dumps(truth()))
    with pytest.raises(ValueError, match="an annotation file"):
        score_file(annotations, CocoEvaluator(ground_truth=truth()))
    with pytest.raises(ValueError, match="is this a results file"):
        GroundTruth.from_dict({"results": []})
    with pytest.raises(ValueError, match="does not exist"):
        CocoEvaluator(ground_truth=tmp_path / "nothing.json")


def test_annotations_that_contradict_themselves():
    for change, message in (
        (lambda d: d["annotations"][0].update(id=2), "annotation id is given twice"),
        (lambda d: d["annotations"][0].update(category_id=99), "is not in the file"),
        (lambda d: d["images"].append(image(1)), "image id is given twice"),
        (lambda d: d["categories"].append({"id": 7, "name": "x"}), "category id is given twice"),
    ):
        broken = truth()
        change(broken)
        with pytest.raises(ValueError, match=message):
            GroundTruth.load(broken)


def save(folder, name, labels):
    folder.mkdir(exist_ok=True)
    Image.fromarray(np.asarray(labels, np.uint8)).save(folder / name)


def test_label_images(tmp_path):
    part = np.full((4, 4), 255)
    part[:2], part[2, :2] = 0, 2
    objects = np.full((4, 4), 255)
    objects[:2], objects[2:] = 0, 1
    save(tmp_path / "parts", "a.png", part)
    save(tmp_path / "parts", "._a.png", part)
    save(tmp_path / "objects", "a.png", objects)
    save(tmp_path / "found", "a.png", np.where(part == 255, 3, part))

    def score(mode, **options):
        evaluator = SemanticPartEvaluator(num_classes=3, base_classes=[0, 1], mode=mode, **options)
        return score_label_images(tmp_path / "found", evaluator, parts=tmp_path / "parts", objects=tmp_path / "objects")

    assert (score("pred_all")["B/hIoU"], score("oracle_obj")["B/hIoU"]) == pytest.approx((100, 100))
    save(tmp_path / "found", "a_1.png", np.zeros((4, 4)))  # object 1 has a map of its own, which is wrong
    results = score("oracle_obj")
    assert results["num_samples"] == 2
    assert results["B/mIoU-novel"] == 0
    with pytest.raises(PredictionError, match="belongs to no annotated"):
        score("pred_all")
    (tmp_path / "found" / "a.png").unlink()
    with pytest.raises(PredictionError, match="no predicted map"):
        score("oracle_obj")
    with pytest.warns(UserWarning, match="unknown image"):
        assert score("oracle_obj", strict=False)["issues/unknown image"] == 1


def test_detections_are_read_from_either_format(tmp_path):
    from partglee.data import get_dataset
    from partglee.evaluation import read_detections
    from partglee.testing import register_toy

    register_toy("toy_read", num_images=2, folder=tmp_path)
    records = get_dataset("toy_read").read()
    row = {"bbox": [0, 0, 4, 4], "score": 0.5, "category_id": 1}
    lines = [
        {"file_name": str(records[1].file), "height": 1, "width": 1, "results": [row, row]},
        {"file_name": records[0].file.name, "height": 1, "width": 1, "results": []},
        {"file_name": None, "image_id": 7, "height": 1, "width": 1, "results": []},
    ]
    file = tmp_path / "found.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    assert list(read_detections(file, records)) == [(2, [row, row]), (1, []), (7, [])]
    file.write_text(json.dumps({**lines[0], "file_name": "other.jpg"}))
    with pytest.raises(ValueError, match=r"line 1 of .*'other\.jpg' is not in the annotations"):
        list(read_detections(file, records))
    file.write_text(json.dumps({**lines[0], "height": "high"}))
    with pytest.raises(ValueError, match=r"was not written by Prediction\.to_json"):
        list(read_detections(file, records))
    results = tmp_path / "found.json"
    results.write_text(json.dumps([{**row, "image_id": 2}]))
    assert list(read_detections(results, records)) == [(2, [{**row, "image_id": 2}])]
