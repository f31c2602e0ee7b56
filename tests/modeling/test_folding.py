"""Backbones whose constant norms became part of their convolutions: the same answers, whatever the architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from partglee import Predictor
from partglee.engine.pretrained import load_pretrained
from partglee.modeling.backbone import Backbone, build_timm_backbone
from partglee.modeling.folding import fold_norms


def lively(name: str, *, frozen: bool, **options: object) -> Backbone:
    """With norms that do something."""
    torch.manual_seed(1)
    made = build_timm_backbone(name, frozen_norm=frozen, options=dict(options)).eval()
    for module in made.modules():
        if isinstance(getattr(module, "running_mean", None), torch.Tensor):
            module.running_mean.uniform_(-0.2, 0.2)  # type: ignore[operator, union-attr]
            module.running_var.uniform_(0.5, 1.5)  # type: ignore[operator, union-attr]
            module.weight.detach().uniform_(0.7, 1.3)  # type: ignore[operator, union-attr]
            module.bias.detach().uniform_(-0.1, 0.1)  # type: ignore[operator, union-attr]
    return made


def norms(backbone: nn.Module) -> int:
    return sum(isinstance(getattr(module, "running_mean", None), torch.Tensor) for module in backbone.modules())


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [("resnet18", {}), ("mobilenetv2_050", {"pad_type": "same"}), ("mobilenetv3_small_050", {}), ("regnetx_002", {})],
)
def test_the_same_answers_without_norms(name: str, options: dict[str, object], frozen: bool) -> None:
    backbone = lively(name, frozen=frozen, **options)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    made, image = fold_norms(backbone), torch.randn(2, 3, 64, 96)
    assert made is not backbone and norms(backbone) > 10 and norms(made) == 0
    with torch.no_grad():
        for ours, theirs in zip(made(image), backbone(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["densenet121", "resnetv2_50"])
def test_norms_before_their_convolutions(name: str) -> None:
    """Of another layout: whatever can be done, the answers stay."""
    backbone, image = lively(name, frozen=True), torch.randn(1, 3, 64, 64)
    made = fold_norms(backbone)
    with torch.no_grad():
        for ours, theirs in zip(made(image), backbone(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_without_norms_nothing_is_done() -> None:
    backbone = build_timm_backbone("convnext_femto")
    assert fold_norms(backbone) is backbone


def test_a_norm_that_does_not_belong_is_told_by_the_answers() -> None:
    backbone = lively("resnet18", frozen=True)
    first, second = backbone.body.layer1[0].bn1, backbone.body.layer1[0].bn2
    backbone.body.layer1[0].bn1, backbone.body.layer1[0].bn2 = nn.Identity(), nn.Sequential(second, nn.ReLU(), first)
    assert isinstance(fold_norms(backbone), Backbone)
    with torch.no_grad():
        for ours, theirs in zip(
            fold_norms(backbone)(torch.ones(1, 3, 64, 64)), backbone(torch.ones(1, 3, 64, 64)), strict=True
        ):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_predictor_from_weights_has_no_norms_and_a_model_of_ones_own_keeps_them() -> None:
    model, cfg = load_pretrained("partglee-tiny", device="cpu")
    sizes = {"short_side": cfg.INPUT.TEST.SHORT_SIDE, "max_side": cfg.INPUT.TEST.MAX_SIDE}
    plain, quick = (
        Predictor(model=model, mask_box=cfg.TEST.MASK_BOX, **sizes),
        Predictor.from_pretrained("partglee-tiny", device="cpu"),
    )
    assert norms(plain.model.backbone) > 10 and norms(quick.model.backbone) == 0
    photo = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    ours, theirs = (one(photo, "person: head, hair; dog: tail", score_threshold=0.001) for one in (quick, plain))
    assert ours.names == theirs.names and len(ours) > 0
    torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=0, atol=0.01)
    torch.testing.assert_close(ours.scores, theirs.scores, rtol=0, atol=1e-4)
