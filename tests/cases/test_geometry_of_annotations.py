"""Annotation files with odd geometry: the right value, or one line that names file and annotation.

Each of the cases has a small sibling made here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation_worlds import perfect_rows, pycocotools_stats
from PIL import Image
from pycocotools import mask as rle

from partglee.basics.masks import decode, encode_segmentation
from partglee.cli import main
from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.checks.content import validate
from partglee.evaluation import dataset_evaluator
from partglee.evaluation.ground_truth import GroundTruth

SIZE = {"height": 64, "width": 96}
CAR = [{"id": 1, "name": "car"}]


def box(x: float, y: float, w: float, h: float) -> list[list[float]]:
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def annotation(key: int, xywh: tuple[float, float, float, float], **more: Any) -> dict[str, Any]:
    area = xywh[2] * xywh[3]
    entry = {"id": key, "image_id": 1, "category_id": 1, "bbox": list(xywh), "area": area, "segmentation": box(*xywh)}
    return {key: value for key, value in {**entry, **more}.items() if value != "leave out"}


def content(*annotations: dict[str, Any], **image: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "1.png", **(image or SIZE)}],
        "annotations": list(annotations),
        "categories": CAR,
    }


def found(xywh: tuple[float, float, float, float], score: float = 0.9, **more: Any) -> dict[str, Any]:
    row = {"image_id": 1, "category_id": 1, "bbox": list(xywh), "score": score, "segmentation": box(*xywh)}
    return {key: value for key, value in {**row, **more}.items() if value != "leave out"}


def scores(folder: Path, truth: Any, rows: list[dict[str, Any]], key: str, *more: str) -> dict[str, float]:
    """Through the command line, from files."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(rows))
    arguments = ["eval", "--predictions", str(folder / "found.json"), "--annotations", str(folder / "truth.json")]
    assert main([*arguments, "--evaluator", key, "--json", str(folder / "out.json"), *more]) == 0
    results: dict[str, float] = json.loads((folder / "out.json").read_text())["results"]
    return results


def case(cases: Path, name: str) -> tuple[Any, list[dict[str, Any]]]:
    folder = cases / name
    return tuple(json.loads((folder / file).read_text()) for file in ("annotations.json", "pred.json"))  # type: ignore[return-value]


# -- run lengths -----------------------------------------------------------------------------------------------------

SHORT = {"size": [64, 96], "counts": [325, 20, 44, 20]}


