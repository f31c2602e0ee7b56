"""Which names a model looks for, and which class of detectron2's single list each of them is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from detectron2.data import MetadataCatalog

from partglee.integrations.detectron2.config import keys_of
from partglee.structures import ClassList, Vocabulary
from partglee.text import TextBackend
from partglee.text.words import resolve


def listed_classes(metadata: Any) -> list[str]:
    """`thing_classes`, or the `stuff_classes` of a set without them; empty where the metadata has neither.

    Raises:
        TypeError: for one text in place of a list.
    """
    names = metadata.get("thing_classes") or metadata.get("stuff_classes") or []
    if isinstance(names, str):  # its letters would be classes
        raise TypeError(f"data set {metadata.name!r}: thing_classes must be a list of names, got {names!r}")
    return list(names)


def classes_of_metadata(metadata: Any, vocabulary: Any = None, **formats: str) -> ClassList | None:
    """The classes that a data set's metadata lists; None where it lists none.

    "car:wheel" and "car's wheel" are parts, see `ClassList.parse`. Sets that `register_in_detectron2` made know their
    vocabulary with its prompts.

    Args:
        vocabulary: in which the classes are looked up, whatever `Vocabulary.parse` takes; None = what they describe.
        formats: `part_format`, `object_format` of that one.

    Raises:
        TypeError: for names that are no text.
        ValueError: for classes that the vocabulary lacks.
    """
    names = listed_classes(metadata)
    if not names:
        return None
    if vocabulary is None:
        vocabulary = metadata.get("partglee_vocabulary")
    parsed = None if vocabulary is None else Vocabulary.parse(vocabulary)
    try:
        return ClassList.parse(names, parsed, **({} if parsed else formats))
    except (TypeError, ValueError) as error:
        raise type(error)(f"data set {metadata.name!r}: {error}") from error


def classes_of_datasets(cfg: Any, names: Sequence[str], key: str) -> ClassList | None:
    """The classes of data sets that share one list; None where their metadata has none.

    Args:
        key: "DATASETS.TRAIN" or "DATASETS.TEST", for the message.

    Raises:
        ValueError: for data sets of different lists, or classes without a place in `MODEL.PARTGLEE.VOCABULARY`.
    """
    keys = keys_of(cfg)
    lists = {name: listed_classes(MetadataCatalog.get(name)) for name in names}
    given = [name for name, classes in lists.items() if classes]
    if not given:
        return None
    for name in given[1:]:
        if lists[name] != lists[given[0]]:
            raise ValueError(
                f"{key}: {given[0]} and {name} have different lists of classes "
                f"({differing(lists[given[0]], lists[name])}); a model answers with one list: give them in runs of "
                "their own"
            )
    formats = {"part_format": keys.PART_FORMAT, "object_format": keys.OBJECT_FORMAT}
    return classes_of_metadata(MetadataCatalog.get(given[0]), keys.VOCABULARY or None, **formats)


def differing(first: Sequence[str], second: Sequence[str]) -> str:
    """Where two lists of classes begin to differ."""
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one != other:
            return f"class {place} is {one!r} in one and {other!r} in the other"
    return f"{len(first)} classes in one, {len(second)} in the other"


def readable(classes: ClassList, backend: TextBackend, *, strict: bool) -> ClassList:
    """The classes with texts that the model can read, see `Predictor.words`.

    Args:
        strict: names that a name table lacks are an error also where others are near.

    Raises:
        ValueError: for names that nothing is known of.
    """
    resolved = resolve(classes.vocabulary, backend, strict=strict)
    if resolved.left_out:
        raise ValueError(
            f"{len(resolved.left_out)} classes have no place in the model's name table: "
            f"{', '.join(str(reading) for reading in resolved.left_out[:8])}; leave them out of the vocabulary, or use "
            "weights with a text tower"
        )
    return replace(classes, vocabulary=resolved.warn())
