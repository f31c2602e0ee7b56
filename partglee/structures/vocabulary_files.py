"""Vocabulary files: reading them, and the built-in ones with their base and novel objects.

The built-in files lie in `partglee/data/vocabularies/`; they hold names (and ids) only. This module returns plain
dictionaries and knows nothing of `Vocabulary`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from partglee.basics.files import read_yaml
from partglee.basics.names import clean_name, clean_names, name_key, nearest

FOLDER = Path(__file__).parents[1] / "data" / "vocabularies"

# Short names of files that carry a size in their own name.
SHORT_NAMES = {"pascal_part": "pascal_part_93", "partimagenet": "partimagenet_40"}

# Keys that a data file may have besides `objects`; anything else is a mistake (for example `part:`).
_NAME_KEYS = {"objects", "parts", "part_format", "part_name_style", "object_format", "display", "prompts"}
_META_KEYS = {
    "attributes", "category_id_start", "dataset", "frequency", "ignore_label", "imagenet_classes",
    "object_category_ids", "object_id_order", "part_category_ids", "part_id_sequence", "part_label_order", "raw_tokens",
    "splits", "super_category", "voc_objects_without_parts",
}  # fmt: skip


class VocabularyFields(NamedTuple):
    """Arguments of `Vocabulary` as a file or a mapping gives them, names not yet checked."""

    objects: Mapping[str, Sequence[str]] | Sequence[str]
    part_format: str | None = None
    object_format: str | None = None
    display: Mapping[str, str] = {}  # part name -> text for the prompt, where the file's own spelling is not a word
    prompts: Mapping[str, str] = {}  # "object" or "object:part" -> the whole prompt


def list_builtin() -> tuple[str, ...]:
    """Names of the built-in vocabularies, alphabetical."""
    short = {file: name for name, file in SHORT_NAMES.items()}
    return tuple(sorted(short.get(path.stem, path.stem) for path in FOLDER.glob("*.yaml")))


def builtin_file(name: str) -> Path | None:
    """File of a built-in vocabulary, or None when there is none of that name (upper case and `-` do not matter)."""
    key = name.strip().lower().replace("-", "_")
    path = FOLDER / f"{SHORT_NAMES.get(key, key)}.yaml"
    return path if re.fullmatch(r"\w+", key) and path.is_file() else None


def read_vocabulary_file(path: Path) -> VocabularyFields:
    """Read a YAML file: a list of names, a mapping name -> parts, or the data-file format (see `fields_of_mapping`).

    Raises:
        ValueError: for a missing, unreadable, empty or malformed file, or one with a key given twice.
    """
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise ValueError(f"vocabulary file '{path}' {what}; give a YAML file or one of {', '.join(list_builtin())}")
    content = read_yaml(path, "vocabulary file", loader=_StrictLoader)
    if isinstance(content, Mapping):
        return fields_of_mapping(content, origin=f"vocabulary file '{path}'")
    if isinstance(content, list):
        return VocabularyFields(content)
    if content is None:
        raise ValueError(f"vocabulary file '{path}' is empty; write a line 'car: [wheel, door]' for each object")
    raise ValueError(
        f"vocabulary file '{path}' must hold a mapping (name: [parts]) or a list of names, got {content!r:.60}"
    )


def fields_of_mapping(content: Mapping[Any, Any], *, origin: str) -> VocabularyFields:
    """Read a plain mapping {name: [parts]} or the data-file format.

    Data-file format: `objects` (a list of names, or a mapping name -> parts), and optionally `parts` (a mapping for
    names listed in `objects`), `part_format`, `object_format`, `display` (part name -> text for the prompt) and
    `prompts` ("object" or "object:part" -> the whole prompt).

    Raises:
        ValueError: for parts under a name that is not in `objects`, or a key that the format does not have.
        TypeError: for a value of another type than its key has.
    """
    if not isinstance(content.get("objects"), (Mapping, list, tuple)):
        return VocabularyFields(content)
    for key in content:
        if key not in _NAME_KEYS | _META_KEYS:
            raise ValueError(
                f"{origin}: unknown key {key!r} beside 'objects'{nearest(str(key), _NAME_KEYS | _META_KEYS)}; "
                "put names under 'objects', or drop 'objects' and write 'name: [parts]' for all"
            )
    objects = content["objects"]
    parts = content.get("parts")
    if parts is not None:
        objects = _with_parts(objects, parts, origin=origin)
    texts = {key: content.get(key) or {} for key in ("display", "prompts")}
    for key, table in texts.items():
        if not isinstance(table, Mapping):
            raise TypeError(f"{origin}: {key!r} must map names to texts, got {table!r:.60}")
    return VocabularyFields(
        objects,
        content.get("part_format", content.get("part_name_style")),
        content.get("object_format"),
        {part: clean_name(text, f"display of {part!r}") for part, text in texts["display"].items()},
        texts["prompts"],
    )


def _with_parts(objects: Any, parts: Any, *, origin: str) -> dict[Any, Any]:
    if isinstance(objects, Mapping):
        raise ValueError(f"{origin}: 'objects' already maps names to parts, so 'parts' must go; keep one of the two")
    if not isinstance(parts, Mapping):
        raise TypeError(f"{origin}: 'parts' must map object names to lists of parts, got {parts!r:.60}")
    names = clean_names(objects, f"{origin}: object name")
    merged: dict[str, Any] = dict.fromkeys(names, ())
    keys = {name_key(name): name for name in names}
    for name, entries in parts.items():
        key = name_key(str(name))
        if key not in keys:
            raise ValueError(
                f"{origin}: parts are given for {name!r}, which is not among the objects"
                f"{nearest(str(name), names)}; add it to 'objects' or remove it from 'parts'"
            )
        merged[keys[key]] = entries
    return merged


@cache
def read_builtin(name: str) -> VocabularyFields:
    """Read a built-in vocabulary by name.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    path = builtin_file(name)
    if path is None:
        raise ValueError(
            f"there is no built-in vocabulary {name!r}{nearest(name, list_builtin())} "
            f"Built-in: {', '.join(list_builtin())}. For your own, give a mapping or a YAML file"
        )
    return read_vocabulary_file(path)


@cache
def builtin_splits(name: str) -> Mapping[str, tuple[str, ...]]:
    """{"base": object names, "novel": object names} of a built-in vocabulary; empty where it has no split.

    Every part of a novel object is novel.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    read_builtin(name)  # says what there is when the name is unknown
    path = builtin_file(name)
    assert path is not None
    splits = read_yaml(path, "vocabulary file").get("splits") or {}
    return {key.removesuffix("_objects"): tuple(names) for key, names in splits.items() if key.endswith("_objects")}


def split_objects(name: str, split: str) -> tuple[str, ...]:
    """Object names of the split "base" or "novel" of a built-in vocabulary.

    Raises:
        ValueError: for an unknown vocabulary, or one without this split.
    """
    splits = builtin_splits(name)
    if split not in splits:
        raise ValueError(f"the vocabulary {name!r} has no split {split!r}, but {sorted(splits)}")
    return splits[split]


class _StrictLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C loader where built
    """Safe YAML that refuses a key given twice (YAML itself silently keeps the last)."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"name {key_node.value!r} is given twice", key_node.start_mark
                )
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)
