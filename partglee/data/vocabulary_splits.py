"""Base and novel objects of the built-in vocabularies: every part of a novel object is novel."""

from __future__ import annotations

from functools import cache

import yaml

from partglee.structures import Vocabulary
from partglee.structures.vocabulary_files import builtin_file, read_builtin


@cache
def split_objects(name: str, split: str) -> tuple[str, ...]:
    """Object names of the split "base" or "novel" of a built-in vocabulary.

    Raises:
        ValueError: for an unknown vocabulary, or one without this split.
    """
    read_builtin(name)  # says what there is when the name is unknown
    path = builtin_file(name)
    assert path is not None
    splits = yaml.safe_load(path.read_text(encoding="utf-8")).get("splits") or {}
    if f"{split}_objects" not in splits:
        raise ValueError(f"the vocabulary {name!r} has no split {split!r}, but {sorted(splits)}")
    return tuple(splits[f"{split}_objects"])


def split_vocabulary(name: str, split: str) -> Vocabulary:
    """The objects of one split with their parts, in the order and with the texts of the whole vocabulary."""
    wanted = set(split_objects(name, split))
    fields = read_builtin(name)
    assert isinstance(fields.objects, dict)
    kept = {key: parts for key, parts in fields.objects.items() if key in wanted}
    return Vocabulary(kept, part_format=fields.part_format or "{object} {part}")
