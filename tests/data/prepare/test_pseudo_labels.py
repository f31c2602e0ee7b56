"""Several teachers into one file: fusion, what a photo's own name changes, going on after a stop."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from partglee.data.annotations.coco_json import read_coco
from partglee.data.checks.content import validate
from partglee.data.prepare.pseudo_labels import (
    PhotoName,
    add_masks,
    fuse,
    judge,
    look_at,
    make_lines,
    photo_names,
    read_lines,
    write_pseudo_labels,
)
from partglee.data.prepare.teachers import Detections, pair_iou
from partglee.data.spec import DatasetSpec


def view(*rows: tuple[list[float], float, int]) -> Detections:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    return Detections(np.array(boxes, float).reshape(-1, 4), np.array(scores, float), np.array(labels, np.int64))


def fuse_slowly(views: list[Detections], overlap: float) -> list[tuple[list[float], float, int]]:
    """One row after the other, as the paper describes it."""
    rows = [(b, s, c, t) for t, v in enumerate(views) for b, s, c in zip(v.boxes, v.scores, v.labels, strict=True)]
    rows.sort(key=lambda row: -row[1])
    groups: list[list[Any]] = []
    for row in rows:

        def mean(group: list[Any]) -> Any:
            return sum(b * s for b, s, *_ in group) / sum(s for _, s, *_ in group)

        ious = [pair_iou(mean(g)[None], row[0][None])[0, 0] if g[0][2] == row[2] else 0.0 for g in groups]
        if ious and max(ious) > overlap:
            groups[int(np.argmax(ious))].append(row)
        else:
            groups.append([row])
    out = []
    for group in groups:
        box = sum(b * s for b, s, *_ in group) / sum(s for _, s, *_ in group)
        best = {t: max(s for _, s, _, o in group if o == t) for *_, t in group}
        out.append((box.tolist(), sum(best.values()) / len(views), int(group[0][2])))
    return sorted(out, key=lambda entry: -entry[1])


def test_fusion_is_that_of_a_slow_one() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        views = []
        for _ in range(3):
            corner = rng.integers(0, 4, (6, 2)) * 10.0 + rng.uniform(0, 3, (6, 2))
            boxes = np.concatenate([corner, corner + rng.uniform(10, 14, (6, 2))], 1)
            views.append(Detections(boxes, rng.uniform(0.05, 1, 6), rng.integers(0, 2, 6)))
        fused, slow = fuse(views, num_names=2), fuse_slowly(views, 0.55)
        assert fused.scores == pytest.approx([score for _, score, _ in slow])
        assert fused.labels.tolist() == [label for *_, label in slow]
        assert fused.boxes == pytest.approx(np.array([box for box, *_ in slow]))


def test_names_that_teachers_see_at_one_box_are_soft_scores() -> None:
    box = [0.0, 0.0, 10.0, 10.0]
    fused = fuse([view((box, 0.8, 0), (box, 0.3, 1)), view((box, 0.6, 0))], num_names=3)
    assert fused.scores == pytest.approx([0.7, 0.15])
    assert fused.soft == pytest.approx(np.array([[0.7, 0.15, 0], [0.7, 0.15, 0]]))
    assert fuse([view(), view()], num_names=3).boxes.shape == (0, 4)


class Seen:
    name = "seen"

    def __init__(self, *rows: tuple[list[float], float, int]) -> None:
        self.rows = rows

    def __call__(self, pixels: Any) -> Detections:
        return view(*self.rows)


def inside(pixels: Any, boxes: Any) -> list[Any]:
    masks = []
    for x0, y0, x1, y1 in boxes.astype(int):
        mask = np.zeros(pixels.shape[:2], bool)
        mask[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1] = True
        masks.append(mask)
    return masks


PIXELS = np.zeros((40, 60, 3), np.uint8)


def test_a_photo_becomes_entries() -> None:
    teachers = [Seen(([0, 0, 20, 20], 0.8, 2), ([30, 0, 50, 20], 0.12, 1)), Seen(([0, 0, 20, 20], 0.6, 2))]
    thing = np.array([[0, 20, 60, 40], [0, 0, 5, 5]], float), np.array([0.4, 0.9])
    entries = look_at(PIXELS, teachers, names=["dog", "cup", "car"], objectness=lambda pixels: thing)
    assert [(entry["name"], round(entry["score"], 2)) for entry in entries] == [("car", 0.7), ("", 0.4)]
    assert entries[0]["soft"] == {"car": 0.7} and entries[1]["box"] == [0, 20, 60, 40], (
        "too small to be the photo's thing"
    )
    assert all("segmentation" in entry for entry in add_masks(PIXELS, entries, inside))
    unsure = [entry("car", 0.2, [0, 0, 10, 10])]
    assert add_masks(PIXELS, unsure, inside) == unsure


def entry(name: str, score: float, box: list[float]) -> dict[str, Any]:
    return {"name": name, "score": score, "box": box, "soft": {}}


def verdicts(entries: list[dict[str, Any]], told: PhotoName | None) -> list[tuple[str, str]]:
    return [(one["name"], verdict) for one, verdict in judge(entries, told, positive=0.35, ignored=0.1)]


def test_the_name_of_the_photo_confirms_refutes_and_names() -> None:
    cat, cow = entry("cat", 0.2, [0, 0, 10, 10]), entry("cow", 0.6, [0, 0, 9, 9])
    cup, thing = entry("cup", 0.5, [20, 20, 30, 30]), entry("", 0.5, [0, 0, 11, 11])
    told = PhotoName("cat", "cat", True)
    assert verdicts([cow, cat, cup], None) == [("cow", "positive"), ("cat", "ignored"), ("cup", "positive")]
    assert verdicts([cow, cat, cup, thing], told) == [("cow", "refuted"), ("cat", "confirmed"), ("cup", "positive")]
    assert verdicts([cow, thing], told) == [("cow", "refuted"), ("cat", "named")]
    assert verdicts([cup, thing], PhotoName(None, "ladybug", True))[1] == ("ladybug", "named")
    assert verdicts([thing], PhotoName(None, None, False)) == []
    assert verdicts([{**thing, "score": 0.2}], told) == []


def test_imagenets_names() -> None:
    told = photo_names()
    assert len(told) == 1000
    assert told["n02123045"] == PhotoName("cat", None, True)  # tabby
    assert told["n02165456"] == PhotoName(None, "ladybug", True)
    assert told["n03792782"].coco == "bicycle" and not told["n03792782"].animal  # mountain bike


def photos(root: Path, count: int) -> list[Path]:
    files = [root / "set" / f"{number}.jpg" for number in range(count)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PIXELS).save(file)
    return files


def test_a_run_that_was_stopped_goes_on(tmp_path: Path) -> None:
    files, lines, looked = photos(tmp_path, 4), tmp_path / "out.jsonl", []

    def look(pixels: Any) -> list[dict[str, Any]]:
        looked.append(len(looked))
        return [entry("car", 0.5, [0, 0, 10, 10])]

    made = make_lines(files, tmp_path, lines, look)
    next(made), next(made)
    made.close()
    whole = lines.read_bytes()
    lines.write_bytes(whole + b'{"file":"set/2.jpg","si')  # the end of the program cut a line off
    assert len(read_lines(lines)) == 2
    list(make_lines(files, tmp_path, lines, look))
    assert len(looked) == 4 and sorted(read_lines(lines)) == [f"set/{number}.jpg" for number in range(4)]
    assert lines.read_bytes().startswith(whole)
    lines.write_bytes(b"nonsense\n" + whole)
    with pytest.raises(ValueError, match=r"out\.jsonl, line 1"):
        read_lines(lines)


def test_masks_are_added_later(tmp_path: Path) -> None:
    files, lines, looked = photos(tmp_path, 2), tmp_path / "out.jsonl", []

    def look(pixels: Any) -> list[dict[str, Any]]:
        looked.append(len(looked))
        return [entry("car", 0.5, [0, 0, 10, 10])]

    list(make_lines(files, tmp_path, lines, look))
    assert not any("segmentation" in line["entries"][0] for line in read_lines(lines).values())
    list(make_lines(files[:1], tmp_path, lines, look, inside))
    assert ["segmentation" in line["entries"][0] for line in read_lines(lines).values()] == [True, False]
    written = lines.read_bytes()
    list(make_lines(files, tmp_path, lines, look))  # without a segmenter nothing is left to do
    list(make_lines(files[:1], tmp_path, lines, look, inside))
    assert lines.read_bytes() == written and len(looked) == 2


def test_the_file_is_read_as_any_other(tmp_path: Path) -> None:
    files, lines, output = photos(tmp_path, 2), tmp_path / "out.jsonl", tmp_path / "out.json"
    teachers = [Seen(([0, 0, 20, 20], 0.8, 2), ([30, 0, 50, 20], 0.2, 0))]
    names = ["person", "bicycle", "car"]
    list(make_lines(files, tmp_path, lines, lambda pixels: look_at(pixels, teachers, names=names), inside))
    weights = tmp_path / "teacher.onnx"
    weights.write_bytes(b"weights")
    counts = write_pseudo_labels(lines, output, teachers={"seen": weights})
    assert (counts["photos"], counts["objects"], counts["ignored"]) == (2, 2, 2)
    content = json.loads(output.read_text())
    assert not validate(content).errors
    assert (
        content["info"]["teachers"]["seen"]["sha256"] == sha256(b"weights").hexdigest()
        and content["info"]["limits"]["positive"] == 0.35
    )
    assert content["annotations"][0]["soft_scores"] == {"car": 0.8}
    records = read_coco(DatasetSpec(name="pseudo", annotations=str(output), images=str(tmp_path), reader=read_coco))
    objects = records[0].objects
    assert [one.crowd for one in objects] == [False, True] and objects[0].segmentation is not None
    with pytest.raises(ValueError, match="0 < ignored <= positive <= 1"):
        write_pseudo_labels(lines, output, teachers={}, positive=0.1, ignored=0.2)
    with pytest.raises(ValueError, match="has no photo yet"):
        write_pseudo_labels(tmp_path / "none.jsonl", output, teachers={})
