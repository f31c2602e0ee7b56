"""Configurations: every file is loaded and built; the released numbers are in it; wrong values are told."""

from __future__ import annotations

from pathlib import Path

import pytest
import rela
import torch
import yaml
from rela.config import CONFIGS, RANGES, rela_defaults

from partglee.config.values import check_values, leaves
from partglee.text.word_pieces import word_list


@pytest.mark.parametrize("name", rela.list_configs())
def test_every_file_is_built(name: str) -> None:
    cfg = rela.load_config(name, ["MODEL.TEXT.BERT.PRETRAINED", ""])
    check_values(cfg, RANGES)
    with torch.device("meta"):
        model = rela.build_model(cfg)
    assert model.region_decoder.num_regions == cfg.MODEL.REGIONS.NUM
    assert cfg.RECIPE == "rela" and cfg.DATASETS.TRAIN


def test_ranges_are_of_keys_that_are_there() -> None:
    assert set(RANGES) <= {key for key, _ in leaves(rela_defaults())}


def test_the_released_schedule() -> None:
    """Paper, supplement and released configuration: AdamW 1e-5, 48 images, 150k steps, clip 0.01, BERT's layers 0-9."""
    solver = rela.load_config("rela_swinb").SOLVER
    assert (solver.BASE_LR, solver.BATCH_SIZE, solver.MAX_ITER, solver.STEPS) == (1e-5, 48, 150000, [110000, 140000])
    assert (solver.WEIGHT_DECAY, solver.NORM_DECAY, solver.CLIP_GRADIENTS) == (0.05, False, 0.01)
    assert (solver.BACKBONE_MULTIPLIER, solver.TEXT_MULTIPLIER, solver.WARMUP_ITERS) == (1.0, 1.0, 10)
    cfg = rela.load_config("rela_swinb", ["MODEL.TEXT.BERT.PRETRAINED", ""])
    with torch.device("meta"):
        model = rela.build_model(cfg)
    held = {n for n, p in model.text_encoder.named_parameters() if not p.requires_grad}
    assert all("embeddings" in n or ".layer.10." in n or ".layer.11." in n for n in held) and len(held) == 5 + 2 * 16
    assert model.backbone.channels == (128, 256, 512, 1024)
    original = rela.load_config("rela_original")
    assert original.MODEL.REGIONS.FORM == "after" and original.SOLVER.BASE_LR == 6e-6


def test_files_hold_values_that_differ() -> None:
    """A value that repeats a default would hide a change of it."""
    defaults = dict(leaves(rela_defaults()))
    for file in CONFIGS.glob("*.yaml"):
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        if content.get("_BASE_") is None:
            content.pop("RECIPE")
            repeated = [key for key, value in _flat(content) if key in defaults and defaults[key] == value]
            assert not repeated, file


def _flat(content: dict, prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in content.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(f"{prefix}{key}", value)]
    return rows


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("MODEL.FUSION.PLACE", "pixels"),
        ("MODEL.REGIONS.NUM", 0),
        ("CRITERION.MINIMAP_RULE", "half"),
        ("TEST.NO_TARGET", ""),
    ],
)
def test_wrong_values_are_told(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=key):
        check_values(rela.load_config("rela_toy", [key, value]), RANGES)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"unknown key MODEL\.REGIONS\.NUMBER"):
        rela.load_config("rela_toy", ["MODEL.REGIONS.NUMBER", 3])
    with pytest.raises(ValueError, match="rela_huge"):
        rela.load_config("rela_huge")


def test_word_list() -> None:
    words = word_list(["The two red cars", "the car's wheel", "cars, cars"])
    assert words[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert words.index("cars") < words.index("the") < words.index("wheel") and "," in words and "##z" in words
    assert len(words) == len(set(words))
    with pytest.raises(ValueError, match="no expression has a word"):
        word_list([])
