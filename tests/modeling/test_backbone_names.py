"""Backbones by any name of timm, on images of any size."""

from __future__ import annotations

import pytest
import torch

from partglee.modeling.backbone import STRIDES, build_timm_backbone

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
