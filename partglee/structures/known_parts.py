"""The part names that the built-in vocabularies know for an object, whatever each of them calls it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from partglee.basics.names import humanise
from partglee.structures.vocabulary_files import list_builtin, read_builtin

# Joined from other vocabularies: no source of its own.
_JOINED = {"partglee_tiny"}

# Names of the same thing in different data sets (not broader or narrower things): first = the key used for matching.
_SYNONYMS = (
    ("airplane", "aeroplane", "plane"),
    ("bicycle", "bike"),
    ("cellular telephone", "cell phone", "cellphone", "mobile phone", "smartphone"),
    ("cooking stove", "stove"),
    ("earphone", "earphones", "headphone", "headphones", "head phone"),
    ("ice bear", "polar bear"),
    ("killer whale", "orca"),
    ("laptop computer", "laptop"),
    ("microwave oven", "microwave"),
    ("motorcycle", "motorbike"),
    ("potted plant", "pottedplant"),
    ("refrigerator", "fridge"),
    ("remote control", "remote"),
    ("sofa", "couch"),
    ("television", "television set", "television receiver", "tv", "tv monitor", "tvmonitor"),
    ("trash can", "trash bin", "garbage can"),
    ("washer", "washing machine"),
)
_SYNONYM_KEY = {name: group[0] for group in _SYNONYMS for name in group}

# Spellings in the data sets' files that are not words.
_PART_SPELLING = {
    "tier": "tire",
    "colied tube": "coiled tube",
    "runningboard": "running board",
    "splashboard": "splash board",
    "steeringwheel": "steering wheel",
    "turnsignal": "turn signal",
    "diffusor": "diffuser",
}
# Labels that are no part of the object in the image (ADE20K: the point a person looks at).
_NOT_A_PART = {("person", "gaze")}


def known_parts(names: Iterable[str]) -> dict[str, dict[str, tuple[str, ...]]]:
    """Part names that the built-in vocabularies know for each object, with their sources.

    Objects are matched without regard to case, `_`, an LVIS-style qualifier (`car_(automobile)`) and the synonyms
    listed at the top of this file. An object that nobody knows has no parts.

    Returns:
        {object name: {part name: names of the built-in vocabularies that have it}}, for example
        `{"cat": {"head": ("pascal_part", "pascal_part_116"), ...}}`.
    """
    table = _known_parts_table()
    return {name: dict(table.get(_object_key(name), {})) for name in names}


def _object_key(name: str) -> str:
    plain = humanise(name).casefold()
    return _SYNONYM_KEY.get(plain, plain)


@cache
def _known_parts_table() -> dict[str, dict[str, tuple[str, ...]]]:
    table: dict[str, dict[str, tuple[str, ...]]] = {}
    # The whole-body vocabularies come first, so that a list starts with the names most people think of.
    first = ["pascal_part", "pascal_part_116", "paco"]
    for source in first + [name for name in list_builtin() if name not in {*first, *_JOINED}]:
        objects = read_builtin(source).objects
        if not isinstance(objects, Mapping):
            continue
        for name, parts in objects.items():
            known = table.setdefault(_object_key(name), {})
            for part in parts:
                text = humanise(part)
                text = _PART_SPELLING.get(text, text)
                if (_object_key(name), text) not in _NOT_A_PART and source not in known.get(text, ()):
                    known[text] = (*known.get(text, ()), source)
    return table
