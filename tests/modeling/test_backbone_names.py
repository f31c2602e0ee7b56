"""Backbones by any name of timm, on images of any size."""

from __future__ import annotations

import pytest
import torch

from partglee.config import load_config
from partglee.modeling.backbone import STRIDES, build_timm_backbone
from partglee.modeling.build import build_backbone

NAMES = (
    "swin_tiny_patch4_window7_224", "swin_s3_tiny_224", "swinv2_cr_tiny_ns_224", "swinv2_tiny_window8_256",
    "convnext_atto", "convnextv2_atto", "resnet18", "mobilenetv2_050", "efficientnet_lite0", "regnety_002",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_any_name_takes_images_of_any_size(name: str) -> None:
    backbone = build_timm_backbone(name).eval()
    for height, width in ((96, 160), (64, 64)):
        maps = backbone(torch.rand(1, 3, height, width))
        assert [tuple(m.shape[2:]) for m in maps] == [(height // stride, width // stride) for stride in STRIDES]
        assert [m.shape[1] for m in maps] == list(backbone.channels) and all(m.isfinite().all() for m in maps)


ONE_KEY = (*NAMES, "swin_base_patch4_window12_384", "convnext_tiny", "resnet101", "efficientnet_b0", "pvt_v2_b0",
           "hrnet_w18_small", "mobilenetv4_conv_small", "edgenext_xx_small", "dla34", "repvit_m1")  # fmt: skip


@pytest.mark.parametrize("config", ["tiny", "joint_r50", "joint_swinL"])
@pytest.mark.parametrize("name", ONE_KEY)
def test_one_key_puts_any_of_them_in_any_model(config: str, name: str) -> None:
    """Options that the configuration has for its own backbone are left out where another does not take them."""
    cfg = load_config(config, ["MODEL.BACKBONE.NAME", name])
    try:
        with torch.device("meta"):
            backbone = build_backbone(cfg)
    except NotImplementedError:  # torch 2.10 draws regnety's widths in a way that has no shapes alone
        backbone = build_backbone(cfg)
    assert len(backbone.channels) == len(STRIDES)


def test_options_that_are_left_out_are_told_and_misspelt_ones_refused(caplog: pytest.LogCaptureFixture) -> None:
    cfg = load_config("tiny", ["MODEL.BACKBONE.NAME", "convnext_atto"])
    build_backbone(cfg)
    assert "convnext_atto does not take pad_type, left out" in caplog.text
    cfg.MODEL.BACKBONE.OPTIONS.pad_typ = "same"
    with pytest.raises(ValueError, match="unexpected keyword argument 'pad_typ'"):
        build_backbone(cfg)


@pytest.mark.parametrize(
    "name", ["mobilenetv2_050", "resnet18", "swin_tiny_patch4_window7_224", "convnext_atto", "efficientnet_lite0"]
)
@pytest.mark.parametrize("freeze_at", [2, 3, 5])
def test_what_a_frozen_map_comes_from_stays_as_it_is(name: str, freeze_at: int) -> None:
    """Frozen is exactly what the map at stride 2^freeze_at depends on."""
    free, frozen = (build_timm_backbone(name, freeze_at=at) for at in (0, freeze_at))
    assert all(parameter.requires_grad for parameter in free.parameters())
    free(torch.rand(1, 3, 64, 64))[freeze_at - 2].square().sum().backward()
    reached = [key for key, parameter in free.named_parameters() if parameter.grad is not None]
    assert reached == [key for key, parameter in frozen.named_parameters() if not parameter.requires_grad]


def test_a_stage_that_cannot_be_frozen() -> None:
    with pytest.raises(ValueError, match=r"FREEZE_AT must be 0, or 2 to 5 .*, got 6"):
        build_timm_backbone("resnet18", freeze_at=6)
