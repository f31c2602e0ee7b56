"""The tiny model and the criterion together: one step from images to gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from partglee.config import load_config
from partglee.criterion import build_criterion, total
from partglee.modeling import PartGLEE, build_model
from partglee.structures import HierarchicalTargets, LevelTargets, TextTokens

SMALL = [
    "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 2, "MODEL.PART_DECODER.NUM_LAYERS", 2,
    "MODEL.QFORMER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_QUERIES", 20, "MODEL.OBJECT_DECODER.NUM_PARSED", 6,
    "MODEL.QFORMER.NUM_QUERIES", 4, "MODEL.DENOISING.NUM_QUERIES", 12, "CRITERION.NUM_POINTS", 200,
]  # fmt: skip


def make_model(overrides: Sequence[Any] = ()) -> tuple[PartGLEE, Any, TextTokens]:
    cfg = load_config("tiny", [*SMALL, *overrides])
    torch.manual_seed(0)
    model = build_model(cfg).train()
    model.text_encoder.backend.embeddings = torch.randn(7, 1024)  # a table of seven names
    ids = torch.arange(7).view(-1, 1)
    return model, cfg, TextTokens(ids, torch.ones_like(ids, dtype=torch.bool), num_objects=3)


def level(count: int, names: int) -> LevelTargets:
    masks = torch.rand(count, 96, 128) < 0.5
    return LevelTargets(torch.randint(names, (count,)), torch.rand(count, 4) * 0.4 + 0.2, masks)


def targets(objects: int, parts: int) -> HierarchicalTargets:
    parents = torch.arange(parts) % objects if objects else torch.full((parts,), -1)
    return HierarchicalTargets(level(objects, 3), level(parts, 4), parents)


def step(model: PartGLEE, cfg: Any, tokens: TextTokens, batch: list[HierarchicalTargets]) -> dict[str, torch.Tensor]:
    images = model.batch([torch.rand(3, 96, 128) * 255 for _ in batch])
    losses = build_criterion(cfg)(model(images, tokens, batch), batch)
    total(losses.values()).backward()
    return losses


@pytest.mark.parametrize(("matching", "contrastive"), [("global", False), ("within_parent", True)])
def test_every_weight_gets_a_finite_gradient(matching: str, contrastive: bool) -> None:
    overrides = ["CRITERION.PART_MATCHING", matching, "MODEL.DENOISING.CONTRASTIVE", contrastive]
    model, cfg, tokens = make_model([*overrides, "MODEL.EARLY_FUSION.CATEGORIES", True])
    losses = step(model, cfg, tokens, [targets(2, 4), targets(1, 2)])
    assert all(loss.isfinite() for loss in losses.values())
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_object_data_leaves_the_part_branch_alone() -> None:
    model, cfg, tokens = make_model()
    step(model, cfg, tokens, [targets(2, 0), targets(0, 0)])
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched >= {"backbone", "pixel_decoder", "object_decoder", "text_encoder"}
    assert not touched & {"qformer", "part_decoder"}


def test_part_data_trains_the_part_branch() -> None:
    model, cfg, tokens = make_model()
    losses = step(model, cfg, tokens, [targets(0, 3), targets(0, 1)])
    assert not any(name.startswith("object") for name in losses)
    touched = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert touched >= {"backbone", "pixel_decoder", "qformer", "part_decoder"}
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_a_few_steps_reduce_the_loss() -> None:
    model, cfg, tokens = make_model(["MODEL.DENOISING.NUM_QUERIES", 0])
    batch = [targets(2, 3)]
    images = model.batch([torch.rand(3, 64, 64) * 255], canvas=(64, 64))
    criterion = build_criterion(cfg)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    values = []
    for _ in range(5):
        loss = total(criterion(model(images, tokens, batch), batch).values())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        values.append(float(loss.detach()))
    assert min(values[-2:]) < 0.9 * values[0]
