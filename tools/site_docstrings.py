"""What the reference of the site does to docstrings: examples become code, wherever they stand."""

from __future__ import annotations

from typing import Any

import griffe
from site_pages import with_fenced_examples


class FencedExamples(griffe.Extension):
    """Each object's docstring, as it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = with_fenced_examples(obj.docstring.value)
