"""The reference implementation's pairs and last-layer losses on stored predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from partglee.criterion import HierarchicalCriterion, LossWeights, Matcher, SetCriterion
from partglee.criterion.stack import batch_targets, stack_predictions
from partglee.structures import (
    DecoderOutput,
    HierarchicalTargets,
    LayerPrediction,
    LevelTargets,
    ModelOutput,
    TextEmbeddings,
)


@pytest.fixture(scope="module")
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden" / "partglee_losses.json").read_text())


def standardised(logits: np.ndarray) -> Tensor:
    x = torch.from_numpy(logits)
    return (x - x.mean()) / x.std() * 2 - 2


@pytest.fixture(scope="module")
def output(shared: Path) -> ModelOutput:
    arrays = np.load(shared / "golden" / "partglee_r50_upstream.npz")
    raw = torch.from_numpy(arrays["object_logits"])
    parents = raw.max(-1).values.topk(50, dim=1).indices.repeat_interleave(10, dim=1)
    level = {
        name: DecoderOutput(
            queries=torch.zeros(1, arrays[f"{name}_logits"].shape[1], 8),
            layers=(
                LayerPrediction(
                    standardised(arrays[f"{name}_logits"]), torch.from_numpy(arrays[f"{name}_boxes"]), None
                ),
            ),
        )
        for name in ("object", "part")
    }
    text = TextEmbeddings(torch.zeros(2, 8), torch.zeros(4, 8))
    return ModelOutput(level["object"], level["part"], parents, text, torch.zeros(1, 8, 64, 80))


@pytest.fixture(scope="module")
def targets(golden: dict[str, Any]) -> HierarchicalTargets:
    levels = [
        LevelTargets(torch.tensor(t["labels"]), torch.tensor(t["boxes"]))
        for t in (golden["inputs"]["object_targets"], golden["inputs"]["part_targets"])
    ]
    return HierarchicalTargets(levels[0], levels[1], torch.full((len(levels[1]),), -1))


@pytest.mark.parametrize("level", ["object", "part"])
def test_pairs(level: str, golden: dict[str, Any], output: ModelOutput, targets: HierarchicalTargets) -> None:
    decoder = output.objects if level == "object" else output.parts
    wanted = targets.objects if level == "object" else targets.parts
    predictions = stack_predictions(decoder.layers, ["final"])
    batch = batch_targets([wanted], num_names=predictions.logits.shape[-1], device=torch.device("cpu"))
    matches = Matcher().start(predictions, batch).result()
    assert matches.query.tolist() == golden[level]["query"]
    assert matches.target.tolist() == golden[level]["target"]


def test_losses(golden: dict[str, Any], output: ModelOutput, targets: HierarchicalTargets) -> None:
    ones = LossWeights(class_=1, box_l1=1, box_giou=1, restriction=1)
    criterion = HierarchicalCriterion(matcher=Matcher(), level=SetCriterion(), weights=ones)
    losses = criterion(output, [targets])
    names = {"class": "loss_ce", "box_l1": "loss_bbox", "box_giou": "loss_giou", "restriction": "loss_box_restriction"}
    for key, value in losses.items():
        level, term, layer = key.split("/")
        assert layer == "final"
        assert float(value) == pytest.approx(golden[level]["losses"][names[term]], abs=1e-4), key
    assert len(losses) == 7
