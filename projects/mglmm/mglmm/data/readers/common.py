"""Reading entry by entry, with one clear error that names the entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mglmm.data import values
from mglmm.data.make import MOST, Asked, Scene, choose, resolve, segment
from mglmm.data.record import Record
from mglmm.data.wordings import Wordings, english
from partglee.basics.files import read_json


def entries_of(file: str | Path, kind: type) -> Any:
    """The content of a JSON file that must be of a kind, a list of objects for instance."""
    content = read_json(file, "annotation file")
    if not isinstance(content, kind):
        raise ValueError(f"annotation file '{file}' must be a {kind.__name__}, got {type(content).__name__}")
    if isinstance(content, list) and (wrong := [row for row, one in enumerate(content) if not isinstance(one, dict)]):
        raise ValueError(f"annotation file '{file}': entry {wrong[0]} is no object")
    return content


def objects_of(content: Mapping[str, Any], key: str, file: str | Path) -> list[Mapping[str, Any]]:
    """The list of objects under a key of an annotation file."""
    return values.objects(content, key, f"annotation file '{file}'")


def image_size_of(entry: Mapping[str, Any]) -> tuple[int, int]:
    """(H, W) that an entry says."""
    return values.size((entry["height"], entry["width"]), "[height, width]")


@contextmanager
def naming(file: str | Path, entry: Any, image: Any = None) -> Iterator[None]:
    """Whatever goes wrong inside is said of this entry."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, RecursionError) as error:
        told = f"has no {error}" if isinstance(error, KeyError) else str(error)
        raise ValueError(f"entry {entry} of '{file}' (image {image!r}): {told}") from error


class AskedImages:
    """A source of images in which things may be asked for, a few at a time.

    Args:
        scenes: each image with what may be asked for in it.
    """

    def __init__(
        self,
        name: str,
        scenes: Sequence[tuple[Scene, Sequence[Asked]]],
        *,
        images: Path | None = None,
        task: str = "referring",
        most: int = MOST,
        wordings: Wordings | None = None,
    ) -> None:
        self.name, self.images, self.scenes, self.task, self.most = name, images, tuple(scenes), task, most
        self.wordings = wordings or english()

    def __len__(self) -> int:
        return len(self.scenes)

    def draw(self, index: int, rng: Any) -> Record | None:
        scene, asked = self.scenes[index]
        if not asked:
            return None
        made = segment(scene, choose(asked, rng, self.most), self.wordings, rng, task=self.task)
        return resolve(made.check(), self.wordings, rng)
