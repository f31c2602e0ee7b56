"""Annotations that would stop a run in the middle stop it before the first step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fvcore.common.config import CfgNode as CN
from PIL import Image

from partglee.config import get_cfg
from partglee.data import get_dataset
from partglee.data.build import register_custom
from partglee.data.prepare.refer import main as refcoco_main
from partglee.engine.preflight import check_data
from partglee.evaluation.protocols import metric_names
from partglee.testing import register_toy
from partglee.testing.miniatures import MINIATURES


@pytest.fixture(autouse=True, scope="module")
def toy() -> None:
    register_toy("toy_metrics", num_images=2)


def referring(folder: Path, expressions: list[Any], **fields: Any) -> CN:
    """One image for each entry: two objects, the second a crowd where the entry says so."""
    boxes = [[0, 0, 4, 4], [4, 4, 4, 4]]
    images = [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 8} for i in range(len(expressions))]
    for image, said in zip(images, expressions, strict=True):
        if said is not None:
            image["expressions"] = said
    annotations = [
        {"id": 2 * i + k + 1, "image_id": i, "category_id": 1, "bbox": boxes[k], "iscrowd": k}
        for i in range(len(images))
        for k in range(2)
    ]
    for image in images:
        Image.new("RGB", (8, 8)).save(folder / str(image["file_name"]))
    file = folder / "file.json"
    categories = [{"id": 1, "name": "object"}]
    file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    cfg = get_cfg()
    cfg.DATASETS.CUSTOM = [{"NAME": "said", "ANNOTATIONS": str(file), "IMAGES": str(folder), **fields}]
    register_custom(cfg)
    return cfg


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        ([[["a"], ["b"]], [["a"]]], "'said': image 1 has expressions for 1 objects but 2 objects"),
        ([[["a"], []], "the left one"], "'said': image 1: expressions must be a list of sentences.*the left one"),
        ([[["a"], []], [["b"], [3]]], "'said': image 1: expressions must be"),
        ([[["a"], []], [["b"], [" "]]], "'said': image 1: expressions must be"),
    ],
)
def test_expressions_that_do_not_fit_their_objects(tmp_path: Path, expressions: list[Any], message: str) -> None:
    cfg = referring(tmp_path, expressions)
    cfg.DATASETS.TRAIN = ["said"]
    with pytest.raises(ValueError, match=message):
        check_data(cfg)


def test_expressions_that_fit(tmp_path: Path) -> None:
    cfg = referring(tmp_path, [[["a"], []], [["b", "c"], ["d"]]], EVALUATOR="referring")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST, cfg.TEST.BEST = ["said"], ["said"], "said/box/P@0.5"
    check_data(cfg)
    # Images without a sentence are legal, as are sentences that mean a crowd.
    for last in (None, [[], ["the crowd"]]):
        cfg = referring(tmp_path, [[["a"], []], last], EVALUATOR="referring")
        cfg.DATASETS.TRAIN = ["said"]
        check_data(cfg)
    cfg.DATASETS.TRAIN = []
    cfg.DATASETS.TEST = ["said"]
    check_data(cfg)
    check_data(cfg, train=False)


def test_images_to_evaluate_must_be_there(tmp_path: Path) -> None:
    register_toy("toy_lost_image", num_images=3, folder=tmp_path)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ["toy_lost_image"]
    check_data(cfg)
    victim = sorted(path for path in tmp_path.rglob("*") if path.suffix in (".jpg", ".png"))[1]
    victim.unlink()
    with pytest.raises(ValueError, match=rf"'toy_lost_image'.* 1 of its 3 images .*{victim.name}"):
        check_data(cfg, train=False)
    cfg.DATASETS.TEST = []
    check_data(cfg)  # training goes on without it


def test_a_data_set_that_its_evaluator_cannot_score(tmp_path: Path) -> None:
    cfg = referring(tmp_path, [None, None], EVALUATOR="referring")
    cfg.DATASETS.TEST = ["said"]
    with pytest.raises(ValueError, match=r"'said' is scored by 'referring' but has no referring expressions"):
        check_data(cfg)
    cfg = referring(tmp_path, [None, None], EVALUATOR="cocoo")
    cfg.DATASETS.TEST = ["said"]
    with pytest.raises(ValueError, match=r"no evaluator 'cocoo'.*'coco'"):
        check_data(cfg)


@pytest.mark.parametrize(
    ("best", "near"),
    [
        ("toy_metrics/part/mask/AP5O", "did you mean .*'toy_metrics/part/mask/AP50'"),
        ("toy_metrics/parts/mask/AP", "did you mean 'toy_metrics/part/mask/AP'"),
        ("toy_metrics/nonsense", r"there are toy_metrics/object/box/AP, .*hierarchy"),
    ],
)
def test_a_wrong_metric_names_the_nearest(best: str, near: str) -> None:
    cfg = get_cfg()
    cfg.DATASETS.TEST, cfg.TEST.BEST = ["toy_metrics"], best
    with pytest.raises(ValueError, match=f"TEST.BEST '{best}' is no metric of its data set.*{near}"):
        check_data(cfg)
    check_data(cfg, train=False)  # evaluation alone keeps no best weights
    cfg.TEST.BEST = "toy_metrics/hierarchy/mask/hAP50"
    check_data(cfg)


@pytest.mark.parametrize(
    ("miniature", "dataset", "wanted"),
    [
        ("refcoco", "refcoco-unc-val", ("box/P@0.5", "mask/oIoU")),
        ("pascal_part_116", "voc_obj_part_sem_seg_val", ("B/hIoU",)),
        ("paco_lvis", "paco_lvis_v1_val", ("segm/AP", "segm/APopart")),
    ],
)
def test_metrics_of_every_kind_of_evaluation(
    miniature: str, dataset: str, wanted: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(tmp_path))
    MINIATURES[miniature](tmp_path, num_images=2, seed=0)
    if miniature == "refcoco":
        assert refcoco_main([]) == 0
    spec = get_dataset(dataset)
    assert set(wanted) <= set(metric_names(spec, spec.read()))
