"""Weights that training starts from."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from training_samples import small_config

from partglee.engine.build import build_initial_model
from partglee.engine.partglee_recipe import load_weights
from partglee.engine.weights import load_backbone
from partglee.modeling.build import build_backbone


def test_the_shared_backbone_gives_timms_features(shared: Path, tmp_path: Path) -> None:
    """ImageNet MobileNetV2 through our loader and through timm's own classifier."""
    from partglee.config import load_config

    file = shared / "data" / "weights" / "mobilenetv2_100_imagenet_fp16.safetensors"
    backbone = build_backbone(load_config("tiny")).eval()
    report = load_backbone(backbone, str(file))
    assert report.complete and not report.unexpected and not report.missing
    classifier = timm.create_model("mobilenetv2_100", pad_type="same").eval()
    from partglee.checkpoint import read_weights

    state = {k: v.float() for k, v in read_weights(file).items()}
    missing, unexpected = classifier.load_state_dict(state, strict=False)
    assert not unexpected and all(k.startswith("classifier.") or "num_batches" in k for k in missing)
    images = torch.rand(1, 3, 96, 128) * 2 - 1
    with torch.no_grad():
        expected = classifier.forward_intermediates(images, indices=(1, 2, 3, 4), intermediates_only=True)
        for ours, theirs in zip(backbone(images), expected, strict=True):
            assert ours.abs().max() > 0.1
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def classifier_file(folder: Path, drop: str = "", add: str = "") -> str:
    state = dict(timm.create_model("test_efficientnet", pad_type="same").state_dict())
    state = {k: v.clone() for k, v in state.items() if not (drop and k.startswith(drop))}
    if add:
        state[add] = torch.zeros(1)
    save_file(state, folder / "classifier.safetensors")
    return str(folder / "classifier.safetensors")


def test_a_classifier_of_timm_loads(tmp_path: Path) -> None:
    cfg = small_config(tmp_path)
    backbone = build_backbone(cfg)
    report = load_backbone(backbone, classifier_file(tmp_path, add="strange.weight"))
    assert report.complete and report.unexpected == ("strange.weight",)
    assert "unexpected 1: strange.weight" in str(report)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    cfg = small_config(tmp_path, ["MODEL.BACKBONE.WEIGHTS", classifier_file(tmp_path, drop="blocks.0.0.conv")])
    with pytest.raises(ValueError, match=r"missing .*blocks\.0\.0\.conv"):
        build_initial_model(cfg)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for key in ("MODEL.BACKBONE.WEIGHTS", "MODEL.WEIGHTS"):
        with pytest.raises(ValueError, match=r"nowhere\.safetensors"):
            build_initial_model(small_config(tmp_path, [key, "nowhere.safetensors"]))


def test_initial_weights_may_be_of_part_of_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = build_initial_model(small_config(tmp_path, ["SOLVER.SEED", 5]))
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("qformer.")}
    save_file(state, tmp_path / "some.safetensors")
    cfg = small_config(tmp_path, ["MODEL.WEIGHTS", tmp_path / "some.safetensors"])
    logging.getLogger("partglee").propagate = True
    with caplog.at_level(logging.INFO, logger="partglee"):
        loaded = build_initial_model(cfg).state_dict()
    assert "missing" in caplog.text and "qformer" in caplog.text
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
    with pytest.raises(ValueError, match=r"missing .*qformer"):
        build_initial_model(cfg, complete=True)
    save_file({"other.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"no tensor of MODEL\.WEIGHTS fits"):
        build_initial_model(small_config(tmp_path, ["MODEL.WEIGHTS", tmp_path / "other.safetensors"]))


@pytest.mark.parametrize(("backend", "warned"), [("clip", True), ("table", False)])
def test_a_text_tower_without_weights_is_told(
    tmp_path: Path, backend: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("partglee").propagate = True
    load_weights(small_config(tmp_path, ["MODEL.TEXT.BACKEND", backend]), torch.nn.Identity())
    assert ("the frozen text tower is random" in caplog.text) == warned