@pytest.mark.parametrize("key", ["joint", "coco"])
@pytest.mark.parametrize(
    "mask",
    [
        SHORT,
        {"size": [64, 96], "counts": [5]},
        {"size": [64, 96], "counts": [False, 6144]},
        {"size": [64, 96], "counts": [2**40, 1]},
        {"size": [64, 96], "counts": [-1, 6145]},
        {"size": [64, 96], "counts": "U:d0"},
        {"size": [96, 64], "counts": [6144]},
        {"size": [10**9, 10**9], "counts": [10**18]},
        {"size": [64, 96]},
        {"counts": [6144]},
        "text",
        5,
    ],
)
def test_damaged_run_lengths_name_the_annotation(
    mask: Any, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = content(annotation(7, (5, 5, 30, 20), segmentation=mask), annotation(8, (50, 5, 30, 20)))
    for name, value in (("truth", truth), ("found", [found((50, 5, 30, 20))])):
        (tmp_path / f"{name}.json").write_text(json.dumps(value))
    files = ["--predictions", str(tmp_path / "found.json"), "--annotations", str(tmp_path / "truth.json")]
    assert main(["eval", *files, "--evaluator", key]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "truth.json" in line and ("annotation 7 of image 1" in line or "'id': 7, 'image_id': 1" in line), line
    report = validate(truth)
    assert report.errors.total() == 1 and "annotation 7 of image 1" in report.text()


def test_the_case_of_run_lengths(cases: Path, tmp_path: Path) -> None:
    truth, _ = case(cases, "C01_rle_gt_hang")
    with pytest.raises(ValueError, match="annotation 1 of image 1: its run lengths cover 409 pixels"):
        GroundTruth.from_dict(truth)
    with pytest.raises(ValueError, match="cover 409 pixels, the image has 6144"):
        decode(SHORT, 64, 96)


# -- polygons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("far", [2**31, -(10**20), 5e12, 9_000_000, float("nan"), float("inf"), 10**300, 193, -97])
def test_polygons_far_outside_never_reach_pycocotools(far: float) -> None:
    polygon = [6, far, 16, 5, 16, 15, 6, 15] if far != 193 and far != -97 else [far, 6, 16, 5, 16, 15, 6, 15]
    with pytest.raises(ValueError, match="only polygons"):
        encode_segmentation([polygon], (64, 96), what="it")
    beside = encode_segmentation([polygon, *box(1, 2, 3, 4)], (64, 96), what="it")
    assert rle.area(beside) == 12


def test_polygons_partly_outside_are_cut_off_as_pycocotools_does() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        polygon = (rng.random((int(rng.integers(3, 9)), 2)) * [280, 186] - [92, 61]).ravel().tolist()
        own = encode_segmentation([polygon], (64, 96), what="it")
        assert own == rle.merge(rle.frPyObjects([polygon], 64, 96))


def test_an_outline_without_end_is_refused() -> None:
    across = [[-900.0, 0.0, 1800.0, 1.0] * 20_000]
    with pytest.raises(ValueError, match="outline is longer"):
        encode_segmentation(across, (1000, 1000), what="it")


@pytest.mark.parametrize("key", ["joint", "coco"])
def test_a_two_point_polygon_loses_its_own_mask_alone(key: str, tmp_path: Path) -> None:
    hourglass = [[50, 30, 80, 30, 50, 50, 80, 50]]
    truth = content(
        annotation(1, (5, 5, 30, 20), segmentation=[[5, 5, 35, 25]]),
        annotation(2, (40, 5, 30, 20)),
        annotation(3, (50, 30, 30, 20), segmentation=hourglass),
    )
    rows = [found((5, 5, 30, 20)), found((40, 5, 30, 20)), found((50, 30, 30, 20), segmentation=hourglass)]
    results = scores(tmp_path, truth, rows, key)
    assert results[{"joint": "object/mask/AP", "coco": "segm/AP"}[key]] == pytest.approx(100)
    assert results["issues/annotation without a mask"] == 1
    results = scores(tmp_path, truth, rows[:2], key)  # the one without a mask is neither right nor wrong
    assert results[{"joint": "object/mask/AP", "coco": "segm/AP"}[key]] == pytest.approx(50.495, abs=1e-3)


def test_the_case_of_bad_polygons(cases: Path, tmp_path: Path) -> None:
    truth, rows = case(cases, "C24_bad_polygon_beside_good")
    assert scores(tmp_path, truth, rows, "joint")["object/mask/AP"] == pytest.approx(50.495, abs=1e-3)
    results = scores(tmp_path, truth, rows, "coco")
    assert results["segm/AP"] == pytest.approx(50.495, abs=1e-3) and results["bbox/AP"] == pytest.approx(
        66.337, abs=1e-3
    )


# -- boxes and areas -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["joint", "coco"])
def test_objects_outside_of_the_image_count(key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Width and height are swapped, and half of the objects are found."""
    truth = content(
        annotation(1, (5, 5, 30, 20)), annotation(2, (66, 5, 28, 20)), height=96, width=64
    )  # fmt: skip
    metric = {"joint": "object/box/AP", "coco": "bbox/AP"}[key]
    rows = [found((5, 5, 30, 20))]
    assert scores(tmp_path, truth, rows, key, "--kinds", "bbox")[metric] == pytest.approx(50.495, abs=1e-3)
    assert "1 x boxes outside of their image" in caplog.text
    assert "1 x images whose boxes fit only when height and width are swapped" in caplog.text
    rows.append(found((66, 5, 28, 20)))
    assert scores(tmp_path, truth, rows, key, "--kinds", "bbox")[metric] == pytest.approx(100)


@pytest.mark.parametrize("key", ["joint", "coco"])
def test_the_case_of_swapped_sizes(key: str, cases: Path, tmp_path: Path) -> None:
    results = scores(tmp_path, *case(cases, "C06_swapped_size"), key)
    assert results[{"joint": "object/box/AP", "coco": "bbox/AP"}[key]] == pytest.approx(50.495, abs=1e-3)


@pytest.mark.parametrize("area", [None, float("nan"), "leave out"])
def test_an_area_that_is_not_said_is_that_of_the_mask_or_box(area: Any, tmp_path: Path) -> None:
    second = annotation(2, (0, 0, 90, 60), area=area, segmentation=box(50, 5, 9, 9))
    truth = content(annotation(1, (5, 5, 30, 20), area=area), second)
    assert GroundTruth.from_dict(truth).area.tolist() == [600, 81]
    for entry in truth["annotations"]:
        entry["segmentation"] = None
    assert GroundTruth.from_dict(truth).area.tolist() == [600, 5400]
    results = scores(tmp_path, content(annotation(1, (5, 5, 30, 20), area=area)), [found((5, 5, 30, 20))], "coco")
    assert results["bbox/APs"] == pytest.approx(100) and results["bbox/APm"] is None and results["bbox/APl"] is None


@pytest.mark.parametrize("area", ["600", [600], 10**400, float("inf"), {"a": 1}])
def test_an_area_of_another_type_is_refused(area: Any) -> None:
    with pytest.raises(ValueError, match="annotation 4 of image 1: area must be a number"):
        GroundTruth.from_dict(content(annotation(4, (5, 5, 30, 20), area=area)))


def test_the_case_of_areas(cases: Path, tmp_path: Path) -> None:
    results = scores(tmp_path, *case(cases, "C21_area_null"), "coco")
    assert results["bbox/APs"] == pytest.approx(50.495, abs=1e-3)
    assert results["bbox/APm"] is None and results["bbox/APl"] is None


# -- what a file does not say ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["joint", "coco"])
def test_an_image_without_a_size(key: str, tmp_path: Path) -> None:
    """Boxes are scored without; masks too where the image is there, or run lengths say the size."""
    truth = content(annotation(1, (5, 5, 30, 20)), note="no size")
    rows = [found((5, 5, 30, 20))]
    boxes, masks = {"joint": ("object/box/AP", "object/mask/AP"), "coco": ("bbox/AP", "segm/AP")}[key]
    assert scores(tmp_path, truth, rows, key, "--kinds", "bbox")[boxes] == pytest.approx(100)
    results = scores(tmp_path, truth, [found((5, 5, 30, 20), segmentation="leave out")], key)
    assert results[boxes] == pytest.approx(100) and masks not in results
    Image.new("RGB", (96, 64)).save(tmp_path / "1.png")
    truth["images"][0]["file_name"] = str(tmp_path / "1.png")
    results = scores(tmp_path, truth, rows, key)
    assert results[boxes] == pytest.approx(100) and results[masks] == pytest.approx(100)


@pytest.mark.parametrize("key", ["joint", "coco"])
def test_the_case_of_missing_sizes(key: str, cases: Path, tmp_path: Path) -> None:
    results = scores(tmp_path, *case(cases, "C22_no_size"), key, "--kinds", "bbox")
    assert results[{"joint": "object/box/AP", "coco": "bbox/AP"}[key]] == pytest.approx(100)


@pytest.mark.parametrize("key", ["joint", "coco"])
def test_masks_without_boxes_and_boxes_without_masks(key: str, tmp_path: Path) -> None:
    truth = content(annotation(1, (5, 5, 30, 20), bbox="leave out"), annotation(2, (50, 5, 30, 20), segmentation=[]))
    results = scores(tmp_path, truth, [found((5, 5, 30, 20)), found((50, 5, 30, 20))], key)
    for metric in {"joint": ("object/box/AP", "object/mask/AP"), "coco": ("bbox/AP", "segm/AP")}[key]:
        assert results[metric] == pytest.approx(100), metric


def test_the_case_of_missing_boxes(cases: Path, tmp_path: Path) -> None:
    truth, rows = case(cases, "C23_masks_without_boxes")
    assert scores(tmp_path, truth, rows, "joint")["object/mask/AP"] == pytest.approx(100)
    assert scores(tmp_path, truth, rows, "coco", "--kinds", "segm")["segm/AP"] == pytest.approx(100)


# -- damaged files ---------------------------------------------------------------------------------------------------

DAMAGED = [
    "coco_segv_1.json", "coco_segv_2.json", "data_check_cli_CRASH_112.bin", "eval_ground_truth_CRASH_15.bin",
    "eval_ground_truth_CRASH_41.bin", "eval_ground_truth_CRASH_54.bin", "eval_ground_truth_SIGNAL_0.bin",
    "segv_annotations.json", "short_rle_annotations.json", "big_int.json",
]  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_ends_in_a_result_or_one_line(
    name: str, cases: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = cases / "damaged" / name
    (tmp_path / "truth.json").write_bytes(file.read_bytes())
    (tmp_path / "found.json").write_text("[]")
    truth = str(tmp_path / "truth.json")
    for key in ("joint", "coco", "lvis", "hierarchical"):
        arguments = ["eval", "--predictions", str(tmp_path / "found.json"), "--annotations", truth, "--evaluator", key]
        status = main(arguments)
        said = capsys.readouterr().err.strip().splitlines()
        assert status in (0, 2) and "Traceback" not in "".join(said)
        assert status == 0 or said[-1].startswith("partglee: "), said
    assert main(["data", "check", truth, "--no-draw"]) in (0, 1, 2)


# -- pycocotools as the oracle ---------------------------------------------------------------------------------------


def random_file(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Boxes and polygons within, over the edge of and outside of small images, crowds too, and noisy answers."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.png", **SIZE} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "car"}, {"id": 4, "name": "dog"}],
        "annotations": [],
    }
    rows = []
    for number in range(24):
        x, y = np.round(rng.uniform([-40, -30], [105, 70]), 2).tolist()
        w, h = np.round(rng.uniform(3, 45, 2), 2).tolist()
        shape = [(x, y), (x + w, y), (x + w, y + h), (x + w / 3, y + h / 2), (x, y + h)]
        polygon = [round(value, 2) for point in shape for value in point]
        image, category = int(rng.integers(1, 4)), int(rng.choice([1, 4]))
        entry = {"image_id": image, "category_id": category, "bbox": [x, y, w, h], "segmentation": [polygon]}
        truth["annotations"].append({**entry, "id": number + 1, "area": w * h, "iscrowd": int(rng.random() < 0.1)})
        dx, dy = np.round(rng.normal(0, 2, 2), 2).tolist()
        moved = [round(value + (dx, dy)[place % 2], 2) for place, value in enumerate(polygon)]
        mask = rle.merge(rle.frPyObjects([moved], 64, 96))
        mask = {"size": mask["size"], "counts": mask["counts"].decode()}
        if rng.random() < 0.8:
            answer = {**entry, "bbox": [x + dx, y + dy, w, h], "segmentation": mask}
            rows.append({**answer, "score": round(float(rng.random()), 3)})
    return truth, rows


@pytest.mark.parametrize("seed", range(12))
def test_random_files_beside_pycocotools(seed: int, tmp_path: Path) -> None:
    truth, rows = random_file(seed)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    spec = DatasetSpec(
        name="random", annotations=str(tmp_path / "truth.json"), images=str(tmp_path), reader=read_coco
    )  # fmt: skip
    records = spec.read()
    evaluators = {key: dataset_evaluator(spec, records, key=key, by_label=False) for key in ("joint", "coco")}
    for answers in (rows, perfect_rows(evaluators["coco"].ground_truth)):
        results: dict[str, dict[str, float]] = {}
        for key, evaluator in evaluators.items():
            evaluator.reset()
            for image in (1, 2, 3):
                evaluator.process(image, [row for row in answers if row["image_id"] == image])
            results[key] = evaluator.evaluate()
        for kind, shown in (("bbox", "box"), ("segm", "mask")):
            oracle = pycocotools_stats(truth, answers, kind)
            for place, metric in enumerate(("AP", "AP50", "AP75")):
                assert results["coco"][f"{kind}/{metric}"] == pytest.approx(100 * oracle[place], abs=1e-6), kind
                assert results["joint"][f"object/{shown}/{metric}"] == pytest.approx(100 * oracle[place], abs=1e-6), (
                    kind
                )
    assert results["joint"]["object/box/AP"] == pytest.approx(100)
