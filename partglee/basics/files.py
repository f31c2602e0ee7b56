"""Files that appear whole: written beside their place, then renamed, so that no reader sees half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends well and is removed when it does not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    os.close(handle)
    beside = Path(name)
    try:
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


def read_json(file: str | Path, what: str) -> Any:
    """Read a JSON file; ValueError that begins with `what` when it is missing or damaged."""
    path = Path(file)
    if not path.is_file():
        raise ValueError(f"{what} {path} does not exist; is the folder the right one?")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{what} {path} is not readable JSON ({error}); get or write it again") from error


def write_jpeg(picture: Image.Image, file: str | Path, *, quality: int = 90) -> None:
    """Write a picture of any mode as JPEG."""
    with whole_file(Path(file)) as beside:
        picture.convert("RGB").save(beside, format="JPEG", quality=quality)
