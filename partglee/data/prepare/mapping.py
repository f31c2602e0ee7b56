"""Mapping files: raw label names of a data set -> names at one common granularity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partglee.basics.files import read_yaml
from partglee.basics.names import nearest

FOLDER = Path(__file__).parents[1] / "mappings"
_KEYS = {"dataset", "objects", "names", "prompts", "unlabelled", "body", "split"}


@dataclass(frozen=True, slots=True)
class NameMapping:
    """A mapping file, checked."""

    objects: Mapping[str, tuple[str, ...]]  # {object: its part names}, in the order of category ids
    names: Mapping[str, str]  # raw name -> "object" or "object:part"
    prompts: Mapping[str, str]  # "object" or "object:part" -> what the text encoder reads, where it is not the default
    unlabelled: Mapping[str, str]  # raw name -> why nothing is made of it
    body: frozenset[str]  # unlabelled raw names that count to the object's mask all the same
    components: frozenset[str]  # names of which every connected region is an instance
    pairs: frozenset[str]  # names that come in pairs

    def target(self, raw: str) -> str | None:
        """The name that a raw label becomes, None when it is unlabelled; ValueError for a label the file forgot."""
        if raw in self.names:
            return self.names[raw]
        if raw in self.unlabelled:
            return None
        raise ValueError(
            f"the mapping file has no raw label {raw!r}{nearest(raw, [*self.names, *self.unlabelled])} "
            "Add it under `names` or `unlabelled`"
        )

    def categories(self) -> list[dict[str, Any]]:
        """COCO categories: all objects, then the parts of each object; ids from 1."""
        return categories_of(self.objects, self.prompts)


def categories_of(
    objects: Mapping[str, tuple[str, ...] | list[str]], prompts: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """{object: part names} -> COCO categories with `level`, objects first, ids from 1."""
    levels = [(name, "object") for name in objects]
    levels += [(f"{name}:{part}", "part") for name, parts in objects.items() for part in parts]
    entries: list[dict[str, Any]] = []
    for number, (name, level) in enumerate(levels, start=1):
        prompt = {"prompt": prompts[name]} if prompts and name in prompts else {}
        entries.append({"id": number, "name": name, "level": level, **prompt})
    return entries


def load_mapping(source: str | Path) -> NameMapping:
    """Read a mapping file, or the one that ships with the library for a data set name ("car_parts", "clothing").

    Raises:
        ValueError: for a missing file, unknown keys, or a target, prompt or rule that names nothing under `objects`.
    """
    path = FOLDER / f"{source}.yaml" if isinstance(source, str) and not source.endswith((".yaml", ".yml")) else source
    path = Path(path)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.yaml")))
        raise ValueError(f"no mapping file {path}; give a .yaml file or one of {known}")
    content = read_yaml(path, "mapping file")
    if not isinstance(content, dict) or not {"objects", "names"} <= set(content) <= _KEYS:
        raise ValueError(
            f"{path.name} must be a mapping with `objects` and `names`, and otherwise only {sorted(_KEYS)}"
        )
    objects = {str(name): tuple(parts or ()) for name, parts in content["objects"].items()}
    split = content.get("split") or {}
    mapping = NameMapping(
        objects=objects,
        names=dict(content["names"]),
        prompts=dict(content.get("prompts") or {}),
        unlabelled=dict(content.get("unlabelled") or {}),
        body=frozenset(content.get("body") or ()),
        components=frozenset(split.get("components") or ()),
        pairs=frozenset(split.get("pairs") or ()),
    )
    _check(mapping, path.name)
    return mapping


def _check(mapping: NameMapping, file: str) -> None:
    known = set(mapping.objects) | {f"{name}:{part}" for name, parts in mapping.objects.items() for part in parts}
    used = [*mapping.names.values(), *mapping.prompts, *mapping.components, *mapping.pairs]
    unknown = sorted(set(used) - known)
    if unknown:
        raise ValueError(f"{file} uses {unknown[:5]}, which are not under `objects`")
    twice = sorted(set(mapping.names) & set(mapping.unlabelled))
    if twice:
        raise ValueError(f"{file} has {twice[:5]} both under `names` and under `unlabelled`; keep one")
    stray = sorted(mapping.body - set(mapping.unlabelled))
    if stray:
        raise ValueError(f"{file} has {stray[:5]} under `body` but not under `unlabelled`")
