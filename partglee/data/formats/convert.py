"""From one tool's annotations to another's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from partglee.data.formats.names import PART_NAMES, Names, levelled, renamed
from partglee.data.formats.registry import FORMATS, Format, format_of, get_format
from partglee.data.images import image_size
from partglee.data.prepare.files import AnnotatedImage


@dataclass(frozen=True)
class Converted:
    """What a conversion did."""

    source: Format
    target: Format
    names: Names
    notes: Counter[str]  # what was left out or repaired -> how often

    def text(self) -> str:
        """For people."""
        names = self.names
        lines = [
            f"{self.source.title} -> {self.target.title}",
            f"{names.images} images, {sum(names.objects.values())} objects of {len(names.objects)} names, "
            f"{names.num_parts} parts of {len(names.parts)} names, {names.linked} of them with their object",
        ]
        return "\n".join([*lines, *(f"note: {count} x {what}" for what, count in self.notes.most_common())])


def convert(
    source: Path,
    target: Path,
    *,
    from_format: str | None = None,
    to_format: str | None = None,
    images: Path | None = None,
    part_names: str = "keep",
) -> Converted:
    """Read annotations and write them anew, image by image; the source is read twice, first for its names.

    Args:
        target: a file or, of some formats, a folder, which must be empty or not there.
        from_format, to_format: keys of `FORMATS`; None = what the source looks like, and what the target's ending says.
        images: folder of the images, to read the sizes that the source does not say.
        part_names: `keep`, `full` (car:wheel) or `plain` (wheel).

    Raises:
        ValueError: for a source that cannot be read (with file and place), a format that is unknown or not written,
            or a target that is in the way.
    """
    reading = format_of(source) if from_format is None else get_format(from_format)
    writing = _target_format(target, to_format)
    if not source.exists():
        raise ValueError(f"'{source}' does not exist")
    if part_names not in PART_NAMES:
        raise ValueError(f"part names are written {', '.join(PART_NAMES)}, got {part_names!r}")
    _check_target(source, target, writing)

    def stream(notes: Counter[str]) -> Iterator[AnnotatedImage]:
        found = reading.read(source, notes)
        return found if images is None else _sized(found, images)

    first = Names.of(stream(Counter()))
    under = frozenset(name for name, owners in first.parts.items() if set(owners) - {None})
    parts = frozenset() if reading.says_levels else under

    def prepared(notes: Counter[str]) -> Iterator[AnnotatedImage]:
        return renamed(levelled(stream(notes), parts), part_names)

    names = first if part_names == "keep" and not parts else Names.of(prepared(Counter()))
    notes: Counter[str] = Counter()
    assert writing.write is not None
    writing.write(prepared(notes), target, names)
    return Converted(reading, writing, names, notes)


def _target_format(target: Path, key: str | None) -> Format:
    if key is None:
        key = {".xml": "cvat", ".json": "coco"}.get(target.suffix.lower())
    if key is None:
        raise ValueError(f"'{target}' does not say its format; add --to with one of {', '.join(_writable())}")
    found = get_format(key)
    if found.write is None:
        raise ValueError(f"{found.title} are not written; choose one of {', '.join(_writable())}")
    return found


def _writable() -> list[str]:
    return [key for key, entry in FORMATS.items() if entry.write is not None]


def _check_target(source: Path, target: Path, writing: Format) -> None:
    if target.exists() and target.resolve() == source.resolve():
        raise ValueError(f"'{target}' is the source; write to another place")
    if writing.folder and target.is_file():
        raise ValueError(f"'{target}' is a file, and {writing.title} is needed; name a folder")
    if writing.folder and target.is_dir() and any(target.iterdir()):
        raise ValueError(f"the folder '{target}' is not empty; name a new one")
    if not writing.folder and target.is_dir():
        raise ValueError(f"'{target}' is a folder; name a file")


def _sized(images: Iterator[AnnotatedImage], folder: Path) -> Iterator[AnnotatedImage]:
    """Images whose unknown sizes are read from their files."""
    for image in images:
        if image.height < 1 or image.width < 1:
            height, width = image_size(folder / image.file_name)
            image = replace(image, height=height, width=width)
        yield image
