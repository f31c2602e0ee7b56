"""From the names and labels of a `Prediction` to the category ids of an annotation file."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from partglee.basics.names import humanise, name_key
from partglee.evaluation.ground_truth import GroundTruth, split_part_name
from partglee.structures import Vocabulary


class CategoryMap:
    """Finds the category id of each row of a prediction.

    A row's category is looked up by: explicit ids of its label, if given; for parts (object, part), where the object is
    the one that the row names (`object`), or else the vocabulary's if the part column has one owner, or else the
    predicted parent; the category whose full name is the row's name; a part without an object, or whose parent is of a
    category that has no such part, by its own name where one category alone has it. Case and white space do not count;
    neither do `_` and LVIS qualifiers (`car_(automobile)`) where that leaves one category.

    Args:
        ground_truth: annotations with the categories.
        object_category_ids, part_category_ids: category id of each label.
        vocabulary: the one the predictions were made with.
    """

    def __init__(
        self,
        *,
        ground_truth: GroundTruth,
        object_category_ids: Sequence[int] | Mapping[int, int] | None = None,
        part_category_ids: Sequence[int] | Mapping[int, int] | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self._ids = {"object": object_category_ids, "part": part_category_ids}
        self._vocabulary = vocabulary
        categories = ground_truth.categories
        objects = [name for name, part in zip(categories.names, categories.is_part, strict=True) if not part]
        named: list[tuple[tuple[str, ...], int]] = []
        parts: list[tuple[tuple[str, ...], int]] = []
        for key, name, is_part, owner, part in zip(
            categories.ids.tolist(), categories.names, categories.is_part, categories.owner, categories.part,
            strict=True,
        ):  # fmt: skip
            named.append(((name,), key))
            if not is_part:
                continue
            pair = (owner, part) if owner is not None else split_part_name(name, objects)
            if pair is not None and pair[1] is not None:
                named.append(((pair[0], pair[1]), key))
                parts.append(((pair[1],), key))
        # Where one of several categories of a name has annotations, the name means that one.
        annotated = {int(categories.ids[column]) for column in np.unique(ground_truth.category)}
        self._named = _Names(named, annotated)
        self._parts = _Names(parts, annotated)

    def category_id(
        self, *, level: str, label: int, name: str, parent_name: str | None, object_name: str | None = None
    ) -> int | None:
        """Category id of one row, None when there is none."""
        table = self._ids[level]
        if table is not None:
            known = table.get(label) if isinstance(table, Mapping) else (table[label] if label < len(table) else None)
            return None if known is None or known < 0 else int(known)
        if level == "object":
            return self._named.find(name)
        said = object_name or self._owner(label)
        owner = said or parent_name
        category = None if owner is None else self._named.find(owner, name)
        if category is None:
            category = self._named.find(name)
        # A parent may be an object that has no such part: then it says nothing about the part's category.
        if category is None and said is None and (owner is None or self._named.find(owner) is not None):
            category = self._parts.find(name)
        return category

    def _owner(self, label: int) -> str | None:
        if self._vocabulary is None:
            return None
        owners = self._vocabulary.part_owner[label]
        return self._vocabulary.object_names[owners[0]] if len(owners) == 1 else None

    def translate(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows as `Prediction.to_coco` writes them without category ids (a row without `label` has it in
        `category_id`)."""
        names = {entry["id"]: entry["name"] for entry in rows}
        return [
            {
                **entry,
                "category_id": self.category_id(
                    level=entry["level"], label=entry.get("label", entry["category_id"]), name=entry["name"],
                    parent_name=names.get(entry.get("parent_id")), object_name=entry.get("object"),
                ),
            }
            for entry in rows
        ]  # fmt: skip


class _Names:
    """Category ids by name: as it is written, then without regard to case and white space, then without `_` and
    qualifiers; each where that is one category, or one with annotations.

    Args:
        annotated: categories with annotations.
    """

    def __init__(self, named: Sequence[tuple[tuple[str, ...], int]], annotated: Collection[int]) -> None:
        self._tables: list[tuple[Callable[[str], str], dict[tuple[str, ...], int | None]]] = []
        for key in (str, name_key, _loose_key):
            ids: dict[tuple[str, ...], set[int]] = {}
            for names, category in named:
                ids.setdefault(tuple(key(name) for name in names), set()).add(category)
            table: dict[tuple[str, ...], int | None] = {}
            for words, found in ids.items():
                chosen = found if len(found) == 1 else found.intersection(annotated)
                table[words] = next(iter(chosen)) if len(chosen) == 1 else None
            self._tables.append((key, table))

    def find(self, *names: str) -> int | None:
        """Category id, None when there is none or several."""
        for key, table in self._tables:
            category = table.get(tuple(key(name) for name in names))
            if category is not None:
                return category
        return None


def _loose_key(name: str) -> str:
    return name_key(humanise(name))
