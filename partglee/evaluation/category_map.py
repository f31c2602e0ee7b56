"""From the names and labels of a `Prediction` to the category ids of an annotation file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from partglee.evaluation.ground_truth import GroundTruth, split_part_name
from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import humanise, name_key


class CategoryMap:
    """Finds the category id of each row of a prediction.

    A row's category is looked up by: explicit ids of its label, if given; the category whose full name is the row's
    name; for parts (object, part), where the object comes from the vocabulary if the part column has one owner, else
    from the predicted parent. Case, white space, `_` and LVIS qualifiers (`car_(automobile)`) do not count.

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
        self._named: dict[str, int] = {}
        self._pairs: dict[tuple[str, str], int] = {}
        for key, name, owner, part in zip(
            categories.ids.tolist(), categories.names, categories.owner, categories.part, strict=True
        ):
            self._named.setdefault(_key(name), key)
            pair = (owner, part) if owner is not None else split_part_name(name, objects)
            if pair is not None and pair[1] is not None:
                self._pairs.setdefault((_key(pair[0]), _key(pair[1])), key)

    def category_id(self, *, level: str, label: int, name: str, parent_name: str | None) -> int | None:
        """Category id of one row, None when there is none."""
        table = self._ids[level]
        if table is not None:
            known = table.get(label) if isinstance(table, Mapping) else (table[label] if label < len(table) else None)
            return None if known is None else int(known)
        if level == "part":
            owner = self._owner(label) or parent_name
            if owner is not None and (_key(owner), _key(name)) in self._pairs:
                return self._pairs[_key(owner), _key(name)]
        return self._named.get(_key(name))

    def _owner(self, label: int) -> str | None:
        if self._vocabulary is None:
            return None
        owners = self._vocabulary.part_owner[label]
        return self._vocabulary.object_names[owners[0]] if len(owners) == 1 else None

    def translate(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows as `Prediction.to_coco` writes them without category ids (the label is the `category_id`)."""
        names = {entry["id"]: entry["name"] for entry in rows}
        return [
            {
                **entry,
                "category_id": self.category_id(
                    level=entry["level"], label=entry["category_id"], name=entry["name"],
                    parent_name=names.get(entry.get("parent_id")),
                ),
            }
            for entry in rows
        ]  # fmt: skip


def _key(name: str) -> str:
    return name_key(humanise(name))
