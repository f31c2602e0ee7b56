"""detectron2's evaluators: their own values of the golden files, and ours the same; LVIS through the model."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader
from detectron2.data.datasets import register_coco_instances, register_lvis_instances
from detectron2.evaluation import COCOEvaluator, LVISEvaluator, inference_on_dataset
from detectron2.structures import Boxes, Instances
from pycocotools import mask as rle

from partglee.evaluation import CocoEvaluator, LvisEvaluator, score_file
from partglee.integrations.detectron2 import HierarchyMapper, PartGLEE, classes_of_metadata
from partglee.testing import write_name_table
from partglee.testing.miniatures import MINIATURES


@pytest.fixture(scope="module")
def golden(shared: Path) -> Path:
    return shared / "golden" / "plugin"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sets")
    for name in ("coco", "lvis"):
        MINIATURES[name](folder, num_images=8, seed=3)
    return folder


def replay(rows: list[dict[str, Any]], image_ids: list[int], ids: dict[int, int]) -> Any:
    """(input, output) of an evaluator for the images of COCO results."""
    for image_id in image_ids:
        own = [row for row in rows if row["image_id"] == image_id]
        found = Instances((48, 64))
        boxes = torch.tensor([row["bbox"] for row in own]).reshape(-1, 4)
        found.pred_boxes = Boxes(torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1))
        found.scores = torch.tensor([row["score"] for row in own])
        found.pred_classes = torch.tensor([ids[row["category_id"]] for row in own], dtype=torch.long)
        masks = [torch.tensor(rle.decode(row["segmentation"])).bool() for row in own]
        found.pred_masks = torch.stack(masks) if masks else torch.zeros(0, 48, 64, dtype=torch.bool)
        yield [{"image_id": image_id, "file_name": "", "height": 48, "width": 64}], [{"instances": found}]


def evaluated(evaluator: Any, rows: list[dict[str, Any]], truth: Path, ids: dict[int, int]) -> dict[str, Any]:
    image_ids = [entry["id"] for entry in json.loads(truth.read_text(encoding="utf-8"))["images"]]
    evaluator.reset()
    for inputs, outputs in replay(rows, image_ids, ids):
        evaluator.process(inputs, outputs)
    return dict(evaluator.evaluate())


def same(found: float, expected: float) -> bool:
    undefined = math.isnan(expected) or expected == -100
    return (math.isnan(found) or found == -100) if undefined else abs(found - expected) < 1e-6


def test_coco(golden: Path, root: Path, tmp_path: Path, catalogs: None) -> None:
    truth = root / "coco" / "annotations" / "instances_val2017.json"
    register_coco_instances("golden_coco", {}, str(truth), str(root))
    evaluator = COCOEvaluator("golden_coco", ("bbox", "segm"), False, output_dir=str(tmp_path), use_fast_impl=False)
    rows = json.loads((golden / "coco_2017_val.json").read_text(encoding="utf-8"))
    ids = {key: place for place, key in enumerate(sorted(c["id"] for c in json.loads(truth.read_text())["categories"]))}
    DatasetCatalog.get("golden_coco")  # sets the metadata
    assert MetadataCatalog.get("golden_coco").thing_dataset_id_to_contiguous_id == ids
    theirs = evaluated(evaluator, rows, truth, ids)
    wanted = json.loads((golden / "numbers.json").read_text(encoding="utf-8"))["coco"]
    ours = score_file(golden / "coco_2017_val.json", CocoEvaluator(ground_truth=truth, kinds=("bbox", "segm")))
    for kind, table in wanted.items():
        assert len(table) == len(theirs[kind]) == 86
        for name, value in table.items():
            assert same(theirs[kind][name], value), (kind, name)
            assert f"{kind}/{name}" not in ours or same(ours[f"{kind}/{name}"], value), (kind, name)


def test_lvis(golden: Path, root: Path, tmp_path: Path, catalogs: None) -> None:
    truth = root / "lvis" / "lvis_v1_val.json"
    # The names of LVIS v1 are known to detectron2 by the name of the set.
    DatasetCatalog.remove("lvis_v1_val")
    listed = MetadataCatalog.get("lvis_v1_val")
    register_lvis_instances("golden_lvis", {}, str(truth), str(root))
    MetadataCatalog.get("golden_lvis").thing_classes = listed.thing_classes
    evaluator = LVISEvaluator("golden_lvis", ("bbox", "segm"), False, output_dir=str(tmp_path))
    rows = json.loads((golden / "lvis_v1_val.json").read_text(encoding="utf-8"))
    theirs = evaluated(evaluator, rows, truth, {key: key - 1 for key in range(1, 1204)})
    wanted = json.loads((golden / "numbers.json").read_text(encoding="utf-8"))["lvis"]
    ours = score_file(golden / "lvis_v1_val.json", LvisEvaluator(ground_truth=truth, kinds=("bbox", "segm")))
    for kind, table in wanted.items():
        for name, value in table.items():
            assert same(theirs[kind][name], value) and same(ours[f"{kind}/{name}"], value), (kind, name)


@pytest.mark.parametrize("which", ["coco", "lvis"])
def test_a_model_scored_by_both(root: Path, tmp_path: Path, catalogs: None, which: str) -> None:
    """What our meta-architecture answers: their evaluator's numbers are ours on the file that it wrote."""
    from partglee.testing import tiny_model

    truth = root / ("coco/annotations/instances_val2017.json" if which == "coco" else "lvis/lvis_v1_val.json")
    content = json.loads(truth.read_text(encoding="utf-8"))
    for image in content["images"]:  # where pictures lie
        image["file_name"] = "/".join(image["coco_url"].split("/")[-2:])
    edited = tmp_path / "truth.json"
    edited.write_text(json.dumps(content), encoding="utf-8")
    name = "seen" if which == "coco" else "lvis_v1_seen"  # by which it knows the names of LVIS
    registered = register_coco_instances if which == "coco" else register_lvis_instances
    registered(name, {}, str(edited), f"{root}/coco/")
    DatasetCatalog.get(name)  # sets the metadata
    names = MetadataCatalog.get(name).thing_classes
    table = write_name_table(tmp_path / "names.npz", names)
    options = {"score_threshold": 0.0}
    from partglee.modeling import PostprocessOptions

    model = PartGLEE(
        model=tiny_model(table=table),
        classes=classes_of_metadata(MetadataCatalog.get(name)),
        options=PostprocessOptions(**options),
    ).eval()
    mapper = HierarchyMapper(is_train=False, augmentations=[], image_format="RGB")
    loader = build_detection_test_loader(DatasetCatalog.get(name), mapper=mapper)
    if which == "coco":
        evaluator = COCOEvaluator(name, ("bbox", "segm"), False, output_dir=str(tmp_path), use_fast_impl=False)
        ours: Any = CocoEvaluator(ground_truth=edited, kinds=("bbox", "segm"))
    else:
        evaluator = LVISEvaluator(name, ("bbox", "segm"), False, output_dir=str(tmp_path))
        ours = LvisEvaluator(ground_truth=edited, kinds=("bbox", "segm"))
    with contextlib.redirect_stdout(None):
        theirs = inference_on_dataset(model, loader, evaluator)
    (file,) = tmp_path.glob("*_instances_results.json")
    found = score_file(file, ours)
    compared = [(kind, name) for kind in theirs for name in theirs[kind] if f"{kind}/{name}" in found]
    assert len(compared) >= 12
    for kind, name in compared:
        assert same(found[f"{kind}/{name}"], theirs[kind][name]), (kind, name)
