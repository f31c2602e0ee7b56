"""Configuration: defaults with a comment for each key, and the files of the zoo."""

from partglee.config.defaults import get_cfg
from partglee.config.zoo import (
    config_dir,
    config_from_text,
    find_config,
    list_models,
    load_config,
    merge_overrides,
)

__all__ = [
    "config_dir",
    "config_from_text",
    "find_config",
    "get_cfg",
    "list_models",
    "load_config",
    "merge_overrides",
]
