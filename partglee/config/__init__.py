"""Configuration: defaults with a comment for each key, and the files of the zoo."""

from partglee.config.defaults import DEFAULT_RECIPE, get_cfg, run_defaults
from partglee.config.zoo import (
    config_dir,
    config_from_text,
    find_config,
    list_models,
    load_config,
    merge_overrides,
    models_near,
    project_config,
    recipe_in,
)

__all__ = [
    "DEFAULT_RECIPE",
    "config_dir",
    "config_from_text",
    "find_config",
    "get_cfg",
    "list_models",
    "load_config",
    "merge_overrides",
    "models_near",
    "project_config",
    "recipe_in",
    "run_defaults",
]
