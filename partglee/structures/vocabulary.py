"""The names that are looked for: objects, and for each object its parts.

Co object names, Cp part columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Union

import torch
from torch import Tensor

from partglee.basics.names import humanise, name_key, nearest
from partglee.structures import vocabulary_files as files
from partglee.structures.known_parts import known_parts
from partglee.structures.vocabulary_input import (
    PromptKey,
    PromptKeys,
    check_format,
    clean_objects,
    clean_prompts,
    render,
    shorten,
    split_text,
)

DEFAULT_PART_FORMAT = "{object} {part}"
DEFAULT_OBJECT_FORMAT = "{object}"

VocabularyLike = Union["Vocabulary", str, Path, Mapping[str, Sequence[str]], Iterable[str]]  # what `parse` takes


@dataclass(frozen=True, init=False, repr=False)
class Vocabulary:
    """Object names, and for each object its part names. Immutable and hashable.

    Objects and parts are two lists of columns; labels are positions in them. A part column belongs to one object,
    unless `part_format` leaves the object out: then equal part names of several objects share a column.

    >>> vocabulary = Vocabulary({"car": ["wheel", "door"], "person": []})
    >>> vocabulary.part_prompts
    ('car wheel', 'car door')

    Args:
        objects: {object name: part names}, or a sequence of object names without parts.
        part_format: how a part reads for the text encoder. Fields: {object}, {part}; {Object}, {Part} in Title Case.
            Released part data sets use "{object}:{part}". Without an object field, equal part names share a column.
        object_format: how an object reads for the text encoder. Fields: {object}, {Object}.
        prompts: texts that replace the formatted one: {object name: text} and {(object name, part name): text}.

    Raises:
        ValueError: for an empty vocabulary, blank or duplicate names (case and white space do not count), a format
            without its field, or a prompt for a name that is not there.
        TypeError: for anything that is not text where a name is expected.
    """

    object_names: tuple[str, ...]  # Co
    part_names: tuple[str, ...]  # Cp, plain: "wheel"
    object_prompts: tuple[str, ...]  # Co, what the text encoder reads
    part_prompts: tuple[str, ...]  # Cp, "car wheel"
    part_owner: tuple[tuple[int, ...], ...]  # Cp, the object columns each part may appear under

    def __init__(
        self,
        objects: Mapping[str, Sequence[str]] | Sequence[str],
        *,
        part_format: str = DEFAULT_PART_FORMAT,
        object_format: str = DEFAULT_OBJECT_FORMAT,
        prompts: Mapping[PromptKey, str] | None = None,
    ) -> None:
        entries = clean_objects(objects)
        overrides = clean_prompts(prompts, entries)
        check_format("object_format", object_format, needed="object", allowed={"object"})
        part_fields = check_format("part_format", part_format, needed="part", allowed={"object", "part"})
        shared = "object" not in part_fields

        names = tuple(entries)
        object_prompts = tuple(
            overrides.get((name_key(name), None)) or render(object_format, name, "") for name in names
        )
        columns: dict[tuple[str, str], int] = {}
        part_names: list[str] = []
        part_prompts: list[str] = []
        owners: list[list[int]] = []
        explicit: dict[int, str] = {}
        for row, (name, parts) in enumerate(entries.items()):
            for part in parts:
                column = columns.setdefault(("" if shared else name_key(name), name_key(part)), len(part_names))
                if column == len(part_names):
                    part_names.append(part)
                    part_prompts.append(render(part_format, name, part))
                    owners.append([])
                owners[column].append(row)
                override = overrides.get((name_key(name), name_key(part)))
                if override is not None:
                    if explicit.setdefault(column, override) != override:
                        raise ValueError(
                            f"prompts give part {part!r} two texts, {explicit[column]!r} and {override!r}, but "
                            f"part_format {part_format!r} shares one column; put {{object}} in part_format"
                        )
                    part_prompts[column] = override
        set_field = object.__setattr__  # the dataclass is frozen
        set_field(self, "object_names", names)
        set_field(self, "part_names", tuple(part_names))
        set_field(self, "object_prompts", object_prompts)
        set_field(self, "part_prompts", tuple(part_prompts))
        set_field(self, "part_owner", tuple(tuple(rows) for rows in owners))

    # -- reading -------------------------------------------------------------------------------------------------

    @cached_property
    def allowed(self) -> Tensor:
        """(Co, Cp) bool on the CPU: part column may appear under that object."""
        with torch.inference_mode(False):  # cached: later callers may need it where gradients are on
            return self._allowed_table()

    def _allowed_table(self) -> Tensor:
        table = torch.zeros(len(self.object_names), len(self.part_names), dtype=torch.bool)
        pairs = [(row, column) for column, rows in enumerate(self.part_owner) for row in rows]
        if pairs:
            rows, columns = torch.tensor(pairs).unbind(1)
            table[rows, columns] = True
        return table

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {name_key(name): row for row, name in enumerate(self.object_names)}

    @cached_property
    def _columns_of(self) -> tuple[tuple[int, ...], ...]:
        columns: list[list[int]] = [[] for _ in self.object_names]
        for column, rows in enumerate(self.part_owner):
            for row in rows:
                columns[row].append(column)
        return tuple(tuple(entry) for entry in columns)

    def object_row(self, name: str) -> int:
        """Position of an object name (case and white space do not count); ValueError when it is not there."""
        row = self._row_of.get(name_key(name))
        if row is None:
            raise ValueError(
                f"{name!r} is not an object of this vocabulary{nearest(name, self.object_names)} "
                f"It has {shorten(self.object_names)}"
            )
        return row

    def part_columns(self, name: str) -> tuple[int, ...]:
        """Columns of the parts of an object."""
        return self._columns_of[self.object_row(name)]

    def parts_of(self, name: str) -> tuple[str, ...]:
        """Part names of an object; ValueError when the object is not in the vocabulary."""
        return tuple(self.part_names[column] for column in self.part_columns(name))

    def to_dict(self) -> dict[str, list[str]]:
        """{object name: part names}, which `Vocabulary` and YAML accept."""
        return {
            name: [self.part_names[column] for column in columns]
            for name, columns in zip(self.object_names, self._columns_of, strict=True)
        }

    def __repr__(self) -> str:
        head = [
            f"{name}: {shorten(parts, 4)}" if parts else name
            for name, parts in ((name, self.parts_of(name)) for name in self.object_names[:4])
        ]
        more = len(self.object_names) - 4
        text = "; ".join(head) + (f"; ... {more} more" if more > 0 else "")
        return f"Vocabulary({len(self.object_names)} objects, {len(self.part_names)} parts: {text})"

    def reworded(self, object_prompts: Sequence[str | None], part_prompts: Sequence[str | None]) -> Vocabulary:
        """The same names, read by other texts.

        Args:
            object_prompts: (Co); None leaves the object out.
            part_prompts: (Cp); None leaves the part out. A part whose objects are all left out goes too.

        Raises:
            ValueError: for another number of texts, or when no object is left.
        """
        if len(object_prompts) != len(self.object_names) or len(part_prompts) != len(self.part_names):
            raise ValueError(
                f"expected a text for each of {len(self.object_names)} objects and {len(self.part_names)} parts, got "
                f"{len(object_prompts)} and {len(part_prompts)}"
            )
        rows = [row for row, text in enumerate(object_prompts) if text is not None]
        if not rows:
            raise ValueError("no object is left in the vocabulary; give at least one a text")
        new_row = {row: place for place, row in enumerate(rows)}
        owners = [tuple(new_row[row] for row in entry if row in new_row) for entry in self.part_owner]
        columns = [column for column, text in enumerate(part_prompts) if text is not None and owners[column]]
        return self._of_columns(
            object_names=tuple(self.object_names[row] for row in rows),
            part_names=tuple(self.part_names[column] for column in columns),
            object_prompts=tuple(text for text in object_prompts if text is not None),
            part_prompts=tuple(str(part_prompts[column]) for column in columns),
            part_owner=tuple(owners[column] for column in columns),
        )

    @staticmethod
    def _of_columns(**columns: tuple[object, ...]) -> Vocabulary:
        other = object.__new__(Vocabulary)
        for name, value in columns.items():
            object.__setattr__(other, name, value)
        return other

    # -- making --------------------------------------------------------------------------------------------------

    @classmethod
    def from_columns(
        cls,
        *,
        object_names: Sequence[str],
        part_names: Sequence[str],
        part_owner: Sequence[Sequence[int]],
        object_prompts: Sequence[str] | None = None,
        part_prompts: Sequence[str] | None = None,
    ) -> Vocabulary:
        """A vocabulary from its columns in their order, as its attributes are called: for files that keep them.

        Args:
            part_owner: for each part column the object rows that it may appear under.
            object_prompts, part_prompts: None = the names.

        Raises:
            ValueError: for columns of different lengths, no object, or an owner that is no row.
        """
        objects, parts = tuple(map(str, object_names)), tuple(map(str, part_names))
        owners = tuple(tuple(int(row) for row in rows) for rows in part_owner)
        texts = tuple(map(str, object_prompts or objects)), tuple(map(str, part_prompts or parts))
        if not objects or (len(texts[0]), len(texts[1]), len(owners)) != (len(objects), len(parts), len(parts)):
            raise ValueError(
                f"expected at least one object, and a text for each of {len(objects)} objects and {len(parts)} parts "
                f"and owners of each part, got {len(texts[0])}, {len(texts[1])} and {len(owners)}"
            )
        if wrong := [row for rows in owners for row in rows if not 0 <= row < len(objects)]:
            raise ValueError(f"part_owner names object row {wrong[0]}, expected 0 to {len(objects) - 1}")
        return cls._of_columns(
            object_names=objects, part_names=parts, object_prompts=texts[0], part_prompts=texts[1], part_owner=owners
        )

    @classmethod
    def parse(cls, value: VocabularyLike) -> Vocabulary:
        """Make a vocabulary from whatever a user has.

        Args:
            value: a Vocabulary; {object: parts}; a sequence of names; a string "car: wheel, door; person" (objects are
                separated by `;`, objects without parts also by `,`); a path to a YAML file (`.yaml`, `.yml`, `.json`,
                or a `Path`), see `read_vocabulary_file`; a built-in vocabulary's name. Other strings are one name.

        Raises:
            ValueError, TypeError: naming the value and what to do.
        """
        if isinstance(value, Vocabulary):
            return value
        if isinstance(value, Path):
            return cls._from_file(value)
        if isinstance(value, str):
            text = value.strip()
            if not text:
                raise ValueError(f"the vocabulary is empty ({value!r}); write for example 'car: wheel, door; person'")
            if text.lower().endswith((".yaml", ".yml", ".json")):
                return cls._from_file(Path(text))
            if files.builtin_file(text):
                return cls.builtin(text)
            return cls(split_text(text))
        if isinstance(value, Mapping):
            return cls._from_fields(files.fields_of_mapping(value, origin="vocabulary"))
        if not isinstance(value, Iterable):
            raise TypeError(
                f"cannot make a vocabulary from {value!r:.60} ({type(value).__name__}); give a mapping "
                "{object: parts}, a list of names, a text such as 'car: wheel, door; person', a YAML file or a "
                "built-in name"
            )
        return cls(tuple(value))

    @classmethod
    def builtin(cls, name: str, *, split: str | None = None) -> Vocabulary:
        """One of the built-in vocabularies (`Vocabulary.list_builtin()`), names and order as in the data set.

        Args:
            split: "base" or "novel": those objects alone, with their parts.

        Raises:
            ValueError: for an unknown name, with the nearest known ones, or a split that it does not have.
        """
        return cls._builtin(name, split)

    @classmethod
    @cache  # a vocabulary does not change, and asking by name for each image would parse hundreds of names again
    def _builtin(cls, name: str, split: str | None) -> Vocabulary:
        fields = files.read_builtin(name)
        if split is not None:
            wanted = files.split_objects(name, split)
            assert isinstance(fields.objects, Mapping)
            fields = fields._replace(objects={key: fields.objects[key] for key in fields.objects if key in wanted})
        return cls._from_fields(fields)

    @staticmethod
    def list_builtin() -> tuple[str, ...]:
        """Names of the built-in vocabularies."""
        return files.list_builtin()

    @classmethod
    def with_known_parts(cls, names: str | Sequence[str]) -> Vocabulary:
        """A vocabulary with the part names that the built-in vocabularies know for each object.

        Data-set spellings become plain words (`inner_body` -> `inner body`, `car_(automobile)` -> `car`). An object
        that nobody knows gets no parts. `known_parts` tells where each part name comes from.

        >>> Vocabulary.with_known_parts(["airplane"]).parts_of("airplane")
        ('body', 'wing', 'tail', 'wheel', 'stern', 'engine', 'head', ...)
        """
        plain = cls([names] if isinstance(names, str) else names)
        known = known_parts(humanise(name) for name in plain.object_names)
        if len(known) < len(plain.object_names):
            raise ValueError(f"names {shorten(plain.object_names)} mean the same object twice; keep one spelling")
        return cls({name: tuple(parts) for name, parts in known.items()})

    @classmethod
    def _from_file(cls, path: Path) -> Vocabulary:
        fields = files.read_vocabulary_file(path)
        try:
            return cls._from_fields(fields)
        except (TypeError, ValueError) as error:
            raise type(error)(f"vocabulary file '{path}': {error}") from error

    @classmethod
    def _from_fields(cls, fields: files.VocabularyFields) -> Vocabulary:
        make = partial(
            cls,
            fields.objects,
            part_format=fields.part_format or DEFAULT_PART_FORMAT,
            object_format=fields.object_format or DEFAULT_OBJECT_FORMAT,
        )
        if not fields.display and not fields.prompts:
            return make()
        known = make().to_dict()
        prompts: dict[PromptKey, str] = {
            (name, part): render(fields.part_format or DEFAULT_PART_FORMAT, name, fields.display[part])
            for name, parts in known.items()
            for part in parts
            if part in fields.display
        }
        key_of = PromptKeys(known)
        for given, text in fields.prompts.items():
            prompts[key_of(str(given))] = text
        return make(prompts=prompts)
