"""Names as people write them: compared without regard to case and white space, cleaned, and the nearest known ones."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping


def name_key(name: str) -> str:
    """What two names are compared by: case and white space do not count."""
    return " ".join(name.split()).casefold()


def humanise(name: str) -> str:
    """`inner_body` -> `inner body`, `car_(automobile)` -> `car`."""
    return " ".join(re.sub(r"_\(.*?\)", "", name).replace("_", " ").split())


def clean_name(name: object, what: str) -> str:
    """One name without stray white space; TypeError when it is not text, ValueError when it is blank."""
    if not isinstance(name, str):
        hint = "; quote it in YAML" if isinstance(name, (bool, int, float)) else ""
        raise TypeError(f"{what} must be text, got {name!r:.60} ({type(name).__name__}){hint}")
    clean = " ".join(name.split())
    if not clean:
        raise ValueError(f"{what} is blank ({name!r}); remove it or write a name")
    return clean


def clean_names(names: object, what: str, of: str = "") -> tuple[str, ...]:
    """A list of different names, told apart in messages by `what` ("part name") and `of` (" of 'car'").

    Raises:
        TypeError: for a single text, or anything that is no list of texts.
        ValueError: for blank and duplicate names.
    """
    if isinstance(names, (str, bytes)):
        raise TypeError(f"{what}s{of} must be a list of names, got the single text {names!r}; write [{names!r}]")
    if not isinstance(names, Iterable) or isinstance(names, Mapping):
        raise TypeError(f"{what}s{of} must be a list of names, got {names!r:.60} ({type(names).__name__})")
    clean: dict[str, str] = {}
    for entry in names:
        name = clean_name(entry, what + of)
        if name_key(name) in clean:
            raise ValueError(
                f"{what} {name!r}{of} is given twice (as {clean[name_key(name)]!r} before; case and white space do not "
                "count); remove one"
            )
        clean[name_key(name)] = name
    return tuple(clean.values())


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'a', 'b'?`, or nothing when no known name is near."""
    folded = {entry.lower(): entry for entry in known}
    close = [folded[entry] for entry in difflib.get_close_matches(name.lower(), folded, n=3)]
    return f"; did you mean {', '.join(map(repr, close))}?" if close else ""
