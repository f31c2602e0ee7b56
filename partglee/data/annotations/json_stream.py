"""Reading the lists of a large JSON file entry by entry, so that the file never lies in memory as Python objects."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from partglee.basics.files import json_problem

CHUNK = 1 << 22  # characters that are read at a time
_SPACE = re.compile(r"[ \t\n\r]*")


def stream_lists(path: Path) -> Iterator[tuple[str, Any]]:
    """Go through the lists of a JSON object.

    Yields:
        (key, None) where a list begins, then (key, entry) for each of its entries. Other values are skipped.

    Raises:
        ValueError: for a file that is no JSON object, or is cut off; the message has the file and the place.
    """
    with path.open(encoding="utf-8-sig") as file:
        reader = _Reader(file, path)
        try:
            yield from _lists(reader)
        except UnicodeDecodeError as error:
            raise ValueError(f"annotation file '{path}' is not UTF-8 text ({error}); is it compressed?") from error


def stream_entries(path: Path) -> Iterator[Any]:
    """The entries of a JSON file that is one list.

    Raises:
        ValueError: for a file that is no JSON list, or is cut off; the message has the file and the place.
    """
    with path.open(encoding="utf-8-sig") as file:
        reader = _Reader(file, path)
        try:
            if reader.peek() != "[":
                reader.fail("expected a list [...]")
            yield from _entries(reader)
        except UnicodeDecodeError as error:
            raise ValueError(f"file '{path}' is not UTF-8 text ({error}); is it compressed?") from error


def _lists(reader: _Reader) -> Iterator[tuple[str, Any]]:
    if reader.peek() != "{":
        reader.fail("expected an object {...} with images, annotations and categories; is this a results file?")
    reader.position += 1
    if reader.peek() == "}":
        return
    while True:
        key = reader.value()
        if not isinstance(key, str):
            reader.fail(f"expected a key in quotes, got {key!r:.40}")
        reader.expect(":")
        if reader.peek() == "[":
            yield key, None
            for entry in _entries(reader):
                yield key, entry
        else:
            reader.value()
        if reader.expect(",}") == "}":
            return


def _entries(reader: _Reader) -> Iterator[Any]:
    reader.position += 1
    if reader.peek() == "]":
        reader.position += 1
        return
    while True:
        yield reader.value()
        if reader.expect(",]") == "]":
            return


class _Reader:
    """A window that moves over the file's text."""

    def __init__(self, file: TextIO, path: Path) -> None:
        self.file, self.path = file, path
        self.text, self.position = "", 0
        self.passed = 0  # characters before the window
        self.ended = False
        self.decode = json.JSONDecoder().raw_decode

    def more(self) -> None:
        # An entry that does not fit doubles the window, so the work stays linear in its size.
        rest = self.text[self.position :]
        new = self.file.read(max(CHUNK, len(rest)))
        self.ended = not new
        self.passed += self.position
        self.text, self.position = rest + new, 0

    def peek(self) -> str:
        """The next character that is no white space, "" at the end."""
        while True:
            match = _SPACE.match(self.text, self.position)
            assert match is not None
            self.position = match.end()
            if self.position < len(self.text):
                return self.text[self.position]
            if self.ended:
                return ""
            self.more()

    def expect(self, characters: str) -> str:
        character = self.peek()
        if not character or character not in characters:
            self.fail(f"expected {' or '.join(characters)}, got {character!r}")
        self.position += 1
        return character

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self.decode(self.text, self.position)
            except json.JSONDecodeError as error:
                if self.ended:
                    self.position = error.pos
                    self.fail(error.msg)
            except (ValueError, RecursionError) as error:  # of more text too
                self.fail(json_problem(error))
            else:
                following = self.text[end : end + 1] or "0"
                if self.ended or following not in "0123456789.eE+-":  # a number at the window's end may go on
                    self.position = end
                    return value
            self.more()

    def fail(self, reason: str) -> None:
        where = self.passed + self.position
        cut = " (the file ends there: is it cut off?)" if self.ended and self.position >= len(self.text) else ""
        raise ValueError(f"annotation file '{self.path}' is not JSON as expected at character {where}{cut}: {reason}")
