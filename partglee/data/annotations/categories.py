"""Names in a COCO-style file: of image files, of objects and parts; and which label of a vocabulary a category has."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
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


def has_levels(categories: Sequence[Mapping[str, Any]], *, linked: bool) -> bool:
    """Whether a file means a hierarchy. One that does not has objects alone, and their names are what it says.

    It does where a category has a level or owners, where an annotation has a parent, and where names of the form
    `object:part` say it: they are the only ones, as in Pascal-Part's own file, or have their objects beside them.

    Args:
        linked: an annotation names its parent.
    """
    said = linked or any(
        "owners" in entry or entry.get("level") or str(entry.get("supercategory")).lower() == "part"
        for entry in categories
    )
    names = {name_key(entry["name"]) for entry in categories}
    colons = [entry["name"] for entry in categories if ":" in entry["name"]]
    pairs = [name for name in colons if re.fullmatch(r"[^:]*\w:\w[^:]*", name)]
    beside = bool(pairs) and pairs == colons and all(name_key(name.split(":")[0]) in names for name in pairs)
    return said or beside or len(pairs) == len(categories) > 1


def is_part_category(entry: Mapping[str, Any], object_names: Sequence[str] = (), *, split: bool = True) -> bool:
    """Level of a COCO category: its `level` ("object", "part"), PACO's `supercategory`, or else how its name splits.

    Args:
        object_names: names that are objects as they stand, and by which `Quadruped Head` splits.
        split: False: names do not split; the file means no hierarchy (`has_levels`).
    """
    level = str(entry.get("level") or entry.get("supercategory") or "")
    if re.fullmatch("object|part", level, re.IGNORECASE):
        return level.lower() == "part"
    if not split or name_key(entry["name"]) in _keys(tuple(object_names)):
        return False
    return split_part_name(entry["name"], object_names) is not None


def part_pair(entry: Mapping[str, Any], object_names: Sequence[str] = ()) -> tuple[str, str] | None:
    """(object, part) of a part category: by its one owner and what follows, or else how its name splits."""
    if "owners" not in entry:
        return split_part_name(entry["name"], object_names)
    owners = entry["owners"]
    if len(owners) == 1 and entry["name"].startswith(f"{owners[0]}:") and len(entry["name"]) > len(owners[0]) + 1:
        return owners[0], entry["name"][len(owners[0]) + 1 :]
    return None


def tell_split(categories: Sequence[Mapping[str, Any]], is_part: Sequence[bool], *, split: bool) -> None:
    """Say in the log which names were split without a word of the file, or were not though they look like it."""
    silent = [(entry["name"], flag) for entry, flag in zip(categories, is_part, strict=True) if not _says_level(entry)]
    if halved := [name for name, flag in silent if flag]:
        _log.warning(
            "%d categories are parts by their names alone, such as %r; write \"level\": \"part\" or \"object\" to say",
            len(halved), halved[0],
        )  # fmt: skip
    elif not split and (colons := [name for name, _ in silent if ":" in name.strip(":")]):
        _log.warning(
            "%d category names with ':' are read as they are, such as %r: nothing in the file has a `level` or a "
            "`parent_id`; write \"level\": \"part\" where a part is meant", len(colons), colons[0],
        )  # fmt: skip


@lru_cache(maxsize=4)
def _keys(names: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(name_key, names))


def _says_level(entry: Mapping[str, Any]) -> bool:
    level = str(entry.get("level") or entry.get("supercategory") or "")
    return re.fullmatch("object|part", level, re.IGNORECASE) is not None


def image_file_name(entry: Mapping[str, Any]) -> str:
    """File name relative to the image folder, with `/` between its parts (tools on Windows write `\\`).

    LVIS names files by their address, of which the last folder says in which COCO split they lie. Copies of its files
    with a `file_name` beside it have a bare name (`000000397133.jpg`), or one of COCO 2014 that no folder of 2017 has.

    Raises:
        KeyError: when there is neither a name nor an address.
    """
    name = str(entry.get("file_name") or "").replace("\\", "/")
    if not name or ("neg_category_ids" in entry and "/" not in name and entry.get("coco_url")):
        return "/".join(str(entry["coco_url"]).split("/")[-2:])
    return name


class CategoryLabels(NamedTuple):
    """K categories of a file."""

    vocabulary: Vocabulary
    is_part: NDArray[np.bool_]  # (K,)
    label: NDArray[np.int64]  # (K,) object row or part column of the vocabulary, -1 where it does not have the name


def label_categories(
    categories: Sequence[Mapping[str, Any]],
    vocabulary: Vocabulary | None,
    *,
    linked: bool = False,
    used: Collection[int] | None = None,
) -> CategoryLabels:
    """Find the label of every category; without a vocabulary, make the one that the categories describe.

    Names split into object and part only where the file means a hierarchy (`has_levels`) or the vocabulary has parts.
    Of categories with one name (case and white space do not count) those without annotations share the label of the
    first; each other one has its own, whose name then ends with its id.

    A part belongs to the object that its name begins with (`dog:head`), or to those that its `owners` lists. One whose
    category does not say belongs to the only object; where there are several, parts of this kind are shared by all.

    Args:
        linked: an annotation of the file names its parent.
        used: rows of categories that have annotations; None = all.

    Raises:
        ValueError: for categories that no vocabulary can be made of, or none of which is in the one given.
    """
    entries = sorted(enumerate(categories), key=lambda pair: pair[1]["id"])
    known = () if vocabulary is None else vocabulary.object_names
    split = has_levels(categories, linked=linked) or (vocabulary is not None and bool(vocabulary.part_names))
    flags = np.array([is_part_category(entry, known, split=split) for entry in categories], bool)
    tell_split(categories, flags.tolist(), split=split)
    parts = set(np.flatnonzero(flags).tolist())
    objects = [(row, entry) for row, entry in entries if row not in parts]
    if vocabulary is None:
        objects = _told_apart(objects, range(len(categories)) if used is None else used)
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
    if not categories:
        raise ValueError("the annotation file lists no categories, so it names nothing that is annotated")
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
    return part_pair(entry, object_names) or (None, entry["name"])


def _told_apart(
    objects: Sequence[tuple[int, Mapping[str, Any]]], used: Collection[int]
) -> list[tuple[int, Mapping[str, Any]]]:
    """Object categories whose names differ, but for those without annotations."""
    groups: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for row, entry in objects:
        groups.setdefault(name_key(entry["name"]), []).append((row, entry))
    names: dict[int, str] = {}
    for group in groups.values():
        annotated = [row for row, _ in group if row in used]
        for row, entry in group:
            if row in annotated[1:]:
                names[row] = f"{entry['name']} ({entry['id']})"
        if len(group) > 1:
            _log.warning(
                "categories %s have one name, case and white space apart (%r): %s",
                ", ".join(str(entry["id"]) for _, entry in group), group[0][1]["name"],
                "each keeps its own label, and no model can tell them by name" if len(annotated) > 1
                else "they share a label, since one alone has annotations",
            )  # fmt: skip
    return [
        (row, {**entry, "name": names[row], "prompt": entry.get("prompt") or entry["name"]} if row in names else entry)
        for row, entry in objects
    ]


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
