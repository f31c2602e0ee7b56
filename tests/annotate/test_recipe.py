"""Recipes: what they say, and what is wrong with one before anything runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from partglee.annotate import COLUMNS, Column, Region, Sample, Stage, read_recipe, register_column, register_stage
from partglee.annotate.columns import missing


def recipe_of(*stages: Any, **values: Any) -> Any:
    return read_recipe({"name": "test", "stages": list(stages), **values})


def test_values_reach_stages_and_engine() -> None:
    recipe = recipe_of({"stage": "sleep", "seconds": 0.5, "batch_size": 3, "gpus": 0.25, "time_limit": 7}, "invent")
    sleep, invent = recipe.stages
    assert (sleep.seconds, sleep.batch_size, sleep.resources.gpus, sleep.time_limit) == (0.5, 3, 0.25, 7)
    assert (invent.name, invent.regions, invent.batch_size) == ("invent", 2, 1)
    recipe.check(())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"stages": []}, "must be a list"),
        ({"stages": ["slep"]}, "did you mean 'sleep'"),
        ({"stages": [{"stage": "sleep", "second": 1}]}, "no value 'second'.*did you mean 'seconds'"),
        ({"stages": [{"stage": "sleep", "seconds": -1}]}, "stage 'sleep': seconds must be"),
        ({"stages": [{"stage": "sleep", "seconds": "long"}]}, "seconds must be a number, got 'long'"),
        ({"stages": [{"stage": "invent", "regions": True}]}, "regions must be a whole number, got True"),
        ({"stages": [{"stage": "vocabulary", "objects": "dog"}]}, "objects must be a list or null, got 'dog'"),
        ({"stages": [{"stage": "vocabulary", "objects": ["dog", 1]}]}, "objects must be a list or null"),
        ({"stages": [{"stage": "detect", "weights": 7}]}, "weights must be text, got 7"),
        ({"stages": [{"stage": "caption", "options": 3}]}, "options must be a mapping or null"),
        ({"stages": [{"stage": "describe", "endpoint": {"url": 1, "model": "m"}}]}, "url must begin with http"),
        ({"stages": [{"stage": "describe", "endpoint": {"urls": "x"}}]}, "endpoint: .*urls"),
        ({"stages": [{"stage": "sleep", "batch_size": float("nan")}]}, "batch_size must be a number"),
        ({"stages": [{"stage": "sleep", "batch_size": float("inf")}]}, "batch_size must be a whole number"),
        ({"stages": [{"stage": "sleep", "batch_size": 1.5}]}, "batch_size must be a whole number"),
        ({"stages": [{"stage": "sleep", "gpus": -1}]}, "gpus must be a number of at least 0"),
        ({"stages": ["sleep", "sleep"]}, "two stages are called 'sleep'"),
        ({"stages": ["sleep"], "shard_sise": 3}, "did you mean 'shard_size'"),
        ({"stages": ["sleep"], "shard_size": 0}, "shard_size must be a whole number"),
        ({"stages": ["sleep"], "time_limit": 0}, "time_limit must be seconds"),
        ({"stages": ["sleep"], "tables": "csv"}, "one of parquet, jsonl, lance"),
        ({"stages": [{"seconds": 1}]}, "stage 0 must be"),
    ],
)
def test_what_is_wrong_is_told(content: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_recipe(content)


def test_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="no recipe 'mress'"):
        read_recipe("mress")


def test_overrides() -> None:
    content = {"stages": [{"stage": "sleep", "name": "nap"}]}
    recipe = read_recipe(content, ["nap.seconds=0.25", "seed=7"])
    assert (recipe.stages[0].seconds, recipe.seed) == (0.25, 7)
    with pytest.raises(ValueError, match="no stage 'sleep'; it has nap"):
        read_recipe(content, ["sleep.seconds=1"])
    with pytest.raises(ValueError, match="write the list of stages in a YAML file"):
        read_recipe(content, ["stages=3"])
    with pytest.raises(ValueError, match="write STAGE"):
        read_recipe(content, ["nap"])


class NeedsMasks(Stage):
    inputs = ("region.mask",)


class GivesMasks(Stage):
    inputs = ("region.box",)
    outputs = ("region.mask",)


class Misspelt(Stage):
    inputs = ("region.maks",)


register_stage("needs_masks", lambda: NeedsMasks, replace=True)
register_stage("gives_masks", lambda: GivesMasks, replace=True)
register_stage("misspelt", lambda: Misspelt, replace=True)


def test_columns_must_fit_before_anything_runs() -> None:
    recipe_of("invent", "gives_masks", "needs_masks").check(())
    with pytest.raises(ValueError, match=r"'needs_masks' of recipe 'test' needs region\.mask.*put a stage that gives"):
        recipe_of("invent", "needs_masks").check(())
    with pytest.raises(ValueError, match="move 'gives_masks' before it"):
        recipe_of("invent", "needs_masks", "gives_masks").check(())
    recipe_of("needs_masks").check(("region.mask",))
    with pytest.raises(ValueError, match=r"no column 'region.maks'; did you mean 'region.mask'"):
        recipe_of("misspelt").check(())


def test_columns_have_types() -> None:
    sample = Sample(image_id="a", file="a", regions=[Region(name="dog", box=(0.0, 0.0, 1.0, 1.0))])
    assert missing(sample, ("region.name", "region.box", "region.level")) is None
    assert "region.mask of region 0 ('dog')" in str(missing(sample, ("region.mask",)))
    assert "image must be pixels" in str(missing(sample, ("image",)))
    sample.image = np.zeros((2, 2, 3), np.uint8)
    assert missing(sample, ("image",)) is None
    assert "the score 'clip'" in str(missing(sample, ("region.scores.clip",)))
    sample.regions[0].scores["clip"] = 0.5
    assert missing(sample, ("region.scores.clip",)) is None
    sample.regions[0].dropped = "too small"
    assert missing(sample, ("region.mask",)) is None, "a dropped region need not have everything"


def test_a_user_adds_a_column() -> None:
    register_column("region.colour", Column(str, "its colour"))
    try:
        sample = Sample(image_id="a", file="a", regions=[Region(name="dog")])
        assert "its colour" in str(missing(sample, ("region.colour",)))
        sample.regions[0].extra["colour"] = "red"
        assert missing(sample, ("region.colour",)) is None
        with pytest.raises(ValueError, match="choose another name"):
            register_column("image", Column(str, "a path"))
    finally:
        del COLUMNS["region.colour"]


def test_chance_depends_on_the_image_and_the_stage_alone() -> None:
    one = Sample(image_id="a", file="a", seed=5)
    assert one.random("x").random() == Sample(image_id="b", file="b", seed=5).random("x").random()
    assert (
        len({one.random("x").random(), one.random("y").random(), Sample(image_id="a", file="a").random("x").random()})
        == 3
    )
