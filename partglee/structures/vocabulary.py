"""The names that are looked for: objects, and for each object its parts.

Co object names, Cp part columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from string import Formatter
from typing import Union

import torch
from torch import Tensor

from partglee.basics.names import clean_name, clean_names, humanise, name_key, nearest
from partglee.structures import vocabulary_files as files
from partglee.structures.known_parts import known_parts

DEFAULT_PART_FORMAT = "{object} {part}"
DEFAULT_OBJECT_FORMAT = "{object}"

PromptKey = str | tuple[str, str]
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
        entries = _clean_objects(objects)
        overrides = _clean_prompts(prompts, entries)
        _check_format("object_format", object_format, needed="object", allowed={"object"})
        part_fields = _check_format("part_format", part_format, needed="part", allowed={"object", "part"})
        shared = "object" not in part_fields

        names = tuple(entries)
        object_prompts = tuple(
            overrides.get((name_key(name), None)) or _render(object_format, name, "") for name in names
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
                    part_prompts.append(_render(part_format, name, part))
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
                f"It has {_shorten(self.object_names)}"
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
            f"{name}: {_shorten(parts, 4)}" if parts else name
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
            return cls(_split_text(text))
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
            raise ValueError(f"names {_shorten(plain.object_names)} mean the same object twice; keep one spelling")
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
            (name, part): _render(fields.part_format or DEFAULT_PART_FORMAT, name, fields.display[part])
            for name, parts in known.items()
            for part in parts
            if part in fields.display
        }
        for given, text in fields.prompts.items():
            prompts[_prompt_key(str(given), known)] = text
        return make(prompts=prompts)


def _prompt_key(given: str, known: Mapping[str, Sequence[str]]) -> PromptKey:
    """ "object" or "object:part" of a file; the names that it has win, since any of them may hold a `:`."""
    if name_key(given) in map(name_key, known):
        return given
    colons = [place for place, letter in enumerate(given) if letter == ":"]
    pairs = [(given[:place], given[place + 1 :].strip()) for place in colons]
    objects = {name_key(name): {name_key(part) for part in parts} for name, parts in known.items()}
    fits = [pair for pair in pairs if name_key(pair[1]) in objects.get(name_key(pair[0]), ())]
    return next(iter([*fits, *pairs]), given)


def _shorten(names: Sequence[str], limit: int = 6) -> str:
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f", ... {more} more" if more > 0 else "")


def _clean_objects(objects: object) -> dict[str, tuple[str, ...]]:
    if isinstance(objects, Mapping):
        names = clean_names(list(objects), "object name")
        lists = ((name, () if parts is None else parts) for name, parts in zip(names, objects.values(), strict=True))
        entries = {name: clean_names(parts, "part name", f" of {name!r}") for name, parts in lists}
    elif isinstance(objects, str):
        raise TypeError(
            f"objects must be a mapping or a list, got the text {objects!r}; use Vocabulary.parse({objects!r})"
        )
    else:
        entries = dict.fromkeys(clean_names(objects, "object name"), ())
    if not entries:
        raise ValueError(f"the vocabulary is empty ({objects!r:.60}); name at least one object, for example ['person']")
    return entries


def _clean_prompts(
    prompts: Mapping[PromptKey, str] | None, entries: Mapping[str, tuple[str, ...]]
) -> dict[tuple[str, str | None], str]:
    known: set[tuple[str, str | None]] = {(name_key(name), None) for name in entries}
    known |= {(name_key(name), name_key(part)) for name, parts in entries.items() for part in parts}
    clean: dict[tuple[str, str | None], str] = {}
    for given, text in (prompts or {}).items():
        pair = (given, None) if isinstance(given, str) else given
        if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
            raise TypeError(f"a prompt is given for {given!r}; write an object name or a pair (object name, part name)")
        key = (name_key(pair[0]), None if pair[1] is None else name_key(str(pair[1])))
        if key not in known:
            raise ValueError(
                f"a prompt is given for {given!r}, which is not in the vocabulary; remove it or add the name"
            )
        clean[key] = clean_name(text, f"prompt for {given!r}")
    return clean


def _check_format(argument: str, text: object, *, needed: str, allowed: set[str]) -> set[str]:
    if not isinstance(text, str):
        raise TypeError(f"{argument} must be text such as '{{{needed}}}', got {text!r} ({type(text).__name__})")
    try:
        given = {field for _, field, _, _ in Formatter().parse(text) if field is not None}
    except ValueError as error:
        raise ValueError(
            f"{argument} {text!r} is not a format ({error}); fields are {{object}} and {{part}}"
        ) from error
    fields = {field.lower() if field in ("Object", "Part") else field for field in given}
    if needed not in fields or not fields <= allowed:
        raise ValueError(
            f"{argument} must contain {{{needed}}} and may only use {sorted(allowed)} as fields, got {text!r}"
        )
    return fields


def _render(text: str, name: str, part: str) -> str:
    return text.format(object=name, part=part, Object=name.title(), Part=part.title())


def _split_text(text: str) -> dict[str, tuple[str, ...]] | list[str]:
    """ "car: wheel, door; person" -> {"car": ("wheel", "door"), "person": ()}."""
    if not re.search(r"[:;,\n]", text):
        return [text]
    pairs: list[tuple[str, tuple[str, ...]]] = []
    segments = [segment.strip() for segment in re.split(r"[;\n]", text)]
    while segments and not segments[-1]:  # a closing `;`
        segments.pop()
    for segment in segments:
        name, colon, rest = segment.partition(":")
        if not colon:
            pairs += [(entry, ()) for entry in segment.split(",")]
            continue
        if ":" in rest:
            raise ValueError(
                f"{segment!r} in the vocabulary has two ':'; separate objects with ';' as in 'car: wheel; dog: tail'"
            )
        if not name.strip():
            raise ValueError(f"{segment!r} in the vocabulary lists parts of no object; write 'object: {rest.strip()}'")
        if "," in name:
            raise ValueError(f"{segment!r} in the vocabulary lists parts of several objects; separate objects with ';'")
        pairs.append((name, tuple(rest.split(",")) if rest.strip() else ()))
    names = clean_names([name for name, _ in pairs], "object name")
    return dict(zip(names, (parts for _, parts in pairs), strict=True))
