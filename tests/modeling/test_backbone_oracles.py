"""Backbones against torchvision's of the same architecture, weights carried over by name."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet50
from torchvision.models.swin_transformer import SwinTransformer

from partglee.modeling.backbone import build_timm_backbone


def images(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("size", [(64, 96), (70, 91)])
@torch.no_grad()
def test_resnet(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    theirs = resnet50(weights=None).eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # statistics that do something
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    ours = build_timm_backbone("resnet50", frozen_norm=True).eval()
    state = {key: value for key, value in theirs.state_dict().items() if not key.startswith("fc.")}
    assert ours.body.load_state_dict(state, strict=False).missing_keys == []
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(images(*size)))))
    maps = ours(images(*size))
    for layer, seen in zip((theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), maps, strict=True):
        x = layer(x)
        torch.testing.assert_close(seen, x, rtol=1e-4, atol=1e-4 * float(x.abs().max()))
    assert ours.channels == (256, 512, 1024, 2048)


@pytest.mark.parametrize(("window", "size"), [(12, (420, 452)), (7, (260, 300))])
@torch.no_grad()
def test_swin(window: int, size: tuple[int, int]) -> None:
    """Every map is larger than a window, where the two agree on when windows move, and no multiple of it."""
    torch.manual_seed(0)
    depths, heads = (2, 2, 4, 2), (1, 2, 4, 8)
    theirs = SwinTransformer(
        patch_size=[4, 4], embed_dim=8, depths=list(depths), num_heads=list(heads), window_size=[window, window],
        stochastic_depth_prob=0.0,
    ).eval()  # fmt: skip
    for name, parameter in theirs.named_parameters():
        if "bias" in name or "norm" in name:  # zeros and ones hide mistakes
            parameter.add_(0.1 * torch.randn(parameter.shape))
    ours = build_timm_backbone(
        "swin_base_patch4_window12_384", output_norms=True,
        options={"embed_dim": 8, "depths": depths, "num_heads": heads, "window_size": window},
    ).eval()  # fmt: skip
    assert ours.norms is not None
    left = ("norm.", "head.")  # behind the last map; tables of places are made anew
    state = {_ours(key): value for key, value in theirs.state_dict().items() if not key.startswith(left)}
    told = ours.body.load_state_dict({k: v for k, v in state.items() if "position_index" not in k}, strict=False)
    assert told.missing_keys == [] and told.unexpected_keys == []
    for norm in ours.norms:
        for parameter in norm.parameters():
            parameter.add_(torch.randn(parameter.shape))
    maps, x, seen = ours(images(*size)), images(*size), 0
    for place, stage in enumerate(theirs.features):
        x = stage(x)
        if place % 2:
            expected = ours.norms[seen](x).permute(0, 3, 1, 2)
            torch.testing.assert_close(maps[seen], expected, rtol=1e-3, atol=1e-3)
            assert min(expected.shape[-2:]) > window
            seen += 1
    assert seen == 4


def _ours(key: str) -> str:
    """torchvision's name -> timm's extractor's."""
    key = re.sub(r"features\.0\.0\.", "patch_embed.proj.", key)
    key = re.sub(r"features\.0\.2\.", "patch_embed.norm.", key)
    stages = {"1": "0", "3": "1", "5": "2", "7": "3"}
    key = re.sub(r"features\.([1357])\.(\d)\.", lambda m: f"layers_{stages[m[1]]}.blocks.{m[2]}.", key)
    key = re.sub(r"features\.([246])\.", lambda m: f"layers_{int(m[1]) // 2}.downsample.", key)
    return key.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
