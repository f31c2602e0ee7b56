"""What is wrong is told before the first step, with the name and what is near it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training_samples import small_config

from partglee.engine.build import build_initial_model
from partglee.engine.partglee_recipe import check_names
from partglee.engine.preflight import check_config
from partglee.testing import TOY_VOCABULARY, register_toy, write_name_table

TOY = ["DATASETS.TRAIN", ["toy_preflight"]]


@pytest.fixture(autouse=True, scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> None:
    register_toy("toy_preflight", num_images=5)
    folder = tmp_path_factory.mktemp("toy")
    register_toy("toy_lost", num_images=1, folder=folder)
    (folder / "toy_lost.json").rename(folder / "toy_found.json")


def test_a_good_configuration(tmp_path: Path) -> None:
    check_config(small_config(tmp_path, TOY), world_size=2)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["DATASETS.TRAIN", []], "DATASETS.TRAIN is empty"),
        (["DATASETS.TRAIN", ["toy_preflite"]], "toy_preflite.*toy_preflight"),
        ([*TOY, "DATASETS.TEST", ["toy_prefligth"]], "toy_prefligth.*toy_preflight"),
        (["DATASETS.TRAIN", ["toy_lost"]], r"annotations of .*'toy_lost'.*toy_lost\.json.*holds.*toy_found\.json"),
        ([*TOY, "DATASETS.RATIOS", [1.0, 2.0]], "RATIOS has 2 numbers for 1"),
        ([*TOY, "DATASETS.REPEAT_THRESHOLDS", [0.1, 0.1]], "REPEAT_THRESHOLDS has 2 numbers"),
        ([*TOY, "SOLVER.BATCH_SIZE", 7], "multiple of 2.*nearest are 6 and 8"),
        ([*TOY, "SOLVER.BATCH_SIZE", 6, "SOLVER.ACCUMULATE", 2], "multiple of 4"),
        ([*TOY, "SOLVER.BATCH_SIZE", 1], "multiple of 2 .*; the nearest is 2$"),
        ([*TOY, "SOLVER.ACCUMULATE", 0], "SOLVER.ACCUMULATE must be at least 1, got 0"),
        ([*TOY, "SOLVER.BASE_LR", float("nan")], "SOLVER.BASE_LR must be at least 0"),
        ([*TOY, "SOLVER.PRECISION", "half"], "no, bf16 or fp16"),
        ([*TOY, "DATASETS.RATIOS", [0.0]], "RATIOS must not all be 0"),
        ([*TOY, "INPUT.TRAIN.SCALE", [2.0, 1.0]], "SCALE must be 0 < low <= high"),
        ([*TOY, "INPUT.TRAIN.MODE", "resize", "INPUT.TRAIN.SHORT_SIDES", []], "SHORT_SIDES must be lengths"),
        ([*TOY, "INPUT.TEST.SHORT_SIDE", 900, "INPUT.TEST.MAX_SIDE", 800], "SHORT_SIDE 900 must not exceed"),
        ([*TOY, "SOLVER.SCHEDULE", "step", "SOLVER.STEPS", [3, 2]], "STEPS must rise"),
        ([*TOY, "SOLVER.SHARDED", True, "SOLVER.EMA_DECAY", 0.9], "EMA_DECAY"),
        ([*TOY, "SOLVER.SHARDED", True, "SOLVER.PRECISION", "fp16"], "bf16"),
        ([*TOY, "SOLVER.SHARDED", True, "DATASETS.TEST", ["toy_preflight"]], "--eval-only"),
        ([*TOY, "TEST.BEST", "toy_val/part/mask/AP"], "TEST.BEST.*DATASETS.TEST"),
        ([*TOY, "DATASETS.TEST", ["toy_preflight"], "TEST.BEST", "ema/toy_preflight/part/mask/AP"], "without 'ema/'"),
    ],
)  # fmt: skip
def test_bad_configurations(tmp_path: Path, overrides: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_config(small_config(tmp_path, overrides), world_size=2)


def test_evaluation_needs_weights_and_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.WEIGHTS"):
        check_config(small_config(tmp_path, ["DATASETS.TEST", ["toy_preflight"]]), world_size=1, train=False)


def test_a_name_that_the_table_lacks(tmp_path: Path) -> None:
    cfg = small_config(tmp_path, TOY)
    prompts = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts]
    cfg.MODEL.TEXT.TABLE.FILE = str(write_name_table(tmp_path / "all.npz", prompts, width=16))
    check_names(cfg, build_initial_model(cfg))
    known = [prompt.replace("wheel", "wheels") for prompt in prompts]
    cfg.MODEL.TEXT.TABLE.FILE = str(write_name_table(tmp_path / "some.npz", known, width=16))
    with pytest.raises(ValueError, match=r"'toy_preflight': unknown name '.* wheel'.*nearest: '.* wheels'"):
        check_names(cfg, build_initial_model(cfg))
