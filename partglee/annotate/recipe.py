"""A recipe: the short list of stages in one YAML file, and what is wrong with it before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partglee.annotate.columns import known_column
from partglee.annotate.stage import Stage, build_stage
from partglee.annotate.tables import FORMS
from partglee.basics.files import read_yaml
from partglee.basics.names import nearest

RECIPES = Path(__file__).parent / "recipes"
ALWAYS = ("image", "size")  # of every image that was read


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Stages in order, and how their work is cut and kept."""

    name: str
    stages: tuple[Stage, ...]
    seed: int = 0
    shard_size: int = 64  # images that are begun, written and lost together
    time_limit: float = 300.0  # seconds that one image may take in one stage
    tables: str = "parquet"  # or "lance"; "jsonl" needs no further library
    webdataset: bool = False  # tars of images with their regions beside the tables

    def identity(self) -> dict[str, Any]:
        """Everything that decides the rows, as JSON. Time limits and resources are left out: they may be mended."""
        return {
            "name": self.name, "seed": self.seed, "shard_size": self.shard_size, "tables": self.tables,
            "webdataset": self.webdataset, "stages": [stage.identity() for stage in self.stages],
        }  # fmt: skip

    def check(self, given: Sequence[str]) -> None:
        """Raises ValueError for the first stage whose columns the reader (`given`) and the stages before it do not
        give."""
        there = {*ALWAYS, *given}
        for place, stage in enumerate(self.stages):
            inputs, outputs = stage.columns()
            for column in (*inputs, *outputs):
                known_column(column)
            if lacking := [column for column in inputs if column not in there]:
                later = [
                    other.name for other in self.stages[place + 1 :] if set(lacking) <= {*there, *other.columns()[1]}
                ]
                hint = f"move {later[0]!r} before it" if later else f"put a stage that gives {lacking[0]} before it"
                raise ValueError(
                    f"stage {stage.name!r} of recipe {self.name!r} needs {', '.join(lacking)}, which neither the input "
                    f"nor a stage before it gives (there are {', '.join(sorted(there))}); {hint}"
                )
            there |= set(outputs)


def list_recipes() -> tuple[str, ...]:
    """Names of the recipes that come with the library."""
    return tuple(sorted(file.stem for file in RECIPES.glob("*.yaml")))


def read_recipe(recipe: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """A recipe by name, from a YAML file, or from its content.

    Args:
        overrides: `STAGE.KEY=VALUE` or `KEY=VALUE`, the value as YAML.

    Raises:
        ValueError: for an unknown name, key or stage, with the nearest known ones.
    """
    content, source = _content(recipe)
    content = {**content, "stages": [dict(entry) for entry in _entries(content, source)]}
    for entry in overrides:
        _override(content, entry)
    known = ("name", "seed", "shard_size", "time_limit", "tables", "webdataset", "stages", "about")
    for key in content:
        if key not in known:
            raise ValueError(f"{source}: no key {key!r}{nearest(key, known) or ';'} a recipe has {', '.join(known)}")
    stages: list[Stage] = []
    for entry in content["stages"]:
        kind, name, enabled = entry.pop("stage"), entry.pop("name"), entry.pop("enabled", True)
        if not isinstance(enabled, bool):
            raise ValueError(f"{source}: enabled of stage {name!r} must be true or false, got {enabled!r}")
        if enabled:
            stages.append(build_stage(kind, name, entry))
    values = {key: value for key, value in content.items() if key not in ("stages", "about", "name")}
    _check_values(values, source)
    return Recipe(name=str(content.get("name", source)), stages=tuple(stages), **values)


def _content(recipe: str | Path | Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    if isinstance(recipe, Mapping):
        return dict(recipe), "recipe"
    file = RECIPES / f"{recipe}.yaml" if str(recipe) in list_recipes() else Path(recipe)
    if not file.is_file():
        raise ValueError(
            f"no recipe {str(recipe)!r}{nearest(str(recipe), list_recipes()) or ';'} name a YAML file or one of "
            f"{', '.join(list_recipes())}"
        )
    content = read_yaml(file, "recipe")
    if not isinstance(content, Mapping):
        raise ValueError(f"recipe {file} must be a mapping with `stages`, got {type(content).__name__}")
    return {"name": file.stem, **content}, f"recipe {file}"


def _entries(content: Mapping[str, Any], source: str) -> list[dict[str, Any]]:
    entries = content.get("stages")
    if not isinstance(entries, Sequence) or isinstance(entries, str) or not entries:
        raise ValueError(f"{source}: `stages` must be a list such as [{{stage: detect, weights: partglee-tiny}}]")
    named: list[dict[str, Any]] = []
    for place, entry in enumerate(entries):
        if isinstance(entry, str):
            entry = {"stage": entry}
        if not isinstance(entry, Mapping) or not isinstance(entry.get("stage"), str):
            raise ValueError(f"{source}: stage {place} must be {{stage: NAME, KEY: VALUE}}, got {entry!r:.80}")
        name = str(entry.get("name", entry["stage"]))
        if any(name == other["name"] for other in named):
            raise ValueError(f"{source}: two stages are called {name!r}; give one of them a `name`")
        named.append({**entry, "name": name})
    return named


def _override(content: dict[str, Any], text: str) -> None:
    from partglee.basics.files import parse_yaml

    key, separator, value = text.partition("=")
    if not separator:
        raise ValueError(f"--set {text}: write STAGE.KEY=VALUE, or KEY=VALUE for the recipe itself")
    parsed = parse_yaml(value, f"--set {key}")
    stage, dot, inner = key.partition(".")
    if not dot:
        if key == "stages":
            raise ValueError(
                f"--set {text}: write the list of stages in a YAML file; --set STAGE.enabled=false drops one"
            )
        content[key] = parsed
        return
    names = [entry["name"] for entry in content["stages"]]
    if stage not in names:
        raise ValueError(f"--set {text}: the recipe has no stage {stage!r}; it has {', '.join(names)}")
    content["stages"][names.index(stage)][inner] = parsed


def _check_values(values: Mapping[str, Any], source: str) -> None:
    for key, least in (("seed", 0), ("shard_size", 1)):
        value = values.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{source}: {key} must be a whole number of at least {least}, got {value!r}")
    limit = values.get("time_limit", 1.0)
    if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0:
        raise ValueError(f"{source}: time_limit must be seconds above 0, got {limit!r}")
    if values.get("tables", "parquet") not in tuple(FORMS):
        raise ValueError(f"{source}: tables must be one of {', '.join(FORMS)}, got {values['tables']!r}")
    if not isinstance(values.get("webdataset", False), bool):
        raise ValueError(f"{source}: webdataset must be true or false, got {values['webdataset']!r}")
