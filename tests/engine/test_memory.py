"""Passes that save memory give the same gradients."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from training_samples import make_batch, small_config

from partglee.criterion import build_criterion
from partglee.engine.build import build_initial_model
from partglee.engine.partglee_recipe import TrainingStep


def one_pass(folder: Path, overrides: list[Any]) -> tuple[float, dict[str, torch.Tensor], Counter[str]]:
    """Loss and gradients of one batch, and how often layers of the backbone and of the encoder ran."""
    cfg = small_config(folder, overrides)
    cfg.MODEL.BACKBONE.OPTIONS.clear()  # those of tiny's own backbone
    model = build_initial_model(cfg).train()
    runs: Counter[str] = Counter()
    inner = [module for module in model.backbone.modules() if isinstance(module, nn.Conv2d)]
    watched = {"encoder": model.pixel_decoder.layers[0], "backbone": inner[len(inner) // 2]}
    for name, module in watched.items():
        module.register_forward_pre_hook(lambda *_, name=name: runs.update([name]))
    step = TrainingStep(model=model, criterion=build_criterion(cfg))
    torch.manual_seed(0)
    loss = step(make_batch()).loss
    loss.backward()
    return float(loss.detach()), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}, runs


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_resnet"])
def test_activation_checkpointing_changes_no_gradient(tmp_path: Path, backbone: str) -> None:
    """With frozen norms, as all configurations that use it; the layers run again in the backward pass."""
    plain = one_pass(tmp_path, ["MODEL.BACKBONE.NAME", backbone])
    again = one_pass(tmp_path, ["MODEL.BACKBONE.NAME", backbone, "MODEL.ACTIVATION_CHECKPOINTING", True])
    assert plain[2] == {"encoder": 1, "backbone": 1} and again[2] == {"encoder": 2, "backbone": 2}
    assert plain[0] == again[0] and plain[1].keys() == again[1].keys() and len(plain[1]) > 50
    for name, gradient in plain[1].items():
        assert torch.equal(gradient, again[1][name]), name
