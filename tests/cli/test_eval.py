"""`partglee eval`: every format against a registered data set and against files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from partglee.cli import main
from partglee.data import get_dataset
from partglee.data.segmentation import encode_segmentation
from partglee.evaluation import dataset_evaluator, score_file
from partglee.evaluation.joint import category_ids_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARTGLEE_DATASETS", str(root))
        assert main(["data", "toy", "--images", "40", "--size", "64", "80"]) == 0
    return root


@pytest.fixture(autouse=True)
def _root(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(data))


def noisy_lines(*, with_object: bool = True) -> list[dict[str, Any]]:
    """Annotations of toy_val, shifted, some with other names, parents or none: what `--eval-only` writes."""
    records = get_dataset("toy_val").read()
    names = records.vocabulary
    generator = torch.Generator().manual_seed(0)
    lines = []
    for index in range(len(records)):
        record = records[index]
        size = (record.height, record.width)
        rows: list[dict[str, Any]] = []
        for instance, level in [(o, "object") for o in record.objects] + [(p, "part") for p in record.parts]:
            known = names.part_names if level == "part" else names.object_names
            label = instance.label
            if torch.rand((), generator=generator) < 0.2:
                label = int(torch.randint(len(known), (), generator=generator))
            mask = encode_segmentation(instance.segmentation, size, what="annotation")
            x0, y0, x1, y1 = instance.box
            row = {
                "id": len(rows) + 1, "parent_id": None, "level": level, "name": known[label], "category_id": label,
                "bbox": [x0, y0, x1 - x0, y1 - y0], "score": float(torch.rand((), generator=generator)),
                "segmentation": {"size": list(size), "counts": mask["counts"].decode()},
            }  # fmt: skip
            if level == "part":
                draw = float(torch.rand((), generator=generator))
                parent = instance.parent if draw < 0.7 else 0
                row["parent_id"] = None if draw > 0.9 else parent + 1
                if with_object:
                    row["object"] = names.object_names[names.part_owner[label][0]]
            rows.append(row)
        lines.append({"file_name": str(record.file), "image_id": record.image_id, "height": size[0], "width": size[1]})
        lines[-1]["results"] = rows
    return lines


def write_lines(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def coco_rows() -> list[dict[str, Any]]:
    ids = category_ids_of(get_dataset("toy_val").read())
    rows = []
    for line in noisy_lines():
        for row in line["results"]:
            category = ids[row["level"] == "part"][row["category_id"]]
            rows.append({**row, "category_id": category, "image_id": line["image_id"]})
    return rows


def run(*arguments: Any) -> int:
    return main(["eval", *map(str, arguments)])


def numbers(tmp_path: Path, *arguments: Any) -> dict[str, float]:
    assert run(*arguments, "--json", tmp_path / "numbers.json") == 0
    found = json.loads((tmp_path / "numbers.json").read_text())["results"]
    return {key: value for key, value in found.items() if not key.startswith("issues/")}


def test_all_formats_and_the_evaluation_loop_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = write_lines(tmp_path / "found.jsonl", noisy_lines())
    (tmp_path / "found.json").write_text(json.dumps(coco_rows()))
    spec = get_dataset("toy_val")
    by_label = score_file(lines, dataset_evaluator(spec, spec.read()))
    by_name = numbers(tmp_path, "--predictions", lines, "--dataset", "toy_val")
    assert by_name == pytest.approx(by_label) and 20 < by_name["part/mask/AP"] < 95
    assert 20 < by_name["hierarchy/mask/parent_accuracy"] < 95
    out = capsys.readouterr().out
    assert "toy_val: objects and parts" in out and f"{by_label['part/mask/AP50']:.3f}" in out
    assert numbers(tmp_path, "--predictions", tmp_path / "found.json", "--dataset", "toy_val") == by_name
    file = ["--annotations", spec.annotation_path]
    assert numbers(tmp_path, "--predictions", tmp_path / "found.json", *file) == by_name
    hierarchy = numbers(tmp_path, "--predictions", lines, *file, "--evaluator", "hierarchical", "--kinds", "segm")
    assert hierarchy["segm/hAP"] == pytest.approx(by_name["hierarchy/mask/hAP"])
    derived = ["--evaluator", "hierarchical", "--option", "parents=derived"]
    found = numbers(tmp_path, "--predictions", lines, "--dataset", "toy_val", *derived)
    assert found["segm/parent_accuracy"] != pytest.approx(hierarchy["segm/parent_accuracy"])


def test_a_share_of_a_file_is_scored_alone(tmp_path: Path) -> None:
    from dataclasses import replace

    from partglee.data import register

    half = replace(get_dataset("toy_val"), name="toy_half", select=(0.0, 0.5))
    register(half, replace=True)
    lines = write_lines(tmp_path / "half.jsonl", noisy_lines()[:2])
    for key in ("coco", "joint", "lvis"):
        assert run("--predictions", lines, "--dataset", "toy_half", "--evaluator", key) == 0
        evaluator = dataset_evaluator(half, half.read(), key=key)
        assert len(evaluator.ground_truth.image_ids) == 2
    assert run("--predictions", write_lines(tmp_path / "all.jsonl", noisy_lines()), "--dataset", "toy_half") == 2


def test_parts_without_an_object_in_files_that_do_not_name_it(tmp_path: Path) -> None:
    """A name that several objects have is refused, not guessed."""
    lines = noisy_lines(with_object=False)
    names = get_dataset("toy_val").read().vocabulary.part_names
    shared = next(name for name in names if names.count(name) > 1)
    row = next(row for line in lines for row in line["results"] if row["level"] == "part")
    row.update(name=shared, parent_id=None)
    path = write_lines(tmp_path / "found.jsonl", lines)
    assert run("--predictions", path, "--dataset", "toy_val") == 2
    assert run("--predictions", path, "--dataset", "toy_val", "--lenient") == 0


def change(**fields: Any) -> list[dict[str, Any]]:
    rows = coco_rows()
    rows[3] = {**rows[3], **fields}
    return rows


BAD = {
    "unknown image": lambda: change(image_id=99),
    "unknown category": lambda: change(category_id=999),
    "score not finite": lambda: change(score=float("nan")),
    "mask of the wrong size": lambda: change(segmentation={"size": [4, 4], "counts": "@0"}),
    "mask unreadable": lambda: change(segmentation={"size": [64, 80], "counts": "@0"}),
    "image given twice": lambda: [*coco_rows(), *coco_rows()],
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_predictions_end_with_one_line(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps(BAD[kind]()))
    assert run("--predictions", file, "--dataset", "toy_val", "--json", tmp_path / "numbers.json") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"partglee: {kind}") and error.count("\n") == 1 and "--lenient" in error
    assert not (tmp_path / "numbers.json").exists()
    assert run("--predictions", file, "--dataset", "toy_val", "--lenient") == 0
    assert f"x {kind}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "toy_vall"], "did you mean 'toy_val'"),
        (["--dataset", "coco_2017_val"], "instances_val2017.json' does not exist"),
        (["--annotations", "lost.json"], "lost.json' does not exist"),
        (["--dataset", "toy_val", "--evaluator", "cocoo"], "no evaluator 'cocoo'; did you mean 'coco'"),
        (["--dataset", "toy_val", "--evaluator", "referring"], "has no referring expressions"),
        (["--dataset", "toy_val", "--evaluator", "referring", "--option", "foo=1"], "no option 'foo'; there are"),
        (["--dataset", "toy_val", "--evaluator", "referring", "--kinds", "bbox"], "without --kinds"),
        (["--dataset", "toy_val", "--evaluator", "semantic_parts"], "scores a folder of label images"),
        (["--dataset", "toy_val", "--option", "max_dets"], "takes KEY=VALUE"),
        (["--dataset", "toy_val", "--evaluator", "coco", "--option", "max_det=1"], "it has max_dets, per_category"),
        (["--dataset", "toy_val", "--objects", "maps"], "is for label images"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "found.json"
    file.write_text(json.dumps(coco_rows()))
    assert run("--predictions", file, *arguments) == 2
    assert message in capsys.readouterr().err


def test_empty_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "found.json"
    assert run("--predictions", file, "--dataset", "toy_val") == 2
    assert "does not exist" in capsys.readouterr().err
    file.write_text("")
    assert run("--predictions", file, "--dataset", "toy_val") == 2
    assert "is empty" in capsys.readouterr().err
    file.write_text("[]")
    assert numbers(tmp_path, "--predictions", file, "--dataset", "toy_val")["part/mask/AP"] == 0
    assert "there is not one detection" in capsys.readouterr().err


def test_label_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part = np.full((4, 4), 255)
    part[:2], part[2, :2] = 0, 2
    for folder, labels in (("parts", part), ("found", np.where(part == 2, 1, part))):
        (tmp_path / folder).mkdir()
        Image.fromarray(labels.astype(np.uint8)).save(tmp_path / folder / "a.png")
    found = ["--predictions", tmp_path / "found"]
    options = ["--option", "num_classes=3", "--option", "base_classes=[0, 1]", "--option", "mode=pred_all"]
    results = numbers(tmp_path, *found, "--annotations", tmp_path / "parts", *options)
    assert (results["B/mIoU-base"], results["B/mIoU-novel"]) == pytest.approx((100, 0))
    for arguments, message in (
        (["--annotations", tmp_path / "parts"], "num_classes=K"),
        (["--annotations", tmp_path / "parts", "--option", "classes=3"], "no option 'classes'"),
        (["--annotations", tmp_path / "parts", *options[:2]], "needs objects="),
        (["--dataset", "toy_val"], "is a folder of label images, but toy_val is scored by 'joint'"),
    ):
        assert run(*found, *arguments) == 2
        assert message in capsys.readouterr().err
