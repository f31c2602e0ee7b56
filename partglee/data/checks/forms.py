"""Forms of annotation files beside the library's own: a project says how `partglee data check` looks at its files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from partglee.data.checks.content import Report

Check = Callable[[Path, Path | None], Report]
"""(file, folder of its images or None) -> what is wrong in it."""

_FORMS: dict[str, Check] = {}


def register_form(ending: str, check: Check) -> None:
    """Files whose name ends so are of this form.

    Raises:
        ValueError: when another form has the ending.
    """
    if _FORMS.get(ending, check) is not check:
        raise ValueError(f"files that end with {ending!r} are of another form already; give yours another ending")
    _FORMS[ending] = check


def form_of(file: Path) -> Check | None:
    """The form of a file by its name; None where it is of the library's own."""
    return next((check for ending, check in _FORMS.items() if file.name.endswith(ending)), None)
