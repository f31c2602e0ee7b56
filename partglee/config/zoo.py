"""Find, load and check configuration files."""

from __future__ import annotations

import ast
import contextlib
import difflib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import yaml
from fvcore.common.config import CfgNode as CN

from partglee.basics.files import parse_yaml, read_text
from partglee.config.defaults import DEFAULT_RECIPE, get_cfg
from partglee.config.habits import file_hint, key_hint

_PACKAGE = Path(__file__).resolve().parents[1]


class _File(CN):
    """A YAML file whose `_BASE_` is looked for beside it, then among the files of the zoo."""

    @classmethod
    def _open_cfg(cls, filename: str) -> IO[str]:
        asked = Path(os.path.normpath(filename))  # a base that came from the zoo names its own base by ../
        inside = [config_dir().joinpath(*asked.parts[-2:])]  # eval/coco_r50.yaml
        if asked.parent.is_dir():  # tiny.yaml; a folder that is not there is a mistake
            inside.append(config_dir() / asked.name)
        places = [place for place in (Path(filename), *inside) if place.is_file()] or [Path(filename)]
        where = f"configuration file '{places[0]}'"
        text = read_text(places[0], "configuration file")
        content = parse_yaml(text, where)  # fvcore reads the text again, but has no words for what is wrong in it
        if not isinstance(content, dict):
            raise ValueError(f"{where} must be a mapping of keys, got {content!r:.60}")
        base = content.get("_BASE_", [])
        if not all(isinstance(name, str) for name in (base if isinstance(base, list) else [base])):
            raise ValueError(f"{where}: _BASE_ must be the name of a file, or a list of them, got {base!r:.60}")
        return io.StringIO(text)


def config_dir() -> Path:
    """Folder of the YAML files: inside an installed package, or beside it in a checkout."""
    for folder in (_PACKAGE / "configs", _PACKAGE.parent / "configs"):
        if folder.is_dir():
            return folder
    raise ValueError(f"no configs/ inside or beside {_PACKAGE}; reinstall partglee")


def list_models() -> list[str]:
    """Names that `load_config`, `build_model` and `Predictor.from_config` accept."""
    root = config_dir()
    files = (f.relative_to(root).with_suffix("") for f in root.rglob("*.yaml"))
    return sorted(f.as_posix() for f in files if not f.name.startswith("_"))


