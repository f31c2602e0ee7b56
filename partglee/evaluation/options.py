"""Checks of evaluators' arguments, which come from command lines as often as from code: ValueError in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def check_count(name: str, value: Any, *, least: int = 1) -> None:
    """A whole number."""
    if not _is_whole(value) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def check_classes(name: str, value: Any, count: int) -> None:
    """A list of class numbers below `count`."""
    if not _is_list(value) or not all(_is_whole(k) and 0 <= k < count for k in value):
        raise ValueError(f"{name} must be a list of whole numbers from 0 to {count - 1}, got {value!r}")


def check_number(name: str, value: Any, *, least: float = 0.0, most: float = float("inf")) -> None:
    """A number between two others."""
    is_number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not is_number or not least <= value <= most:
        span = f" from {least:g} to {most:g}" if most < float("inf") else f" of at least {least:g}"
        raise ValueError(f"{name} must be a number{'' if least == -float('inf') else span}, got {value!r}")


def check_numbers(name: str, value: Any, *, most: float = float("inf")) -> None:
    """A list of numbers from 0 on."""
    if not _is_list(value):
        raise ValueError(f"{name} must be a list of numbers, such as [0.5, 0.7], got {value!r}")
    for number in value:
        check_number(f"each of {name}", number, most=most)


def check_flag(name: str, value: Any) -> None:
    """True or false."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be true or false, got {value!r}")


def check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    """One of some words."""
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")


def check_choices(name: str, value: Any, known: Sequence[str]) -> None:
    """A list of some words, not empty."""
    if not _is_list(value) or not len(value) or any(entry not in known for entry in value):
        raise ValueError(f"{name} must be a list of {' and '.join(known)}, such as [{known[0]}], got {value!r}")


def check_names(name: str, value: Any) -> None:
    """A list of names."""
    if not _is_list(value) or not all(isinstance(entry, str) for entry in value):
        raise ValueError(f"{name} must be a list of names, such as [dog, cat], got {value!r}")


def check_groups(name: str, value: Any) -> None:
    """A mapping of words to lists of names."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be groups of names, such as {{base: [dog, cat], novel: [bus]}}, got {value!r}")
    for key, names in value.items():
        check_names(f"{name}, {key}", names)


def _is_whole(value: Any) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _is_list(value: Any) -> bool:
    return isinstance(value, (Sequence, set, frozenset, np.ndarray)) and not isinstance(value, (str, bytes))
