"""A step of training that learns from a dense teacher, from the loader's worker to the gradients."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from partglee.config import load_config
from partglee.criterion import build_criterion
from partglee.data.teaching import OnnxTeacher, build_taught_loader
from partglee.engine.partglee_recipe import TrainingStep
from partglee.modeling import build_model
from partglee.structures import TrainingBatch
from partglee.testing import register_toy, write_name_table


class EightyNames:
    """Every name of COCO at every place, a little."""

    def score_maps(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        height, width, _ = pixels.shape
        return [np.full((80, height // step, width // step), 0.3, np.float32) for step in (8, 16, 32)]


def test_a_run_with_a_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the loader's worker to the loss: one step learns from what the teacher says, of names that both know."""
    monkeypatch.setattr(OnnxTeacher, "score_maps", lambda self, pixels: EightyNames().score_maps(pixels))
    register_toy("toy_taught", num_images=8, size=(64, 64))
    overrides = [
        "MODEL.OBJECT_DECODER.DENSE_HEAD", True, "INPUT.TRAIN.TEACHER", str(tmp_path / "yolox_nano.onnx"),
        "DATASETS.TRAIN", "['toy_taught']", "INPUT.TRAIN.SIZE", "[64, 64]", "INPUT.TRAIN.SCALE", "[1.0, 1.0]",
        "SOLVER.BATCH_SIZE", 2, "DATALOADER.NUM_WORKERS", 1, "MODEL.ENCODER.NUM_LAYERS", 1,
        "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.PART_DECODER.NUM_LAYERS", 1,
        "MODEL.OBJECT_DECODER.NUM_QUERIES", 10, "MODEL.OBJECT_DECODER.NUM_PARSED", 4, "CRITERION.NUM_POINTS", 64,
    ]  # fmt: skip
    cfg = load_config("tiny", overrides)
    made: TrainingBatch = next(iter(build_taught_loader(cfg)))
    assert made.dense is not None and made.names is not None
    shared = [made.names.object_prompts[column] for column in made.dense.columns.tolist()]
    assert {"car", "person"} <= set(shared)
    prompts = [*made.names.object_prompts, *made.names.part_prompts]
    cfg.MODEL.TEXT.TABLE.FILE = str(write_name_table(tmp_path / "names.npz", prompts))
    torch.manual_seed(0)
    step = TrainingStep(model=build_model(cfg).train(), criterion=build_criterion(cfg))
    losses = step.losses(made)
    losses["object/dense/memory"].backward()
    head = step.model.object_decoder.dense_head
    assert head is not None and head.class_proj.grad is not None and head.class_proj.grad.abs().max() > 0
    assert step.model.pixel_decoder.level_embed.grad is not None  # the encoder is taught
    assert "object/dense/memory" not in step.losses(made._replace(dense=None))