def find_config(name: str | Path) -> Path:
    """A file's path, from a path or from a name of the zoo such as `joint_r50`."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        if path.is_file():
            return path
        inside = config_dir() / (path.relative_to("configs") if path.parts[:1] == ("configs",) else path)
        if inside.is_file():
            return inside
        raise ValueError(file_hint(str(name)) or f"no configuration file {name}; {models_near(path.stem)}")
    file = config_dir() / f"{name}.yaml"
    if file.is_file():
        return file
    in_zoo = bool(path.parts) and (config_dir() / path.parts[0]).is_dir()  # eval/coco is no name of a hub
    if hint := None if path.exists() or in_zoo else file_hint(str(name)):
        raise ValueError(hint)
    if (_PACKAGE / "weights" / f"{name}.safetensors").is_file():
        raise ValueError(
            f"{str(name)!r} are weights, which say their configuration; Predictor.from_pretrained and --weights take "
            "them, MODEL.WEIGHTS too"
        )
    raise ValueError(f"unknown model {str(name)!r}; {models_near(str(name))} A path must end in .yaml")


def models_near(name: str) -> str:
    """The nearest names of the zoo as a question, or where all of them are listed."""
    known = {model.lower().replace("-", "_"): model for model in list_models()}
    near = difflib.get_close_matches(name.lower().replace("-", "_"), known, n=3, cutoff=0.5)
    return f"did you mean {', '.join(known[key] for key in near)}?" if near else "`partglee info` lists what there is."


def load_config(name: str | Path, overrides: Sequence[Any] = (), *, defaults: Callable[[], CN] = get_cfg) -> CN:
    """Defaults, then the file with its `_BASE_` files, then `KEY VALUE` pairs.

    A `_BASE_` is a path relative to the file that names it, or the name of a file of the zoo, also for a file that lies
    in a project.

    Args:
        defaults: of the recipe that the file is for.

    Raises:
        ValueError: for a missing file, an unknown key (the nearest known one is named), a value of another type, or
            another `RECIPE` than that of the defaults.
    """
    file = find_config(name)
    return _filled(defaults(), _read(file), overrides, source=str(file))


def project_config(name: str | Path, overrides: Sequence[Any] = (), *, folder: Path, defaults: Callable[[], CN]) -> CN:
    """`load_config` of a file, or of a project's configuration by its name.

    Args:
        folder: of the project's configurations.
    """
    inside = folder / f"{name}.yaml"
    file = inside if Path(name).suffix == "" and inside.is_file() else name
    return load_config(file, overrides, defaults=defaults)


def recipe_in(name: str | Path, overrides: Sequence[Any] = ()) -> str:
    """Which recipe a configuration is for: its `RECIPE`, or that of the `KEY VALUE` pairs.

    Raises:
        ValueError: for a missing file, or one that cannot be read.
    """
    told = dict(zip(overrides[::2], overrides[1::2], strict=False))
    return str(told.get("RECIPE", _read(find_config(name)).get("RECIPE", DEFAULT_RECIPE)))


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(_File.load_yaml_with_base(str(file)))
    except RecursionError as error:
        raise ValueError(f"{file} is its own _BASE_, directly or through others; rename it") from error
    except (OSError, ValueError, AssertionError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error


def _filled(cfg: CN, values: dict[str, Any], overrides: Sequence[Any], *, source: str) -> CN:
    recipe = cfg.RECIPE
    if (said := values.get("RECIPE", recipe)) != recipe:
        reader = "the library's own Predictor" if said == DEFAULT_RECIPE else f"the project of {said!r}"
        raise ValueError(f"{source} is for the recipe {said!r}, not for {recipe!r}; {reader} reads it")
    merge_config(cfg, values, source=source)
    merge_overrides(cfg, overrides)
    if recipe != cfg.RECIPE:
        raise ValueError(f"RECIPE {cfg.RECIPE!r} does not fit the keys of {recipe!r}; leave it to the configuration")
    return cfg


def config_from_text(
    text: str, overrides: Sequence[Any] = (), *, source: str = "configuration", defaults: Callable[[], CN] = get_cfg
) -> CN:
    """Defaults, then what a weights file or `cfg.dump()` says, then `KEY VALUE` pairs.

    Args:
        source: what an error calls the text.
        defaults: of the recipe that the text is for.

    Raises:
        ValueError: as `load_config`.
    """
    loaded = parse_yaml(text, f"the configuration in {source}")
    if not isinstance(loaded, dict):
        raise ValueError(f"the configuration in {source} is no mapping, got {text[:60]!r}")
    loaded.setdefault("RECIPE", DEFAULT_RECIPE)  # weights of before there were others do not say it
    return _filled(defaults(), loaded, overrides, source=source)


def merge_config(cfg: CN, values: dict[str, Any], *, source: str) -> None:
    """Merge a nested dict into `cfg` in place."""
    known = {".".join(k) for k in _leaves(cfg)}
    for keys in _leaves(values):
        _check_key(".".join(keys), known, cfg, source)
    try:
        cfg.merge_from_other_cfg(CN(_widened(cfg, values)))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{source}: {error}") from error


def merge_overrides(cfg: CN, overrides: Sequence[Any]) -> None:
    """Merge `[KEY, VALUE, KEY, VALUE, ...]` into `cfg` in place.

    Text is read as Python (`['a', 'b']`, `1e-4`); a list also as YAML, or without brackets (`[a, b]`, `a,b`, `a`).

    Raises:
        ValueError: for an odd number of items, an unknown key or a value of another type.
    """
    if len(overrides) % 2:
        raise ValueError(f"overrides come in pairs KEY VALUE, got {len(overrides)} items: {list(overrides)}")
    known = {".".join(k) for k in _leaves(cfg)}
    for key in overrides[::2]:
        _check_key(str(key), known, cfg, "overrides")
    values = [str(v) if isinstance(v, Path) else v for v in overrides]
    for i in range(0, len(values), 2):
        values[i + 1] = _typed(str(values[i]), _default(cfg, str(values[i])), values[i + 1])
        if _default(cfg, str(values[i])) is None:
            _invent(cfg, str(values[i]))
    try:
        cfg.merge_from_list(values)
    except (ValueError, KeyError, AssertionError) as error:
        raise ValueError(f"overrides: {error}") from error


def _widened(default: Any, values: Any) -> Any:
    """The same values, whole numbers as floats where the default is one: 1 is a learning rate too."""
    if not isinstance(values, dict):
        return _as_float(default, values)
    known = default if isinstance(default, dict) else {}
    return {key: _widened(known.get(key), value) for key, value in values.items()}


def _default(cfg: CN, key: str) -> Any:
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _invent(cfg: CN, key: str) -> None:
    """Room for a new key below an open node, which `_check_key` let through: fvcore's lists take known keys alone."""
    node, last = cfg, key.rpartition(".")[2]
    for name in key.split(".")[:-1]:
        if not isinstance(node.setdefault(name, CN(new_allowed=True)), CN):
            raise ValueError(f"overrides: {key} lies below {name}, which is a value; name one of them alone")
        node = node[name]
    node.setdefault(last, None)


def _typed(key: str, default: Any, value: Any) -> Any:
    """An override as its key's type where text alone does not say it: lists of bare words, true and false, floats."""
    if isinstance(default, list) and isinstance(value, str):
        return _list_in(key, value)
    if isinstance(default, bool) and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    return _as_float(default, value)


def _list_in(key: str, text: str) -> list[Any]:
    value: Any = None
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        if text.strip():
            with contextlib.suppress(yaml.YAMLError):
                value = yaml.safe_load(text if text.strip().startswith("[") else f"[{text}]")
    if isinstance(value, str):  # one word in quotes
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError(f'overrides: {key} holds a list; type it as {key} "[A, B]", or "[]" for none, got {text!r}')
    return list(value)


def _as_float(default: Any, value: Any) -> Any:
    whole = type(value) is int or (isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]+", value))
    return float(value) if isinstance(default, float) and whole else value


def _leaves(node: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*prefix, str(key)))
        else:
            yield (*prefix, str(key))


def _check_key(key: str, known: set[str], cfg: CN, source: str) -> None:
    if key in known or any(key.startswith(f"{k}.") for k in known if _is_open(cfg, k)):
        return
    if hint := key_hint(key):
        raise ValueError(f"{source}: unknown key {key}; {hint}")
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)
    raise ValueError(f"{source}: unknown key {key}; the nearest known one is {near[0]}")


def _is_open(cfg: CN, key: str) -> bool:
    """True for the nodes in which files may invent keys."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return isinstance(node, CN) and node.is_new_allowed()
