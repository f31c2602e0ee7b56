"""The names of a file, known before the first image is written; and how part names are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from partglee.data.annotations.categories import split_part_name
from partglee.data.formats.shapes import rows
from partglee.data.prepare.files import AnnotatedImage
from partglee.data.prepare.regions import Region

PART_NAMES = ("keep", "full", "plain")


@dataclass
class Names:
    """Names and counts, in the order in which they came."""

    objects: dict[str, int] = field(default_factory=dict)  # name -> instances
    parts: dict[str, dict[str | None, int]] = field(default_factory=dict)  # name -> {object: instances}; None: unknown
    images: int = 0

    @classmethod
    def of(cls, images: Iterable[AnnotatedImage]) -> Names:
        """Go through all images once."""
        names = cls()
        for image in images:
            names.images += 1
            tops: list[str | None] = []
            for region, parent, part in rows(image):
                tops.append(tops[parent] if parent >= 0 else None if part else region.name)
                if part:
                    owners = names.parts.setdefault(region.name, {})
                    owners[tops[-1]] = owners.get(tops[-1], 0) + 1
                else:
                    names.objects[region.name] = names.objects.get(region.name, 0) + 1
        return names

    @property
    def linked(self) -> int:
        """Parts whose object is known."""
        return sum(count for owners in self.parts.values() for owner, count in owners.items() if owner is not None)

    @property
    def num_parts(self) -> int:
        """Parts, with or without a known object."""
        return sum(count for owners in self.parts.values() for count in owners.values())


def levelled(images: Iterable[AnnotatedImage], parts: frozenset[str]) -> Iterator[AnnotatedImage]:
    """Images in which names that are parts elsewhere are parts without a known object, not objects.

    Tools do not say a level: a wheel without a link looks like an object. One that has parts of its own is one.

    Args:
        parts: names that are a part of something somewhere, and never said to be an object.
    """
    for image in images:
        stray = tuple(region for region in image.objects if region.name in parts and not region.parts)
        if stray:
            kept = tuple(region for region in image.objects if region.name not in parts or region.parts)
            image = replace(image, objects=kept, loose=(*image.loose, *stray))
        yield image


def renamed(images: Iterable[AnnotatedImage], form: str) -> Iterator[AnnotatedImage]:
    """Images whose parts are named `car:wheel` (form `full`), `wheel` (`plain`) or as they are (`keep`).

    Parts without a known object keep their name, and so does a plain name under another object than it says.

    Raises:
        ValueError: for another form.
    """
    if form not in PART_NAMES:
        raise ValueError(f"part names are written {', '.join(PART_NAMES)}, got {form!r}")

    def name(region: Region, owner: str) -> Region:
        pair = split_part_name(region.name)
        text = region.name
        if form == "full" and pair is None:
            text = f"{owner}:{region.name}"
        elif form == "plain" and pair is not None and pair[0] == owner:
            text = pair[1]
        return replace(region, name=text, parts=tuple(name(part, owner) for part in region.parts))

    for image in images:
        if form != "keep":
            named = (
                replace(thing, parts=tuple(name(part, thing.name) for part in thing.parts)) for thing in image.objects
            )
            image = replace(image, objects=tuple(named))
        yield image
