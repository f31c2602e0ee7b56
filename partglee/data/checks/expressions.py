"""What is wrong with the referring expressions of a file, and how many mean what."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from partglee.data.annotations.expressions import count_expressions, is_old_form

MAX_WORDS = 18  # of which models that read 20 tokens, begin and end among them, see all

Finding = Callable[[str, str], None]


def check_expressions(
    images: Sequence[Any], levels: Mapping[Any, Mapping[Any, bool]], crowds: Mapping[Any, bool], *, error: Finding,
    warn: Finding,
) -> dict[str, int]:  # fmt: skip
    """Findings in the `expressions` of image entries, each with an example.

    Args:
        images: entries of the file.
        levels: image id -> id of each usable annotation in file order -> whether it is a part.
        crowds: annotation id -> whether it is a crowd.
        error, warn: take a rule and an example.

    Returns:
        How many mean what, see `count_expressions`; nothing where the file has no expressions.
    """
    told = [entry for entry in images if isinstance(entry, Mapping) and entry.get("expressions")]
    sound = []
    for entry in told:
        what = f"image {entry.get('id')}"
        said, own = entry["expressions"], levels.get(entry.get("id"), {})
        if not isinstance(said, list):
            error("`expressions` that are no list", f"{what}: {said!r:.60}")
        elif is_old_form(said):
            num_objects = sum(not is_part for is_part in own.values())
            sound += [said] if _check_by_object(said, num_objects, what, error, warn) else []
        else:
            whole = [
                one for place, one in enumerate(said) if _check(one, f"{what}, expression {place}", own, error, warn)
            ]
            sound.append(whole)
            _check_together(whole, what, crowds, warn)
    return count_expressions(sound) if told else {}


def _check_by_object(said: list[Any], num_objects: int, what: str, error: Finding, warn: Finding) -> bool:
    by_object = [said] if isinstance(said[0], str) else said
    if not all(isinstance(some, list) and all(isinstance(text, str) for text in some) for some in by_object):
        error("`expressions` that are no list", f"{what}: {said!r:.60}")
        return False
    if len(by_object) != num_objects:
        error("lists of sentences for more or fewer objects than there are", f"{what}: {len(by_object)}, {num_objects}")
    for text in (text for some in by_object for text in some):
        _check_text(text, what, error, warn)
    return True


def _check(one: Any, what: str, own: Mapping[Any, bool], error: Finding, warn: Finding) -> bool:
    """Whether an expression can be counted."""
    if not isinstance(one, Mapping):
        error("expression that is no mapping", f"{what}: {one!r:.60}")
        return False
    _check_text(one.get("text"), what, error, warn)
    targets = 0
    for level, is_part in (("objects", False), ("parts", True)):
        ids = one.get(level, [])
        if not isinstance(ids, list) or not all(isinstance(key, int) and not isinstance(key, bool) for key in ids):
            error("expression whose targets are no list of annotation ids", f"{what}: {level} {ids!r:.60}")
            return False
        targets += len(ids)
        for key in ids:
            if key not in own:
                error("expression whose target is not a usable annotation of its image", f"{what}: {level} {key}")
            elif own[key] != is_part:
                error("expression whose target is of the other level", f"{what}: {level} {key}")
    if not isinstance(one.get("id", 0), int):
        error("expression whose id is no whole number", f"{what}: {one['id']!r:.40}")
    none = one.get("no_target")
    if none is None and "objects" not in one and "parts" not in one:
        error("expression that does not say what it means", f"{what}: {one.get('text')!r:.60}")
    elif none is not None and none is not (not targets):
        error("expression whose no_target contradicts its targets", f"{what}: {none!r:.20}, {targets} targets")
    return True


def _check_text(text: Any, what: str, error: Finding, warn: Finding) -> None:
    if not isinstance(text, str) or not text.strip():
        error("expression without a sentence", f"{what}: {text!r:.40}")
    elif "\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text):
        error("expression with a NUL, or half of a character", f"{what}: {text[:60]!a}")
    elif not any(letter.isalnum() for letter in text):
        warn("expression without a letter or digit, which some models cannot read", f"{what}: {text[:60]!a}")
    elif len(text.split()) > MAX_WORDS:
        warn(
            f"expression of more than {MAX_WORDS} words, whose end models with 20 tokens do not read",
            f"{what}: {text:.60}",
        )


def _check_together(said: Sequence[Mapping[str, Any]], what: str, crowds: Mapping[Any, bool], warn: Finding) -> None:
    meanings: dict[str, set[frozenset[Any]]] = defaultdict(set)
    for one in said:
        ids = [*(one.get("objects") or []), *(one.get("parts") or [])]
        meanings[str(one.get("text")).casefold()].add(frozenset(ids))
        if ids and all(crowds.get(key, False) for key in ids):
            warn("expression of crowds alone, which no model trains on", f"{what}: {one.get('text')!r:.60}")
    for text, several in meanings.items():
        if len(several) > 1:
            warn("sentence that means different things in one image", f"{what}: {text!r:.60}")
