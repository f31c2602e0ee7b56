"""What a `Vocabulary` is made from: names, texts and formats, cleaned and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Formatter

from partglee.basics.names import clean_name, clean_names, name_key

PromptKey = str | tuple[str, str]


class PromptKeys:
    """What "object" or "object:part" of a file means; the names that it has win, since any of them may hold a `:`.

    Args:
        known: object -> its parts.
    """

    def __init__(self, known: Mapping[str, Sequence[str]]) -> None:
        self._objects = {name_key(name): {name_key(part) for part in parts} for name, parts in known.items()}

    def __call__(self, given: str) -> PromptKey:
        if name_key(given) in self._objects:
            return given
        colons = [place for place, letter in enumerate(given) if letter == ":"]
        pairs = [(given[:place], given[place + 1 :].strip()) for place in colons]
        fits = [pair for pair in pairs if name_key(pair[1]) in self._objects.get(name_key(pair[0]), ())]
        return next(iter([*fits, *pairs]), given)


def shorten(names: Sequence[str], limit: int = 6) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f", ... {more} more" if more > 0 else "")


def clean_objects(objects: object) -> dict[str, tuple[str, ...]]:
    if isinstance(objects, Mapping):
        names = clean_names(list(objects), "object name")
        lists = ((name, () if parts is None else parts) for name, parts in zip(names, objects.values(), strict=True))
        entries = {name: clean_names(parts, "part name", f" of {name!r}") for name, parts in lists}
    elif isinstance(objects, str):
        raise TypeError(
            f"objects must be a mapping or a list, got the text {objects!r}; use Vocabulary.parse({objects!r})"
        )
    else:
        entries = dict.fromkeys(clean_names(objects, "object name"), ())
    if not entries:
        raise ValueError(f"the vocabulary is empty ({objects!r:.60}); name at least one object, for example ['person']")
    return entries


def clean_prompts(
    prompts: Mapping[PromptKey, str] | None, entries: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str | None], str]:
    known: set[tuple[str, str | None]] = {(name_key(name), None) for name in entries}
    known |= {(name_key(name), name_key(part)) for name, parts in entries.items() for part in parts}
    clean: dict[tuple[str, str | None], str] = {}
    for given, text in (prompts or {}).items():
        pair = (given, None) if isinstance(given, str) else given
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"a prompt is given for {given!r}; write an object name or a pair (object name, part name)")
        key = (name_key(pair[0]), None if pair[1] is None else name_key(str(pair[1])))
        if key not in known:
            raise ValueError(
                f"a prompt is given for {given!r}, which is not in the vocabulary; remove it or add the name"
            )
        clean[key] = clean_name(text, f"prompt for {given!r}")
    return clean


def check_format(argument: str, text: object, *, needed: str, allowed: set[str]) -> set[str]:
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be text such as '{{{needed}}}', got {text!r} ({type(text).__name__})")
    try:
        given = {field for _, field, _, _ in Formatter().parse(text) if field is not None}
    except ValueError as error:
        raise ValueError(
            f"{argument} {text!r} is not a format ({error}); fields are {{object}} and {{part}}"
        ) from error
    fields = {field.lower() if field in ("Object", "Part") else field for field in given}
    if needed not in fields or not fields <= allowed:
        raise ValueError(
            f"{argument} must contain {{{needed}}} and may only use {sorted(allowed)} as fields, got {text!r}"
        )
    return fields


def render(text: str, name: str, part: str) -> str:
    return text.format(object=name, part=part, Object=name.title(), Part=part.title())


def split_text(text: str) -> dict[str, tuple[str, ...]] | list[str]:
    """ "car: wheel, door; person" -> {"car": ("wheel", "door"), "person": ()}."""
    if not re.search(r"[:;,\n]", text):
        return [text]
    pairs: list[tuple[str, tuple[str, ...]]] = []
    segments = [segment.strip() for segment in re.split(r"[;\n]", text)]
    while segments and not segments[-1]:  # a closing `;`
        segments.pop()
    for segment in segments:
        name, colon, rest = segment.partition(":")
        if not colon:
            pairs += [(entry, ()) for entry in segment.split(",")]
            continue
        if ":" in rest:
            raise ValueError(
                f"{segment!r} in the vocabulary has two ':'; separate objects with ';' as in 'car: wheel; dog: tail'"
            )
        if not name.strip():
            raise ValueError(f"{segment!r} in the vocabulary lists parts of no object; write 'object: {rest.strip()}'")
        if "," in name:
            raise ValueError(f"{segment!r} in the vocabulary lists parts of several objects; separate objects with ';'")
        pairs.append((name, tuple(rest.split(",")) if rest.strip() else ()))
    names = clean_names([name for name, _ in pairs], "object name")
    return dict(zip(names, (parts for _, parts in pairs), strict=True))
