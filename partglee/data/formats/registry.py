"""The formats by name, and which one a file has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from partglee.basics.names import nearest
from partglee.data.formats import coco, cvat, fiftyone, label_studio, labelme, predictions, supervision
from partglee.data.formats.names import Names
from partglee.data.prepare.files import AnnotatedImage


@dataclass(frozen=True, slots=True)
class Format:
    """One tool's format."""

    key: str
    title: str
    read: Callable[[Path, Counter[str]], Iterator[AnnotatedImage]]  # notes: what was left out or repaired
    write: Callable[[Iterable[AnnotatedImage], Path, Names], None] | None  # None: it is read alone
    folder: bool = False  # it is written as a folder
    says_levels: bool = False  # every file says what is an object and what a part


FORMATS = {
    entry.key: entry
    for entry in (
        Format("coco", "COCO JSON with parent_id", coco.read, coco.write, says_levels=True),
        Format("cvat", "CVAT for images 1.1 (XML)", cvat.read, cvat.write),
        Format("labelstudio", "Label Studio JSON", label_studio.read, label_studio.write),
        Format("labelme", "labelme JSON, a folder", labelme.read, labelme.write, folder=True),
        Format("fiftyone", "FiftyOneDataset, a folder", fiftyone.read, fiftyone.write, folder=True),
        Format("supervision", "rows of supervision's JSONSink", supervision.read, supervision.write),
        Format("predictions", "JSON Lines of partglee predict", predictions.read, None, says_levels=True),
    )
}


def get_format(key: str) -> Format:
    """A format by its name; ValueError for an unknown one."""
    if key not in FORMATS:
        raise ValueError(f"no format {key!r}{nearest(key, FORMATS) or ';'} there are {', '.join(FORMATS)}")
    return FORMATS[key]


def format_of(path: Path) -> Format:
    """The format of a file or folder, from its ending and how it begins.

    Raises:
        ValueError: for nothing that is there, or what none of the formats looks like.
    """
    if not path.exists():
        raise ValueError(f"'{path}' does not exist")
    key = _of_folder(path) if path.is_dir() else _of_file(path)
    if key is None:
        raise ValueError(f"'{path}' looks like none of {', '.join(FORMATS)}; say which with --from")
    return FORMATS[key]


def _of_folder(path: Path) -> str | None:
    if (path / "samples.json").is_file():
        return "fiftyone"
    if (path / "annotations.xml").is_file():
        return "cvat"
    first = next(iter(labelme.files_of(path)), None)
    return "labelme" if first is not None and _of_file(first) == "labelme" else None


def _of_file(path: Path) -> str | None:
    if path.suffix.lower() == ".xml":
        return "cvat"
    if path.suffix.lower() == ".jsonl":
        return "predictions"
    with path.open("rb") as stream:
        head = stream.read(1 << 16).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if head.startswith("<"):
        return "cvat"
    if head.startswith("["):
        return "supervision" if '"x_min"' in head else "labelstudio"
    if not head.startswith("{"):
        return None
    if path.name == "samples.json":
        return "fiftyone"
    return "labelme" if '"shapes"' in head and '"categories"' not in head else "coco"
