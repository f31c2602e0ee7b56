"""Values in annotation files as other tools write them: ids as floats, yes and no as text; or what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

LARGEST = 2**63 - 1  # id
_IDS = {
    "images": ("id",),
    "categories": ("id",),
    "annotations": ("id", "image_id", "category_id", "parent_id", "obj_ann_id"),
}
_NO = (None, False, 0, "", "0", "0.0", "false", "no", "none", "null")
_YES = (True, 1, "1", "1.0", "true", "yes")


_LONGEST_NAME = 255


def whole(value: Any, what: str) -> int:
    """A whole number as files of any tool have it: `7` or `7.0`.

    Raises:
        ValueError: for anything else, and for what does not fit 63 bits.
    """
    if type(value) is int and -LARGEST <= value <= LARGEST:
        return value
    if isinstance(value, float) and _is_whole(value):
        return int(value)
    told = f"a number of {len(f'{value:x}') * 4} bits" if type(value) is int else f"{value!r:.40}"
    raise ValueError(f"{what} must be a whole number (an integer of at most 63 bits), got {told}")


def flag(value: Any, what: str) -> bool:
    """Yes or no as files of any tool have it: 0, 1, false, true, null, also as text.

    Raises:
        ValueError: for anything else: taken for true it would leave the annotation out of training.
    """
    plain = value.strip().lower() if isinstance(value, str) else value
    if isinstance(plain, (bool, int, float, str, type(None))):
        if plain in _NO:
            return False
        if plain in _YES:
            return True
    raise ValueError(f"{what} must be 0 or 1, got {value!r:.40}")


def text_of(value: Any, what: str) -> str:
    """Text that can be written and named; ValueError for another type, for NUL and for halves of characters."""
    if not isinstance(value, str):
        raise ValueError(f"{what} must be text, got {value!r:.40} ({type(value).__name__})")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{what} {value[:40]!a} holds a NUL, or half of a character")
    return value


def file_name_of(value: Any, what: str) -> str:
    """Text that a disk takes as a path; ValueError for what is none, and for a part longer than 255 bytes, which the
    system would not even look for."""
    name = text_of(value, what)
    longest = max(len(part.encode()) for part in name.replace("\\", "/").split("/"))
    if longest > _LONGEST_NAME:
        raise ValueError(
            f"{what} {name[:40]!r}... has a part of {longest} bytes; no disk takes more than {_LONGEST_NAME}"
        )
    return name


def plain_ids(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """Content of an annotation file whose ids are whole numbers of Python, where they are written as floats.

    What is no whole number stays as it is; lists without such ids are handed on, not copied.
    """
    changed: dict[str, Any] = {}
    for key, names in _IDS.items():
        entries = content.get(key)
        if isinstance(entries, (list, tuple)) and _may_have_floats(entries, names):
            floats = {place: found for place, entry in enumerate(entries) if (found := _floats(entry, names))}
            if floats:
                changed[key] = list(entries)
            for place, found in floats.items():
                changed[key][place] = {**entries[place], **found}
    return {**content, **changed} if changed else content


def _may_have_floats(entries: Sequence[Any], names: Iterable[str]) -> bool:
    if not set(map(type, entries)) <= {dict}:
        return True
    kinds = {type(entry.get(name)) for name in names for entry in entries}
    return any(issubclass(kind, float) for kind in kinds)


def _floats(entry: Any, names: Iterable[str]) -> dict[str, int]:
    """The ids of an entry that are floats, as whole numbers."""
    values = {name: entry.get(name) for name in names} if isinstance(entry, Mapping) else {}
    return {name: int(value) for name, value in values.items() if isinstance(value, float) and _is_whole(value)}


def _is_whole(value: float) -> bool:
    return value.is_integer() and abs(value) < 2**53
