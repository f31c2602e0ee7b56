"""Files: written whole or not at all, and text of any tool read with one line about what is wrong in it.

Text is UTF-8, with or without the mark (BOM) that editors on Windows put before it. JSON and YAML that nest without
end, name themselves, multiply by aliases or hold numbers of thousands of digits are refused as any other damage.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import yaml
from PIL import Image

from partglee.basics.disk import naming_disk
from partglee.basics.memory import without_collector

_MOST_NESTED = 100  # levels of a YAML file
_MOST_VALUES = 2_000_000  # of a YAML file, with what its aliases repeat


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends well and is removed when it does not.

    Raises:
        DiskFull: where the disk has no room.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
        with naming_disk(path):
            yield beside
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)  # mkstemp makes the file private
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_json(content: Mapping[str, Any] | Sequence[Any], file: str | Path) -> None:
    """Write a JSON file without white space."""
    with whole_file(Path(file)) as beside:
        beside.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def write_jpeg(picture: Image.Image, file: str | Path, *, quality: int = 90) -> None:
    """Write a picture of any mode as JPEG."""
    with whole_file(Path(file)) as beside:
        picture.convert("RGB").save(beside, format="JPEG", quality=quality)


# -- reading ---------------------------------------------------------------------------------------------------------


def read_text(file: str | Path, what: str) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Args:
        what: what the file is, for messages: "vocabulary file".

    Raises:
        ValueError: when it is missing, is a directory, or is not UTF-8.
    """
    path = Path(file)
    _must_exist(path, what)
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} '{path}' is not UTF-8 text ({error}); save it as UTF-8") from error


def read_json(file: str | Path, what: str) -> Any:
    """Read a JSON file; ValueError that begins with `what` when it is missing or damaged."""
    path = Path(file)
    _must_exist(path, what)
    try:
        return parse_json(path.read_text(encoding="utf-8-sig"))
    except JSON_ERRORS as error:
        problem = json_problem(error)
        raise ValueError(f"{what} {path} is not readable JSON ({problem}); get or write it again") from error


def parse_json(text: str) -> Any:
    """What `json.loads` makes of a text, in a third of the time.

    Raises:
        ValueError, RecursionError: as `json.loads` (`JSON_ERRORS`).
    """
    with without_collector():
        try:
            return _JSON.decode(text)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return json.loads(text)  # it takes NaN and halves of characters too, and says where an error is


_JSON = msgspec.json.Decoder()


def read_json_lines(file: str | Path, what: str) -> Iterator[tuple[int, str, Any]]:
    """(number, text, value) of each line of a JSONL file that is not blank.

    Raises:
        ValueError: when the file is missing, or a line is not JSON; the message has its number.
    """
    path = Path(file)
    _must_exist(path, what)
    number = 0
    try:
        with path.open(encoding="utf-8-sig") as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line, _of_line(line, number, path, what)
    except UnicodeDecodeError as error:
        raise ValueError(f"{what} '{path}' is not UTF-8 text after line {number} ({error})") from error


def _of_line(line: str, number: int, path: Path, what: str) -> Any:
    try:
        return parse_json(line)
    except JSON_ERRORS as error:
        problem = json_problem(error)
        raise ValueError(f"line {number} of {what} '{path}' is not JSON ({problem}): {line[:60]!r}") from error


# What the parser raises: ValueError also for text that is not UTF-8 and for numbers of more than 4,300 digits.
JSON_ERRORS = (ValueError, RecursionError)


def json_problem(error: Exception) -> str:
    """What one of `JSON_ERRORS` says, in plain words."""
    if isinstance(error, RecursionError):
        return "lists or objects are nested too deeply"
    if isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)):
        return str(error)
    return "a number has thousands of digits"


def read_yaml(file: str | Path, what: str, *, loader: Any = None) -> Any:
    """Read a YAML file; see `parse_yaml`."""
    return parse_yaml(read_text(file, what), f"{what} '{file}'", loader=loader)


def parse_yaml(text: str, where: str, *, loader: Any = None) -> Any:
    """Plain values of YAML: no tag makes an object.

    Args:
        where: the file and what it is, for messages.
        loader: a safe loader of PyYAML with rules of its own.

    Raises:
        ValueError: for text that is not YAML, nests deeper than 100 levels, names itself, multiplies by aliases to more
            than two million values, or has a value that is not what its tag says.
    """
    try:
        _check_size(yaml.parse(text, Loader=_SAFE))
        return yaml.load(text, Loader=_SAFE if loader is None else loader)
    except (yaml.YAMLError, ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        problem = " ".join(str(error).split())
        if not isinstance(error, (yaml.YAMLError, _Refused)):
            problem = f"a value is not readable ({problem:.80})"
        raise ValueError(f"{where} is not valid YAML: {problem}") from error


class _Refused(ValueError):
    """YAML by the letter that nobody writes."""


def _check_size(events: Iterator[Any]) -> None:
    # By events, whose parser keeps its own stack, before anything that calls itself for each level sees the text.
    sizes: dict[str, int] = {}
    pending: list[tuple[str | None, int]] = [(None, 0)]  # of the collections that are open: anchor, values so far
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            pending.append((event.anchor, 1))
            if len(pending) > _MOST_NESTED:
                raise _Refused(f"{_place(event)} is nested more than {_MOST_NESTED} levels deep")
            continue
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                raise _Refused(f"{_place(event)} refers to '&{event.anchor}', which it lies in or which is not there")
            anchor, size = None, sizes[event.anchor]
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, size = pending.pop()
        elif isinstance(event, yaml.ScalarEvent):
            anchor, size = event.anchor, 1
        else:
            continue
        if anchor:
            sizes[anchor] = size
        above, total = pending[-1]
        pending[-1] = above, total + size
        if total + size > _MOST_VALUES:
            raise _Refused(f"{_place(event)} makes more than {_MOST_VALUES:,} values of its aliases")


def _place(event: Any) -> str:
    return f"line {event.start_mark.line + 1}, column {event.start_mark.column + 1}"


_SAFE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C loader where it was built


def _must_exist(path: Path, what: str) -> None:
    if not path.is_file():
        problem = "is a directory, not a file" if path.is_dir() else "does not exist; is the folder the right one?"
        raise ValueError(f"{what} {path} {problem}")
