"""The stages of the library, registered by name; a module is imported when a recipe uses it."""

from __future__ import annotations

from importlib import import_module

from partglee.annotate.stage import Stage, register_stage

_CLASSES = {
    "detect": "detect.Detect",
    "masks": "masks.Masks",
    "vocabulary": "vocabulary.AddVocabulary",
    "caption": "caption.Caption",
    "filter_clip": "clip_score.FilterClip",
    "filter_listener": "listener.FilterListener",
    "filter_size": "filters.FilterSize",
    "filter_score": "filters.FilterScore",
    "filter_stability": "filters.FilterStability",
    "filter_duplicates": "filters.FilterDuplicates",
    "levels": "tree.Levels",
    "mask_tree": "tree.MaskTree",
    "describe": "describe.Describe",
    "sleep": "standins.Sleep",
    "invent": "standins.Invent",
}


def _loader(place: str) -> type[Stage]:
    module, _, name = place.partition(".")
    found: type[Stage] = getattr(import_module(f"partglee.annotate.stages.{module}"), name)
    return found


def register_all() -> None:
    """Make the library's stages known; those that a user replaced stay."""
    from functools import partial

    from partglee.annotate.stage import list_stages

    for kind, place in _CLASSES.items():
        if kind not in list_stages():
            register_stage(kind, partial(_loader, place))
