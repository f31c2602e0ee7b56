"""Referring expressions of an annotation file: `expressions` on an image entry.

    "expressions": [{"text": "both dogs", "objects": [12, 14], "parts": [], "no_target": false, "id": 7}, ...]

`objects` and `parts` are annotation ids of the same image; `no_target: true` says that the expression means nothing in
it, and then both are empty. Yesterday's form is read too: a list of sentences for each object in file order, or plain
sentences for the only one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from partglee.data.annotations.values import text_of
from partglee.data.records import Expression
from partglee.data.spec import EXPRESSION_COUNTS

ADVICE = 'write {"text": .., "objects": [annotation ids], "parts": [..], "no_target": true where both are empty}'


def is_old_form(entries: Any) -> bool:
    """Whether sentences are listed by object."""
    return isinstance(entries, list) and bool(entries) and isinstance(entries[0], (str, list))


def parse_expressions(
    entries: Any,
    *,
    objects: Sequence[int | None],
    parts: Sequence[int | None],
    left_out: frozenset[int] = frozenset(),
) -> tuple[Expression, ...]:
    """The expressions of one image; their places are those in the file.

    Args:
        entries: the value of `expressions`.
        objects, parts: annotation ids of the record's rows; None for one outside of the image.
        left_out: ids of all the image's annotations, to tell one that no row stands for from one of another image.

    Raises:
        ValueError: for an empty sentence, ids that are not of the image, or a `no_target` that contradicts them.
    """
    if is_old_form(entries):
        return _by_object(entries, len(objects))
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise ValueError(
            f"expressions must be a list of sentences for one object, a list of such lists, or a list of mappings; "
            f"{ADVICE}, got {entries!s:.80}"
        )
    rows = tuple({key: row for row, key in enumerate(ids) if key is not None} for ids in (objects, parts))
    return tuple(_expression(entry, place, (rows[0], rows[1]), left_out) for place, entry in enumerate(entries))


def count_expressions(images: Iterable[Any]) -> dict[str, int]:
    """How many expressions the entries of images hold, by what they mean; nothing is checked.

    Returns:
        "expressions", and those with a "single target", of "multi target", "no target" or "parts" alone; kinds that do
        not occur are left out.
    """
    counts = Counter[str]()
    for entries in images:
        if is_old_form(entries):
            counts["single target"] += sum(1 if isinstance(entry, str) else len(entry) for entry in entries)
            continue
        for entry in entries or ():
            objects, parts = (len(set(entry.get(level) or ())) for level in ("objects", "parts"))
            counts[("no target", "single target", "multi target")[min(objects + parts, 2)]] += 1
            counts["part expressions"] += parts > 0 and not objects
    total = counts["single target"] + counts["multi target"] + counts["no target"]
    return {"expressions": total, **{what: counts[what] for what in EXPRESSION_COUNTS[1:] if counts[what]}}


def entry_of(expression: Expression, objects: Sequence[int], parts: Sequence[int]) -> dict[str, Any]:
    """An expression in the form of the file.

    Args:
        objects, parts: annotation ids of the record's rows.
    """
    return {
        "text": expression.text,
        "objects": [objects[row] for row in expression.objects],
        "parts": [parts[row] for row in expression.parts],
        "no_target": expression.no_target,
        "id": expression.id,
    }


def _expression(
    entry: Mapping[str, Any], place: int, rows: tuple[dict[int, int], dict[int, int]], left_out: frozenset[int]
) -> Expression:
    text, number = entry.get("text"), entry.get("id", 0)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"expression {place}: text must be a sentence, got {text!r:.60}")
    text_of(text, f"expression {place}:")
    what = f"expression {place} ({text!r:.60})"
    if not isinstance(number, int):
        raise ValueError(f"{what}: id must be a whole number, got {number!r:.40}")
    targets: list[tuple[int, ...]] = []
    for level, known, other in (("objects", *rows), ("parts", *rows[::-1])):
        ids = entry.get(level, [])
        if not isinstance(ids, list) or not all(isinstance(key, int) and not isinstance(key, bool) for key in ids):
            raise ValueError(f"{what}: {level} must be a list of annotation ids, got {ids!r:.60}")
        if stray := [key for key in ids if key not in known]:
            reason = "is not of this image"
            if stray[0] in other:
                reason = f"is one of the {'parts' if level == 'objects' else 'objects'}"
            elif stray[0] in left_out:
                reason = "is left out (its name is not in the vocabulary, or its box is outside of the image)"
            raise ValueError(f"{what}: {level} {ids}: annotation {stray[0]} {reason}")
        targets.append(tuple(dict.fromkeys(known[key] for key in ids)))
    none = entry.get("no_target")
    if none is None and "objects" not in entry and "parts" not in entry:
        raise ValueError(f"{what} does not say what it means; {ADVICE}")
    if not isinstance(none, (bool, type(None))) or (none is not None and none == any(targets)):
        raise ValueError(
            f"{what}: no_target {none!r:.20} contradicts objects {entry.get('objects', [])} and parts "
            f"{entry.get('parts', [])}; {ADVICE}"
        )
    return Expression(text, targets[0], targets[1], number)


def _by_object(entries: list[Any], num_objects: int) -> tuple[Expression, ...]:
    sentences = [entries] if isinstance(entries[0], str) else entries
    if not all(
        isinstance(entry, list) and all(isinstance(sentence, str) and sentence.strip() for sentence in entry)
        for entry in sentences
    ):
        raise ValueError(
            f"expressions must be a list of sentences for one object, or a list of such lists, got {sentences!s:.80}"
        )
    if len(sentences) != num_objects:
        raise ValueError(
            f"has expressions for {len(sentences)} objects but {num_objects} objects; give a list of sentences for one "
            "object, or a list of such lists, one for each object"
        )
    return tuple(Expression(sentence, (row,)) for row, entry in enumerate(sentences) for sentence in entry)
