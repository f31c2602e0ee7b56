"""Objects and parts as one list of classes, as programs with a single label space have them, and the way back.

K classes, Co object names, Cp part columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from partglee.basics.names import clean_names, name_key
from partglee.structures.prediction_row import Level
from partglee.structures.vocabulary import DEFAULT_OBJECT_FORMAT, DEFAULT_PART_FORMAT, Vocabulary

_SHOWN = 8


@dataclass(frozen=True)
class ClassList:
    """K class names, and the place of each in a vocabulary. A part's class is of one object: "car:wheel".

    >>> classes = ClassList.of(Vocabulary({"car": ["wheel"], "person": []}))
    >>> classes.names
    ('car', 'person', 'car:wheel')
    >>> ClassList.parse(classes.names).vocabulary == classes.vocabulary
    True
    """

    vocabulary: Vocabulary
    names: tuple[str, ...]  # K
    level: tuple[Level, ...]  # K
    label: tuple[int, ...]  # K, object row or part column of the vocabulary
    owner: tuple[int, ...]  # K, object row that a part is of; -1 for objects

    @classmethod
    def of(cls, vocabulary: Vocabulary) -> ClassList:
        """All objects, then all parts; a part column that several objects share is a class of each.

        Raises:
            ValueError: when an object's name reads like a part of another object ("car" beside "car:wheel").
        """
        objects = [(name, Level.OBJECT, row, -1) for row, name in enumerate(vocabulary.object_names)]
        parts = [
            (f"{vocabulary.object_names[row]}:{part}", Level.PART, column, row)
            for column, part in enumerate(vocabulary.part_names)
            for row in vocabulary.part_owner[column]
        ]
        made = cls(vocabulary, *zip(*objects, *parts, strict=True))
        if len({name_key(name) for name in made.names}) < len(made.names):
            taken = {name_key(name) for name in vocabulary.object_names}
            both = next(name for name, level, *_ in parts if name_key(name) in taken)
            raise ValueError(f"{both!r} is an object, and a part of another one, in one list of classes; rename either")
        return made

    @classmethod
    def parse(
        cls,
        names: Sequence[str],
        vocabulary: Vocabulary | None = None,
        *,
        part_format: str = DEFAULT_PART_FORMAT,
        object_format: str = DEFAULT_OBJECT_FORMAT,
    ) -> ClassList:
        """The classes of a list of names, in its order.

        "car:wheel" and "car's wheel" are a part where "car" is in the list too, or where all names of the list have
        this form; any other name is an object.

        Args:
            names: K.
            vocabulary: in which they are looked up; None = the one that they describe.
            part_format, object_format: of that one, see `Vocabulary`.

        Raises:
            ValueError: for a blank name or one given twice, and for names that the vocabulary lacks, all at once.
        """
        plain = clean_names(names, "class name")
        if not plain:
            raise ValueError("the list of classes is empty; name at least one")
        if vocabulary is None:
            vocabulary = _described(plain, part_format, object_format)
        known = cls.of(vocabulary)
        place: dict[str | tuple[str, str], int] = {}
        for k, (name, owner, label) in enumerate(zip(known.names, known.owner, known.label, strict=True)):
            if owner < 0:
                place[name_key(name)] = k
            else:
                place[name_key(vocabulary.object_names[owner]), name_key(vocabulary.part_names[label])] = k
        found = [place.get(name_key(name), -1) for name in plain]  # an object of that very name comes first
        for row, name in enumerate(plain):
            if found[row] < 0 and (pair := split_class_name(name, vocabulary.object_names)):
                found[row] = place.get((name_key(pair[0]), name_key(pair[1])), -1)
        if lacking := [name for name, k in zip(plain, found, strict=True) if k < 0]:
            more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
            raise ValueError(
                f"{len(lacking)} of {len(plain)} classes have no place in the vocabulary {vocabulary!r}: "
                f"{', '.join(map(repr, lacking[:_SHOWN]))}{more}; add these names to it, or leave the vocabulary out"
            )
        return cls(
            vocabulary=vocabulary,
            names=tuple(plain),
            level=tuple(known.level[k] for k in found),
            label=tuple(known.label[k] for k in found),
            owner=tuple(known.owner[k] for k in found),
        )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def _places(self) -> dict[tuple[int, int, int], int]:
        exact = {place: k for k, place in enumerate(zip(map(int, self.level), self.label, self.owner, strict=True))}
        first: dict[tuple[int, int, int], int] = {}
        for (level, label, _), k in exact.items():
            first.setdefault((level, label, -1), k)
        return {**first, **exact}

    def class_of(self, level: int, label: int, owner: int = -1) -> int:
        """The class of a row of a prediction; -1 where the list has none.

        Args:
            label: object row or part column.
            owner: object row of the object that a part was found in; -1 = not known, or no object that has it: the
                first class of this part.
        """
        places = self._places
        return places.get((level, label, owner), places.get((level, label, -1), -1))


def split_class_name(name: str, objects: Sequence[str]) -> tuple[str, str] | None:
    """ "car:wheel" or "car's wheel" -> ("car", "wheel") by the shortest known object; None where none fits.

    Args:
        objects: names that may come before the separator; none = any.
    """
    known = {name_key(entry) for entry in objects}
    pairs = [
        (name[:i], name[i + len(separator) :])
        for separator in (":", "'s ")
        for i in range(len(name))
        if name.startswith(separator, i)
    ]
    fitting = [
        (head.strip(), tail.strip())
        for head, tail in pairs
        if head.strip() and tail.strip() and (not known or name_key(head) in known)
    ]
    return min(fitting, key=lambda pair: len(pair[0]), default=None)


def _described(names: Sequence[str], part_format: str, object_format: str) -> Vocabulary:
    """The vocabulary of a list of class names."""
    alone = [split_class_name(name, ()) for name in names]
    pairs = alone if len(names) > 1 and all(alone) else [split_class_name(name, names) for name in names]
    parts: dict[str, tuple[str, list[str]]] = {
        name_key(name): (name, []) for name, pair in zip(names, pairs, strict=True) if pair is None
    }
    for pair in pairs:
        if pair is not None:
            parts.setdefault(name_key(pair[0]), (pair[0], []))[1].append(pair[1])
    return Vocabulary(dict(parts.values()), part_format=part_format, object_format=object_format)
