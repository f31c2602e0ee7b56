"""Weights through DetectionCheckpointer: all or an error; and back."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model, build_resnet_backbone
from detectron2.utils.file_io import PathManager

from partglee.checkpoint import read_weights, write_weights
from partglee.cli import main
from partglee.engine.pretrained import load_pretrained
from partglee.engine.weights import load_backbone
from partglee.integrations.detectron2 import add_partglee_config
from partglee.modeling.backbone import build_timm_backbone
from partglee.testing import fill_weights


def equal(model: Any, weights: dict[str, torch.Tensor]) -> bool:
    own = model.model.state_dict()
    return all(torch.equal(own[key], value.to(own[key].dtype)) for key, value in weights.items() if key in own)


def spoiled(model: Any) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    return model


def test_safetensors_fill_everything(cfg: Any, tiny_weights: Path) -> None:
    model = spoiled(build_model(cfg))
    DetectionCheckpointer(model).load(str(tiny_weights))
    weights = read_weights(tiny_weights)
    assert weights.keys() == model.model.state_dict().keys() and equal(model, weights)


@pytest.mark.parametrize("name", ["partglee-tiny", "partglee://partglee-tiny"])
def test_names_of_the_zoo(name: str, catalogs: None) -> None:
    cfg = get_cfg()
    add_partglee_config(cfg, weights=name, vocabulary="car: wheel")
    cfg.MODEL.DEVICE = "cpu"
    model = spoiled(build_model(cfg))
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    expected, own = load_pretrained("partglee-tiny", device="cpu")
    assert equal(model, expected.state_dict())
    assert (own.INPUT.TEST.SHORT_SIDE, own.INPUT.TEST.MAX_SIDE) == (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)


def test_paths_that_begin_like_a_name_are_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    PathManager.mkdirs("partglee-tiny_run")
    with PathManager.open("partglee-tiny_run/note.txt", "w") as stream:
        stream.write("x")
    assert PathManager.isfile("partglee-tiny_run/note.txt") and (tmp_path / "partglee-tiny_run" / "note.txt").is_file()


def test_saved_loaded_and_converted_back(cfg: Any, tiny_weights: Path, tmp_path: Path) -> None:
    MetadataCatalog.get("pets").thing_classes = ["dog", "cat"]
    cfg.DATASETS.TRAIN = ("pets",)
    model = build_model(cfg)
    fill_weights(model.model)
    DetectionCheckpointer(model, str(tmp_path)).save("model_final")
    file = tmp_path / "model_final.pth"

    cfg.MODEL.WEIGHTS = str(file)  # says its configuration
    again = spoiled(build_model(cfg))
    DetectionCheckpointer(again).load(str(file))
    assert equal(again, model.model.state_dict())

    out = tmp_path / "ours.safetensors"
    assert main(["convert", "--from", "detectron2", str(file), str(out)]) == 0
    read, own = load_pretrained(out, device="cpu")
    assert own.INPUT.TEST.SHORT_SIDE == 96
    written = read.state_dict()
    assert all(torch.equal(written[key], value) for key, value in model.model.state_dict().items())

    wrapped = torch.nn.ModuleDict({"inner": spoiled(build_model(cfg))})
    wrapped.load_state_dict({f"inner.{key}": value for key, value in model.state_dict().items()})
    assert equal(wrapped["inner"], model.model.state_dict())


def test_a_list_that_changed_is_an_error(cfg: Any, tmp_path: Path) -> None:
    MetadataCatalog.get("pets").thing_classes = ["dog", "cat", "person"]
    cfg.DATASETS.TRAIN = ("pets",)
    DetectionCheckpointer(build_model(cfg), str(tmp_path)).save("before")
    MetadataCatalog.remove("pets")
    MetadataCatalog.get("pets").thing_classes = ["dog", "person", "cat"]
    model = build_model(cfg)
    with pytest.raises(ValueError, match=r"classes of 'pets' changed since.*class 1 is 'cat' in one and 'person' in"):
        DetectionCheckpointer(model).load(str(tmp_path / "before.pth"))
    MetadataCatalog.get("pets2").thing_classes = ["dog", "person", "cat"]
    cfg.DATASETS.TRAIN = ("pets2",)
    DetectionCheckpointer(build_model(cfg)).load(str(tmp_path / "before.pth"))  # another set


def test_all_or_an_error(cfg: Any, tiny_weights: Path, tmp_path: Path) -> None:
    model = build_model(cfg)
    before = {key: value.clone() for key, value in model.model.state_dict().items()}
    weights = read_weights(tiny_weights)
    write_weights({"a.b": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"loaded 0 of \d+ tensors[\s\S]*No key fits"):
        DetectionCheckpointer(model).load(str(tmp_path / "other.safetensors"))
    less = {key: value for key, value in weights.items() if not key.startswith("qformer.")}
    write_weights(less, tmp_path / "less.safetensors")
    with pytest.raises(ValueError, match=r"missing \d+: .*qformer"):
        DetectionCheckpointer(model).load(str(tmp_path / "less.safetensors"))
    torch.save(
        {"model": {f"model.{key}": value.flatten().repeat(2) for key, value in weights.items()}}, tmp_path / "cut.pth"
    )
    with pytest.raises(ValueError, match="missing"):
        DetectionCheckpointer(model).load(str(tmp_path / "cut.pth"))
    damaged = {**weights, "qformer.content": weights["qformer.content"] * torch.nan}
    write_weights(damaged, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match="NaN or infinite"):
        DetectionCheckpointer(model).load(str(tmp_path / "nan.safetensors"))
    after = model.model.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def resnet_cfg(stride_in_1x1: bool) -> Any:
    cfg = get_cfg()
    cfg.MODEL.RESNETS.STRIDE_IN_1X1 = stride_in_1x1
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    return cfg


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """detectron2's own ResNet-50, and a file of its model zoo's layout with the same weights."""
    backbone = build_resnet_backbone(resnet_cfg(False), ShapeSpec(channels=3)).eval()
    fill_weights(backbone)
    arrays = {key: value.numpy() for key, value in backbone.state_dict().items()}
    file = tmp_path_factory.mktemp("zoo") / "R-50.pkl"
    file.write_bytes(pickle.dumps({"model": arrays, "__author__": "torchvision", "matching_heuristics": True}))
    return backbone, file


def test_resnet50_of_detectron2_is_ours_after_conversion(resnet: tuple[Any, Path]) -> None:
    theirs, file = resnet
    ours = build_timm_backbone("resnet50", frozen_norm=True).eval()
    load_backbone(ours, str(file))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for name, found in zip(("res2", "res3", "res4", "res5"), ours(image), strict=True):
            expected = theirs(image)[name]
            assert (found - expected).abs().max() < 1e-5 * max(1.0, float(expected.abs().max())), name
        other = build_resnet_backbone(resnet_cfg(True), ShapeSpec(channels=3)).eval()
        other.load_state_dict(theirs.state_dict())
        assert (other(image)["res5"] - expected).abs().max() > 0.01 * expected.abs().max()  # why those are refused


def test_a_backbone_to_start_from(resnet: tuple[Any, Path], catalogs: None, table: Path) -> None:
    cfg = get_cfg()
    add_partglee_config(cfg, vocabulary="dog: head")
    cfg.MODEL.DEVICE, cfg.MODEL.WEIGHTS = "cpu", ""
    cfg.MODEL.PARTGLEE.CONFIG = "joint_r50"
    cfg.MODEL.PARTGLEE.OVERRIDES = [
        "MODEL.TEXT.BACKEND", "table", "MODEL.TEXT.MODE", "frozen", "MODEL.TEXT.TABLE.FILE", str(table),
        "MODEL.FFN_DIM", 32, "MODEL.BACKBONE.WEIGHTS", str(resnet[1]),
    ]  # fmt: skip
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    assert torch.equal(model.model.backbone.body.conv1.weight, resnet[0].state_dict()["stem.conv1.weight"])
    cfg.MODEL.WEIGHTS = str(resnet[1])
    with pytest.raises(ValueError, match=r"of it a ResNet alone can be used: .*MODEL.PARTGLEE.OVERRIDES"):
        build_model(cfg)
