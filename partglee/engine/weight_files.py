"""Where weight files lie, and what they say of themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from partglee.basics.files import parse_yaml
from partglee.basics.names import nearest
from partglee.checkpoint import CONFIG_NAME as CONFIG_NAME
from partglee.checkpoint import read_metadata
from partglee.config import DEFAULT_RECIPE, config_from_text, get_cfg, load_config, models_near
from partglee.config.habits import file_hint

# Metadata of weight files beside CONFIG_NAME: the text of their configuration; the names of a name table; the tokenizer
# of a BERT, as `tokenizer.json` has it.
CONFIG_TEXT, TABLE_NAMES, WORDS = "partglee_config_text", "names", "partglee_words"
# Beginnings of keys that nothing reads after training: the text tower that one stays near, the head of a dense teacher.
TRAINING_ONLY = ("text_encoder.teacher.", "object_decoder.dense_head.")
TABLE_KEY = "embeddings"  # tensor of a name table, in a file of its own or among weights
_SHIPPED = Path(__file__).resolve().parents[1] / "weights"


def weights_dir() -> Path:
    """Where named weights are looked for."""
    return Path(os.environ.get("PARTGLEE_WEIGHTS", Path.home() / ".cache" / "partglee"))


def named_weights() -> tuple[str, ...]:
    """Names of weights that are there: those that ship with the library, and those of `weights_dir`."""
    return tuple(sorted({file.stem for folder in (_SHIPPED, weights_dir()) for file in folder.glob("*.safetensors")}))


def find_weights(name: str | Path) -> Path:
    """The weights file for a path or for a model's name."""
    path = Path(name)
    if hint := None if path.exists() else file_hint(str(name)):
        raise ValueError(hint)
    if path.suffix in (".pth", ".pt", ".pkl"):
        raise ValueError(
            f"{path} is a torch file; convert it first: partglee convert --from partglee {path} OUT.safetensors"
        )
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise ValueError(f"no weights file {path}")
        return path
    places = [_SHIPPED / f"{name}.safetensors", weights_dir() / f"{name}.safetensors"]
    for file in places:
        if file.is_file():
            return file
    if path.is_file():
        raise ValueError(
            f"{path} is no weights file: those end in .safetensors, as `partglee convert`, `partglee export` and "
            "training write them"
        )
    if path.is_dir():
        inside = sorted(file.name for file in path.glob("*.safetensors"))
        raise ValueError(f"{path} is a folder; name one of its files: {', '.join(inside) or 'it has no .safetensors'}")
    ready = named_weights()
    raise ValueError(
        f"no weights for {str(name)!r}: {places[-1]} does not exist{nearest(str(name), ready) or '.'} Ready: "
        f"{', '.join(ready) or 'none'}. MODEL_ZOO.md says where the released weights are and how to convert them; of "
        f"configurations, {models_near(str(name))}"
    )


def find_table(name: str | Path) -> Path:
    """The name table for `MODEL.TEXT.TABLE.FILE`: a file, or the name of exported weights, which carry one."""
    path = Path(name)
    return path if path.is_file() or path.suffix else find_weights(name)


def recipe_of(file: str | Path) -> str | None:
    """The recipe that a weights file says it is of; None where it does not say its configuration."""
    text = read_metadata(file).get(CONFIG_TEXT)
    if text is None:
        return None
    told = parse_yaml(text, f"the configuration in {file}")
    return str(told.get("RECIPE", DEFAULT_RECIPE)) if isinstance(told, dict) else None


def config_of(file: str | Path, overrides: Sequence[Any] = (), *, defaults: Callable[[], CN] = get_cfg) -> CN:
    """The configuration that a weights file says it belongs to, by its text or by its name in the zoo.

    Args:
        overrides: `[KEY, VALUE, ...]` on top.
        defaults: keys that the configuration may have, of its recipe.

    Raises:
        ValueError: when it says none.
    """
    metadata = read_metadata(file)
    if CONFIG_TEXT in metadata:
        return config_from_text(metadata[CONFIG_TEXT], overrides, source=str(file), defaults=defaults)
    if CONFIG_NAME not in metadata:
        raise ValueError(
            f"{file} does not say which configuration it belongs to; "
            "use Predictor.from_config(CONFIG, weights=...) instead"
        )
    return load_config(metadata[CONFIG_NAME], overrides, defaults=defaults)
