"""Names in a COCO-style file: of image files, of objects and parts; and which label of a vocabulary a category has."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.names import name_key
from partglee.structures import Vocabulary

_log = logging.getLogger(__name__)


def split_part_name(name: str, object_names: Sequence[str] = ()) -> tuple[str, str] | None:
    """`dog:head`, `dog's head` (first `'s`) or `Quadruped Head` (with object_names) -> (object, part); else None."""
    for separator in (":", "'s "):
        before, found, after = name.partition(separator)
        if found and before and after:
            return before, after
    for known in sorted(object_names, key=len, reverse=True):
        if name.casefold().startswith(known.casefold() + " "):
            return known, name[len(known) + 1 :]
    return None


def is_part_category(entry: Mapping[str, Any], object_names: Sequence[str] = ()) -> bool:
    """Level of a COCO category: its `level` ("object", "part"), PACO's `supercategory`, or else how its name splits."""
    level = str(entry.get("level") or entry.get("supercategory") or "")
    if re.fullmatch("object|part", level, re.IGNORECASE):
        return level.lower() == "part"
    return split_part_name(entry["name"], object_names) is not None


def image_file_name(entry: Mapping[str, Any]) -> str:
    """File name relative to the image folder.

    LVIS names files by their address, of which the last folder says in which COCO split they lie. Copies of its files
    with a `file_name` beside it have a bare name (`000000397133.jpg`), or one of COCO 2014 that no folder of 2017 has.

    Raises:
        KeyError: when there is neither a name nor an address.
    """
    name = str(entry.get("file_name") or "")
    if not name or ("neg_category_ids" in entry and "/" not in name and entry.get("coco_url")):
        return "/".join(str(entry["coco_url"]).split("/")[-2:])
    return name


class CategoryLabels(NamedTuple):
    """K categories of a file."""

    vocabulary: Vocabulary
    is_part: NDArray[np.bool_]  # (K,)
    label: NDArray[np.int64]  # (K,) object row or part column of the vocabulary, -1 where it does not have the name


def label_categories(categories: Sequence[Mapping[str, Any]], vocabulary: Vocabulary | None) -> CategoryLabels:
    """Find the label of every category; without a vocabulary, make the one that the categories describe.

    A part belongs to the object that its name begins with (`dog:head`), or to those that its `owners` lists. One whose
    category does not say belongs to the only object; where there are several, parts of this kind are shared by all.

    Raises:
        ValueError: for categories that no vocabulary can be made of, or none of which is in the one given.
    """
    entries = sorted(enumerate(categories), key=lambda pair: pair[1]["id"])
    known = () if vocabulary is None else vocabulary.object_names
    parts = {row for row, entry in entries if is_part_category(entry, known)}
    objects = [(row, entry) for row, entry in entries if row not in parts]
    names = (*known, *(entry["name"] for _, entry in objects))
    pairs = {row: _split(entry, names) for row, entry in entries if row in parts}
    if vocabulary is None:
        vocabulary = _make(objects, [(categories[row], pair) for row, pair in pairs.items()])
    label = np.full(len(categories), -1, np.int64)
    rows = {name_key(name): row for row, name in enumerate(vocabulary.object_names)}
    for row, entry in objects:
        label[row] = rows.get(name_key(entry["name"]), -1)
    columns = _part_columns(vocabulary)
    for row, (owner, part) in pairs.items():
        label[row] = columns.get((None if owner is None else name_key(owner), name_key(part)), -1)
    absent = [entry["name"] for row, entry in entries if label[row] < 0]
    if len(absent) == len(categories):
        raise ValueError(
            f"none of the file's categories ({', '.join(absent[:5])}, ...) is in the data set's vocabulary "
            f"{vocabulary!r}; give the vocabulary of this file, or none"
        )
    if absent:
        _log.warning(
            "annotations of %d categories are left out, the vocabulary does not have them: %s",
            len(absent), ", ".join(absent[:8]) + (", ..." if len(absent) > 8 else ""),
        )  # fmt: skip
    flags = np.array([row in parts for row in range(len(categories))], bool)
    return CategoryLabels(vocabulary=vocabulary, is_part=flags, label=label)


def objects_above(parent: NDArray[np.int64], is_part: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The object that each part belongs to, through parts of parts; links in a circle lead nowhere.

    Args:
        parent: (M,) row that each of M annotations is linked to, -1 without.
        is_part: (M,).

    Returns:
        (M,) row of an object, -1 without.
    """
    for _ in range(4):  # each round doubles the steps that a link spans: 16 levels in all
        through = (parent >= 0) & is_part[parent]
        if not through.any():
            break
        parent = np.where(through, parent[parent], parent)
    return np.where((parent >= 0) & is_part[parent], -1, parent)


def _split(entry: Mapping[str, Any], object_names: Sequence[str]) -> tuple[str | None, str]:
    """(object, part); (None, name) where the name alone does not say the object."""
    name = entry["name"]
    return (None, name) if "owners" in entry else split_part_name(name, object_names) or (None, name)


def _part_columns(vocabulary: Vocabulary) -> dict[tuple[str | None, str], int]:
    """(object, part) -> column; (None, part) where one column alone has that part name or reads like it."""
    columns: dict[tuple[str | None, str], int] = {}
    plain: dict[str, set[int]] = {}
    for column, (part, owners) in enumerate(zip(vocabulary.part_names, vocabulary.part_owner, strict=True)):
        for owner in owners:
            columns[name_key(vocabulary.object_names[owner]), name_key(part)] = column
        for text in (part, vocabulary.part_prompts[column]):
            plain.setdefault(name_key(text), set()).add(column)
    return {**{(None, text): min(found) for text, found in plain.items() if len(found) == 1}, **columns}


def _make(
    objects: Sequence[tuple[int, Mapping[str, Any]]],
    parts: Sequence[tuple[Mapping[str, Any], tuple[str | None, str]]],
) -> Vocabulary:
    names = {name_key(entry["name"]): entry["name"] for _, entry in objects}
    for entry, (owner, _) in parts:
        for name in entry.get("owners", ()) if owner is None else [owner]:
            names.setdefault(name_key(name), name)
    free = [part for _, (owner, part) in parts if owner is None]
    if not names:
        names = {"object": "object"}
    if free and len(names) > 1 and len(free) < len(parts):
        raise ValueError(
            f"some part categories name their object and some ({', '.join(free[:3])}) do not; rename these to "
            "'object:part', or give the data set a vocabulary"
        )
    table: dict[str, list[str]] = {name: [] for name in names.values()}

    def owners(entry: Mapping[str, Any], owner: str | None) -> list[str]:
        listed = entry.get("owners", ()) if owner is None else [owner]
        return [names[name_key(name)] for name in listed] or list(table)

    for entry, (owner, part) in parts:
        for name in owners(entry, owner):
            table[name].append(part)
    shared = bool(free) and len(names) > 1
    prompts: dict[Any, str] = {entry["name"]: str(entry["prompt"]) for _, entry in objects if entry.get("prompt")}
    for entry, (owner, part) in parts:
        if entry.get("prompt"):
            for name in owners(entry, owner):
                prompts[name, part] = str(entry["prompt"])
    return Vocabulary(table, part_format="{part}" if shared else "{object} {part}", prompts=prompts)
