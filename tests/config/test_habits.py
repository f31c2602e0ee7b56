"""What people type who come from elsewhere."""

from __future__ import annotations

import re

import pytest

from partglee.config import get_cfg, load_config
from partglee.config.habits import _SAME_AS, file_hint
from partglee.config.values import leaves
from partglee.engine.weight_files import find_weights
from partglee.engine.weights import load_backbone
from partglee.modeling.backbone import build_timm_backbone


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("SOLVER.IMS_PER_BATCH", "here it is SOLVER.BATCH_SIZE"),
        ("MODEL.ROI_HEADS.NUM_CLASSES", "not needed: the names of the data sets are the classes"),
        ("MODEL.DEVICE", "`--num-gpus 0` is the CPU"),
        ("TEST.EVAL_PERIOD", "here it is TEST.PERIOD"),
    ],
)
def test_keys_of_detectron2(key: str, answer: str) -> None:
    with pytest.raises(ValueError, match=re.escape(answer)):
        load_config("toy", [key, "2"])


def test_answers_name_keys_that_are_there() -> None:
    known = {key for key, _ in leaves(get_cfg())}
    for key, answer in _SAME_AS.items():
        assert answer.split()[0].rstrip(",") in known, answer
        assert key not in known, f"{key} is ours"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "com/detectron2/ImageNetPretrained/MSRA/R-50.pkl"),
        ("https://example.org/a.pth", "is an address, and nothing is downloaded here"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_3x.yaml", "model zoo, whose detectors fit no model here"),
        ("mask_rcnn_R_50_FPN_3x", "model zoo"),
        ("timm/resnet50.a1_in1k", "MODEL.BACKBONE.NAME is resnet50"),
        ("hf-hub:timm/resnet50.a1_in1k", "MODEL.BACKBONE.NAME is resnet50"),
        ("facebook/detr-resnet-50", "looks like a name of a hub"),
    ],
)  # fmt: skip
def test_names_of_other_zoos(name: str, answer: str) -> None:
    for asked in (find_weights, load_config):
        with pytest.raises(ValueError, match=re.escape(answer)):
            asked(name)
    with pytest.raises(ValueError, match=re.escape(answer)):
        load_backbone(None, name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["joint_r50", "eval/coco_r50", "weights/mine.safetensors", "a.yaml", "partglee-tiny"])
def test_names_of_ours_are_no_habit(name: str) -> None:
    assert file_hint(name) is None or name == "eval/coco_r50"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("swin_t", "swin_tiny_patch4_window7_224"), ("build_resnet_fpn_backbone", "resnet50"), ("R-101", "resnet101"),
        ("resnet-50", "resnet50"), ("convnext_tinny", "convnext_tiny"), ("mobilenetv2_10", "mobilenetv2_100"),
        ("swin_large_patch4_window12", "swin_large_patch4_window12_384"),
    ],
)  # fmt: skip
def test_the_nearest_backbones_come_first(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"timm has no model '{name}'; nearest: {near}[,.]"):
        build_timm_backbone(name)
