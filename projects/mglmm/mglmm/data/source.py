"""Where training records come from: something with a length that gives a record for each row, drawn anew each time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mglmm.data.hierarchy import describe_node, described_nodes
from mglmm.data.make import (
    MOST,
    Asked,
    Scene,
    absent_names,
    all_objects,
    choose,
    expressions_of,
    names_of,
    resolve,
    segment,
)
from mglmm.data.record import Record, read_uscdf
from mglmm.data.wordings import Wordings, english
from partglee.basics.names import nearest
from partglee.data.expression_views import listed, rows_with_expressions
from partglee.data.records import Records


class Source(Protocol):
    """Records of one kind."""

    name: str
    images: Path | None  # folder that file names are relative to; None: they are absolute, or there is no file

    def __len__(self) -> int: ...

    def draw(self, index: int, rng: np.random.Generator) -> Record | None:
        """A checked record with all its texts; None where an image has nothing to say."""
        ...


class FixedRecords:
    """Records as they were read; only questions are drawn.

    Args:
        records: checked.
    """

    def __init__(
        self, name: str, records: Sequence[Record], *, images: Path | None = None, wordings: Wordings | None = None
    ) -> None:
        self.name, self.images = name, images
        self.records = tuple(records)
        self.wordings = wordings or english()

    def __len__(self) -> int:
        return len(self.records)

    def draw(self, index: int, rng: np.random.Generator) -> Record:
        return resolve(self.records[index], self.wordings, rng)


class Scenes:
    """Records made of what a data set of the library knows of an image.

    Args:
        records: read.
        make: (record, its names, wordings, rng) -> a record; None where there is nothing to say.
    """

    def __init__(
        self,
        name: str,
        records: Records,
        make: Callable[..., Record | None],
        *,
        wordings: Wordings | None = None,
        **options: Any,
    ) -> None:
        self.name, self.records, self.make = name, records, make
        self.images: Path | None = None  # records of the library say whole paths
        self.wordings = wordings or english()
        self.options = options

    def __len__(self) -> int:
        return len(self.records)

    def made(self, index: int, rng: np.random.Generator) -> Record | None:
        """A record whose questions are not drawn yet."""
        return self.make(self.records[index], self.records.vocabulary, self.wordings, rng, **self.options)

    def draw(self, index: int, rng: np.random.Generator) -> Record | None:
        made = self.made(index, rng)
        return None if made is None else resolve(made.check(), self.wordings, rng)


# -- what can be made of an image of the library -----------------------------------------------------------------------


def referring(
    known: Any, names: Any, wordings: Wordings, rng: np.random.Generator, *, most: int = MOST
) -> Record | None:
    """Its sentences; those that mean nothing are said not to be there."""
    asked = expressions_of(known)
    return segment(Scene.of(known), choose(asked, rng, most), wordings, rng) if asked else None


def semantic(
    known: Any, names: Any, wordings: Wordings, rng: np.random.Generator, *, most: int = MOST, absent: float = 0.1
) -> Record | None:
    """Its names, with a chance that one name that is not there is asked for alone."""
    missing = absent_names(known, names)
    if missing and rng.random() < absent:
        asked = [Asked(str(rng.choice(missing)), ())]
    else:
        asked = choose(names_of(known, names, rng), rng, most)
    return segment(Scene.of(known), asked, wordings, rng, task="semantic") if asked else None


def everything(known: Any, names: Any, wordings: Wordings, rng: np.random.Generator) -> Record | None:
    """All objects by their names, one by one."""
    objects = [(names.object_names[one.label], one.segmentation) for one in known.objects
               if one.segmentation is not None and not one.crowd]  # fmt: skip
    return all_objects(Scene.of(known), objects, wordings, rng) if objects else None


def hierarchical(
    known: Any, names: Any, wordings: Wordings, rng: np.random.Generator, *, root: float = 0.5
) -> Record | None:
    """The whole image, or one of its objects with its parts, described by rule over its hierarchy.

    Args:
        root: chance of the whole image, where both can be described.
    """
    nodes = described_nodes(known, names)
    if not nodes:
        return None
    below = [node for node in nodes if node >= 0]
    whole = not below or (nodes[0] < 0 and rng.random() < root)
    return describe_node(known, names, -1 if whole else int(rng.choice(below)))


class Sentences:
    """Every sentence of a data set of the library as a question of its own, as referring sets are evaluated.

    Args:
        records: read.
    """

    def __init__(self, name: str, records: Records, *, wordings: Wordings | None = None) -> None:
        self.name, self.records = name, records
        self.images: Path | None = None
        self.wordings = wordings or english()
        rows = rows_with_expressions(records) if listed(records) else range(len(records))
        self.places = [(row, number) for row in rows for number in range(len(expressions_of(records[row])))]

    def __len__(self) -> int:
        return len(self.places)

    def draw(self, index: int, rng: np.random.Generator) -> Record:
        row, number = self.places[index]
        known = self.records[row]
        made = segment(Scene.of(known), [expressions_of(known)[number]], self.wordings, rng)
        return resolve(replace(made, name=f"{made.name}/{number}").check(), self.wordings, rng)


MAKERS: Mapping[str, Callable[..., Record | None]] = {
    "referring": referring, "semantic": semantic, "everything": everything, "hierarchical": hierarchical,
}  # fmt: skip


def library_source(name: str, make: str, *, records: Records | None = None, **options: Any) -> Scenes:
    """A registered data set of the library as a source.

    Args:
        name: of the data set.
        make: one of `MAKERS`.
        records: read already.

    Raises:
        ValueError: for an unknown name.
    """
    from partglee.data.catalog import get_dataset

    if make not in MAKERS:
        raise ValueError(f"no way to make records {make!r}{nearest(make, MAKERS) or ';'} there are {', '.join(MAKERS)}")
    spec = get_dataset(name)
    return Scenes(f"{name}/{make}", spec.read() if records is None else records, MAKERS[make], **options)


def uscdf_source(file: str | Path, images: str | Path) -> FixedRecords:
    """A file of USCDF as a source."""
    path = Path(file)
    return FixedRecords(path.name.partition(".")[0], list(read_uscdf(path)), images=Path(images))
