"""Backbones whose constant norms became part of their convolutions: the same answers, whatever the architecture."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from timm.layers import Conv2dSame
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from partglee import Predictor
from partglee.engine.pretrained import load_pretrained
from partglee.modeling.backbone import Backbone, build_timm_backbone
from partglee.modeling.folding import fold_norms, ready_for_prediction
from partglee.modeling.fused_convolution import FusedConv, can_fuse, fuse_convolutions


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


def test_a_backbone_for_images_of_some_sizes_alone() -> None:
    backbone = lively("efficientformerv2_s0", frozen=True)
    backbone.body.stem_conv1.train()
    assert fold_norms(backbone) is backbone  # 96 pixels are none of them
    made, image = fold_norms(backbone, divisibility=224), torch.randn(1, 3, 224, 224)
    assert backbone.body.stem_conv1.training and norms(made) < norms(backbone.eval())
    with torch.no_grad():
        for ours, expected in zip(made(image), backbone(image), strict=True):
            torch.testing.assert_close(ours, expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


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


class CountsFused(TorchDispatchMode):
    """How many convolutions took their activation along."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        self.count += "convolution_pointwise" in str(func)
        return func(*args, **(kwargs or {}))


def convolution(*, kernel: int, stride: int, groups: int, same: bool, dilation: int = 1) -> nn.Conv2d:
    made = (Conv2dSame if same else nn.Conv2d)(
        8, 16, kernel, stride=stride, groups=groups, padding=0 if same else kernel // 2, dilation=dilation
    )
    assert isinstance(made, nn.Conv2d)
    return made


@pytest.mark.parametrize("size", [(16, 24), (15, 23), (16, 23), (1, 1)])
@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "groups"), [(3, 1, 1), (3, 2, 8), (5, 2, 1), (1, 1, 1), (1, 2, 2), (2, 2, 1)]
)
def test_convolution_and_activation_in_one(
    size: tuple[int, int], same: bool, kernel: int, stride: int, groups: int
) -> None:
    torch.manual_seed(0)
    conv, image = convolution(kernel=kernel, stride=stride, groups=groups, same=same), 3 * torch.randn(2, 8, *size)
    for activation in (nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.SiLU(), nn.Hardswish()):
        fused = FusedConv(conv=conv, activation=activation)
        assert can_fuse(conv, activation) and set(fused.state_dict()) == {"weight", "bias"}
        wanted = activation(conv(image))
        for layout in (torch.contiguous_format, torch.channels_last):
            with torch.no_grad():
                torch.testing.assert_close(fused(image.contiguous(memory_format=layout)), wanted, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(fused(image), wanted)  # with gradients


def test_when_it_is_done_in_one() -> None:
    fused, image = FusedConv(conv=convolution(kernel=3, stride=2, groups=1, same=True)), torch.randn(1, 8, 16, 16)
    with CountsFused() as mode, torch.no_grad():
        fused(image)
        assert mode.count == 1
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert fused(image).dtype == torch.bfloat16
        copy.deepcopy(fused).double()(image.double())
        fused(image[..., :15])  # no padding below and two columns beside it: neither kernel fits
    with mode:
        fused(image).sum().backward()
    assert mode.count == 1 and fused.weight.grad is not None


def test_what_cannot_be_done_in_one() -> None:
    plain, activation = convolution(kernel=3, stride=1, groups=1, same=False), nn.ReLU()
    assert can_fuse(plain, activation) and not can_fuse(plain, nn.GELU()) and not can_fuse(nn.Linear(2, 2), activation)
    assert not can_fuse(nn.Conv2d(2, 2, 3, padding_mode="reflect"), activation)
    assert not can_fuse(nn.Conv2d(2, 2, 3, padding="same"), activation)
    assert not can_fuse(nn.ConvTranspose2d(2, 2, 3), activation)
    assert not can_fuse(convolution(kernel=3, stride=1, groups=1, same=True, dilation=2), activation)


def test_a_folded_mobilenet_is_one_operator_a_layer() -> None:
    made, image = fold_norms(lively("mobilenetv2_050", frozen=True, pad_type="same")), torch.randn(1, 3, 64, 96)
    layers = sum(isinstance(module, FusedConv) for module in made.modules())
    with CountsFused() as mode, torch.no_grad():
        made(image)
    assert mode.count == layers > 40


@pytest.mark.parametrize(("name", "taken"), [("resnet18", 1 + 8), ("resnet50", 1 + 2 * 16)])
def test_a_residual_block_takes_along_what_is_not_a_sum(name: str, taken: int) -> None:
    backbone, image = lively(name, frozen=True), torch.randn(1, 3, 64, 96)
    made = fold_norms(backbone)
    activations = [module.activation for module in made.modules() if isinstance(module, FusedConv)]
    assert sum(isinstance(activation, nn.ReLU) for activation in activations) == taken
    assert isinstance(made.body.layer1[0].act2 if name == "resnet18" else made.body.layer1[0].act3, nn.ReLU)
    with torch.no_grad():
        for ours, theirs in zip(made(image), backbone(image), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4 * float(theirs.abs().max()))


def test_convolutions_of_a_module_keep_their_names() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1, bias=False))
    before, image = {key: value.clone() for key, value in module.state_dict().items()}, torch.randn(1, 3, 9, 7)
    with torch.no_grad():
        wanted = module(image)
        assert fuse_convolutions(module) is module and isinstance(module[0], FusedConv)
        torch.testing.assert_close(module(image), wanted, atol=1e-5, rtol=1e-4)
    assert {key: value.tolist() for key, value in module.state_dict().items()} == {
        key: value.tolist() for key, value in before.items()
    }


def test_ready_for_prediction_whatever_a_model_has() -> None:
    """On a processor its backbones and pixel decoders; a model without them, or elsewhere, is left as it is."""
    model = load_pretrained("partglee-tiny", device="cpu").model
    plain = copy.deepcopy(model)
    assert ready_for_prediction(model) is model
    assert norms(model.backbone) == 0 and norms(plain.backbone) > 10
    kinds = [type(module) for module in model.pixel_decoder.modules()]
    assert FusedConv in kinds and FusedConv not in [type(module) for module in plain.pixel_decoder.modules()]
    shared = copy.deepcopy(plain.backbone)
    twice = ready_for_prediction(nn.ModuleDict({"one": shared, "inside": nn.ModuleList([shared])}))
    assert norms(twice) == 0 and twice["one"] is twice["inside"][0]  # type: ignore[index]
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    other.backbone = nn.Identity()
    before = list(other.modules())
    assert ready_for_prediction(other) is other and list(other.modules()) == before
    elsewhere = plain.to("meta")
    assert norms(ready_for_prediction(elsewhere).backbone) > 10
