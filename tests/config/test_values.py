"""Every key that is a number, a list of numbers or a word refuses what it may not be."""

from __future__ import annotations

import math
from typing import Any

import pytest

from partglee.config import get_cfg, list_models, load_config
from partglee.config.values import LISTS, NUMBERS, WORDS, check_values, leaves, value_of

DEFAULTS = dict(leaves(get_cfg()))
FREE = {  # names, files and what is checked where it is used
    "RECIPE", "MODEL.WEIGHTS", "MODEL.BACKBONE.NAME", "MODEL.BACKBONE.WEIGHTS", "MODEL.TEXT.BACKEND", "MODEL.TEXT.ARCH",
    "MODEL.TEXT.CACHE_DIR", "MODEL.TEXT.TABLE.FILE", "MODEL.TEXT.BERT.PRETRAINED", "MODEL.TEXT.BERT.VOCABULARY",
    "DATASETS.TRAIN", "DATASETS.TEST", "DATASETS.CUSTOM", "DATASETS.IMPORTS", "INPUT.TRAIN.MODE", "OUTPUT_DIR",
    "TEST.BEST", "TEST.EXPRESSION_PARTS", "MODEL.OBJECT_DECODER.SELECTION", "INPUT.TRAIN.TEACHER",
}  # fmt: skip


def test_no_key_is_forgotten() -> None:
    numbers = {k for k, v in DEFAULTS.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
    assert numbers == set(NUMBERS)
    assert {k for k, v in DEFAULTS.items() if isinstance(v, (list, tuple, str))} - FREE == {*LISTS, *WORDS}


@pytest.mark.parametrize("name", list_models())
def test_every_configuration_passes(name: str) -> None:
    check_values(load_config(name))


def refused(key: str, value: Any) -> str:
    cfg = get_cfg()
    section, _, name = key.rpartition(".")
    value_of(cfg, section)[name] = value
    with pytest.raises(ValueError, match=f"^{key} must be ") as error:
        check_values(cfg)
    return str(error.value)


@pytest.mark.parametrize("key", sorted(NUMBERS))
def test_numbers(key: str) -> None:
    low, high, open_low, open_high = NUMBERS[key]
    for value in (low - 1, math.nan, math.inf, 10**400, *([low] if open_low else [])):
        assert str(value) in refused(key, value)
    if high < math.inf:
        refused(key, high + 0.01)
        if open_high:
            refused(key, high)


@pytest.mark.parametrize("value", ["", "  ", None])
def test_a_folder_has_a_name(value: Any) -> None:
    """An empty one would be the folder that the command runs in."""
    cfg = get_cfg()
    cfg.OUTPUT_DIR = value
    with pytest.raises(ValueError, match=r"^OUTPUT_DIR must be the name of a folder \('\.' is this one\), got "):
        check_values(cfg)


@pytest.mark.parametrize("key", sorted(LISTS))
def test_lists(key: str) -> None:
    wanted = LISTS[key]
    right = [next(value for value in (1, 2) if value in wanted.each)] * (wanted.length or 2)
    cfg = get_cfg()
    section, _, name = key.rpartition(".")
    value_of(cfg, section)[name] = right
    check_values(cfg)
    for wrong in (-1, math.nan, "a", True, *([1.5] if wanted.whole else [])):
        refused(key, [*right[1:], wrong])
    if wanted.length is not None:
        refused(key, [])
        refused(key, [*right, 1])


@pytest.mark.parametrize("key", sorted(WORDS))
def test_words(key: str) -> None:
    assert "'bogus'" in refused(key, "bogus")


def test_names_of_data_sets_are_texts() -> None:
    assert "got 1" in refused("DATASETS.TRAIN", [1])
    assert refused("INPUT.TRAIN.SIZE", [-1, -1]) == "INPUT.TRAIN.SIZE must be 2 whole numbers at least 1, got [-1, -1]"
    assert refused("SOLVER.EMA_DECAY", 1.0) == "SOLVER.EMA_DECAY must be in [0, 1), got 1.0"
    assert refused("SOLVER.SCHEDULE", "") == "SOLVER.SCHEDULE must be step or cosine, got ''"
