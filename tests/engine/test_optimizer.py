"""Which rate and which decay every weight gets."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import nn

from partglee.config import load_config
from partglee.engine.optimizer import build_optimizer, set_rates
from partglee.engine.optimizer import parameter_groups as groups_by
from partglee.engine.partglee_recipe import PARTGLEE
from partglee.modeling import PartGLEE, build_model


def parameter_groups(model: nn.Module, **values: Any) -> list[dict[str, Any]]:
    """Of PartGLEE's recipe."""
    cfg = load_config("joint_r50", ["SOLVER.BACKBONE_MULTIPLIER", 0.1, "SOLVER.TEXT_MULTIPLIER", 0.2])
    return groups_by(model, group_of=partial(PARTGLEE.group_of, cfg), embeddings=PARTGLEE.embeddings, **values)


@pytest.fixture(scope="module")
def model() -> PartGLEE:
    with torch.device("meta"):
        return build_model(load_config("joint_r50", ["MODEL.TEXT.MODE", "trainable"]))


@pytest.fixture(scope="module")
def groups(model: PartGLEE) -> dict[str, dict[str, object]]:
    found = parameter_groups(model, base_lr=1.0, weight_decay=0.5, norm_decay=False)
    by_id = {id(p): g for g in found for p in g["params"]}
    return {n: by_id[id(p)] for n, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize(
    ("name", "rate", "decay"),
    [
        ("backbone.body.conv1.weight", 0.1, 0.5),
        ("text_encoder.projection", 1.0, 0.5),
        ("pixel_decoder.level_embed", 1.0, 0.0),
        ("pixel_decoder.layers.0.attn_norm.weight", 1.0, 0.0),
        ("pixel_decoder.layers.0.attn.value_proj.weight", 1.0, 0.5),
        ("pixel_decoder.layers.0.attn.value_proj.bias", 1.0, 0.0),
        ("pixel_decoder.input_proj.0.norm.weight", 1.0, 0.0),
        ("object_decoder.heads.class_proj", 1.0, 0.5),
        ("part_decoder.decoder.layers.8.ffn.linear1.weight", 1.0, 0.5),
        ("qformer.content", 1.0, 0.0),
        ("qformer.position", 1.0, 0.0),
        ("qformer.layers.5.self_attn.in_proj_bias", 1.0, 0.0),
    ],
)
def test_rate_and_decay(groups: dict[str, dict[str, object]], name: str, rate: float, decay: float) -> None:
    assert groups[name]["lr"] == groups[name]["initial_lr"] == rate
    assert groups[name]["weight_decay"] == decay


def test_the_text_tower_has_its_own_rate(groups: dict[str, dict[str, object]]) -> None:
    tower = {n: g for n, g in groups.items() if n.startswith("text_encoder.backend.")}
    assert len(tower) > 100 and {g["lr"] for g in tower.values()} == {0.2}
    embeddings = {n: g["weight_decay"] for n, g in tower.items() if "embedding" in n}
    assert len(embeddings) == 2 and set(embeddings.values()) == {0.0}


def test_every_trainable_weight_is_in_one_group(model: PartGLEE, groups: dict[str, dict[str, object]]) -> None:
    assert set(groups) == {n for n, p in model.named_parameters() if p.requires_grad}
    found = parameter_groups(model, base_lr=1.0, weight_decay=0.5)
    counts = [id(p) for g in found for p in g["params"]]
    assert len(counts) == len(set(counts)) == len(groups)


def test_released_decay_is_everywhere(model: PartGLEE) -> None:
    found = parameter_groups(model, base_lr=1.0, weight_decay=0.05)
    assert {g["weight_decay"] for g in found} == {0.05}
    assert {g["name"] for g in found} == {"backbone", "text", "rest"}


def test_swin_tables_do_not_decay() -> None:
    with torch.device("meta"):
        swin = build_model("joint_swinL")
    found = parameter_groups(swin, base_lr=1.0, weight_decay=0.05, norm_decay=False)
    free = {id(p) for g in found if not g["weight_decay"] for p in g["params"]}
    names = {n for n, p in swin.named_parameters() if id(p) in free}
    assert sum("relative_position_bias_table" in n for n in names) == 24
    assert "backbone.norms.0.weight" in names


def test_rates_are_set_from_the_base_rates() -> None:
    cfg = load_config("tiny", ["SOLVER.BASE_LR", 0.01, "SOLVER.BACKBONE_MULTIPLIER", 0.1])
    optimizer = build_optimizer(cfg, build_model(cfg), group_of=PARTGLEE.group_of)
    for factor in (0.5, 0.2):
        set_rates(optimizer, factor)
        rates = {g["name"]: g["lr"] for g in optimizer.param_groups}
        assert rates == pytest.approx({"backbone": 0.001 * factor, "rest": 0.01 * factor})


def test_a_frozen_model_is_refused() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parameter_groups(nn.Linear(2, 2).requires_grad_(False), base_lr=1.0, weight_decay=0.0)
