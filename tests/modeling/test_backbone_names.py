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
