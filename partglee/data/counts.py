"""How much a data set should hold, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

PUBLISHED = "published"
UNCONFIRMED = "expected, unconfirmed"


@dataclass(frozen=True, slots=True)
class Counts:
    """What the files of a data set should hold; None where nobody says. `partglee data` compares them."""

    images: int | None = None
    objects: int | None = None  # annotations of the object level
    parts: int | None = None
    annotations: int | None = None  # of both levels, where the levels are not counted apart
    object_names: int | None = None  # categories of the file
    part_names: int | None = None
    unconfirmed: tuple[str, ...] = ()  # fields above whose numbers come from memory or second hand
    source: str = PUBLISHED  # of the other numbers

    def told(self) -> dict[str, tuple[int, str]]:
        """What is counted ("images", "part names") -> (number, who says so), of the numbers that are known."""
        found: dict[str, tuple[int, str]] = {}
        for field in fields(self):
            number = getattr(self, field.name)
            if isinstance(number, int):
                source = UNCONFIRMED if field.name in self.unconfirmed else self.source
                found[field.name.replace("_", " ")] = (number, source)
        return found

    def beside(self, held: Mapping[str, int]) -> list[Compared]:
        """What is there beside what should be; numbers that nobody gives are told where they are of images or levels.

        Args:
            held: by the names of `told`; what it does not count is left out.
        """
        told = self.told()
        found: list[Compared] = []
        for what, count in held.items():
            number, source = told.get(what, (count, ""))
            if source:
                text = (
                    f"{count} {what} ({source})"
                    if count == number
                    else f"{count} {what} INSTEAD OF {number} ({source})"
                )
                found.append(Compared(text, count == number))
            elif what in ("images", "objects", "parts"):
                found.append(Compared(f"{count} {what}", True))
        return found


class Compared(NamedTuple):
    """One count."""

    text: str
    agrees: bool
