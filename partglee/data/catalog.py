"""The data sets by name: the library's own, those that a user registers, those that a configuration describes."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from fvcore.common.config import CfgNode as CN

from partglee.basics.names import nearest
from partglee.data.annotations.coco_json import read_coco, read_triples
from partglee.data.annotations.triples import SUFFIXES
from partglee.data.datasets import SPECS
from partglee.data.expression_rules import parse_rules
from partglee.data.records import Records
from partglee.data.spec import Background, DatasetSpec
from partglee.structures import Vocabulary

_DATASETS: dict[str, DatasetSpec] = {spec.name: spec for spec in SPECS}

_NOT_GIVEN = ("reader", "counts", "needs")  # fields that an entry of `DATASETS.CUSTOM` does not give
_CONVERSATIONS = ".uscdf.jsonl"  # a form of the project mglmm
_custom: set[str] = set()  # names that came from a configuration: a later one may describe them anew


def register(spec: DatasetSpec, *, replace: bool = False) -> DatasetSpec:
    """Make a data set known by its name.

    Raises:
        ValueError: when the name is taken and `replace` is False.
    """
    if spec.name in _DATASETS and not replace:
        raise ValueError(f"a data set {spec.name!r} is registered already; choose another name, or pass replace=True")
    _DATASETS[spec.name] = spec
    return spec


def get_dataset(name: str) -> DatasetSpec:
    """The spec of a registered data set.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    if name not in _DATASETS:
        raise ValueError(
            f"no data set {name!r}{nearest(name, _DATASETS) or ';'} `partglee data list` shows all; your own files are "
            "registered by DATASETS.CUSTOM in a config or by partglee.data.register"
        )
    return _DATASETS[name]


def list_datasets() -> tuple[str, ...]:
    """Names of all registered data sets, sorted."""
    return tuple(sorted(_DATASETS))


class DataSets:
    """The data sets of one run, each read when it is first asked for and then handed on.

    Reading checks the whole annotation file. What a run does with its data sets (preflight, names for the text encoder,
    training batches, every evaluation) takes one object of this class, so that each file is read once.
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[DatasetSpec, Records]] = {}

    def records(self, name: str) -> Records:
        """The records of a registered data set; read anew only when the name was registered anew.

        Raises:
            ValueError: for an unknown name, and what `DatasetSpec.read` raises.
        """
        return self.read(get_dataset(name))

    def read(self, spec: DatasetSpec) -> Records:
        """The same of a spec that need not be registered; one of a name at a time."""
        if spec.name not in self._read or self._read[spec.name][0] is not spec:
            self._read[spec.name] = (spec, spec.read())
        return self._read[spec.name][1]


# -- described by a configuration -----------------------------------------------------------------------------------


def register_custom(cfg: CN) -> tuple[DatasetSpec, ...]:
    """Make the data sets of `DATASETS.CUSTOM` known, described by the fields of `DatasetSpec`: hierarchical COCO JSON,
    or triples (`.jsonl`, `.parquet`).

    An entry that says what is known already leaves the registered spec as it is.

    Raises:
        ValueError: for an unknown field (with the nearest known one), a missing one, a value that a field does not
            take, or a name that the library uses.
    """
    specs = tuple(_custom_spec(entry) for entry in cfg.DATASETS.CUSTOM)
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"DATASETS.CUSTOM describes {', '.join(twice)} twice; give each data set its own NAME")
    for spec in specs:
        if spec.name not in _custom or _DATASETS.get(spec.name) != spec:
            register(spec, replace=spec.name in _custom)
            _custom.add(spec.name)
    return tuple(_DATASETS[name] for name in names)


def _custom_spec(entry: Any) -> DatasetSpec:
    known = {field.name.upper(): field for field in fields(DatasetSpec) if field.name not in _NOT_GIVEN}
    if not isinstance(entry, Mapping):
        raise ValueError(f"an entry of DATASETS.CUSTOM must be a mapping {{NAME: .., ANNOTATIONS: ..}}, got {entry!r}")
    values: dict[str, Any] = {}
    for key, value in entry.items():
        if str(key).upper() not in known:
            near = difflib.get_close_matches(str(key).upper(), known, n=1, cutoff=0.0)[0]
            raise ValueError(f"DATASETS.CUSTOM: unknown field {key}; the nearest known one is {near}")
        field = known[str(key).upper()]
        if isinstance(field.default, (bool, int, str)) and type(value) is not type(field.default):
            kind = type(field.default).__name__
            raise ValueError(f"DATASETS.CUSTOM: {key} must be of type {kind}, got {value!r}")
        if field.name == "select":
            if not isinstance(value, (list, tuple)) or len(value) != 2 or not 0 <= value[0] < value[1] <= 1:
                raise ValueError(f"DATASETS.CUSTOM: {key} must be a share [FROM, TO] such as [0.0, 0.9], got {value!r}")
            value = tuple(value)
        values[field.name] = value
    if missing := [key.upper() for key in ("name", "annotations", "images") if key not in values]:
        raise ValueError(f"DATASETS.CUSTOM: {dict(entry)} has no {' and no '.join(missing)}")
    if str(values["annotations"]).endswith(_CONVERSATIONS):
        raise ValueError(
            f"DATASETS.CUSTOM: {values['annotations']} holds conversations, no annotations; register the file as a "
            "source in a module that --import names (projects/mglmm/README.md, Your own data)"
        )
    for name in ("object_background", "part_background"):
        if values.get(name, "labelled") not in get_args(Background):
            raise ValueError(f"DATASETS.CUSTOM: {name.upper()} is one of {get_args(Background)}, got {values[name]!r}")
    if "expressions" in values:
        values["expressions"] = parse_rules(values["expressions"]) if values["expressions"] else None
    if values.get("vocabulary") is not None:
        values["vocabulary"] = Vocabulary.parse(values["vocabulary"])
    if not str(values["annotations"]).endswith(SUFFIXES):
        return DatasetSpec(reader=read_coco, **values)
    return DatasetSpec(reader=read_triples, **{"evaluator": "referring_parts", **values})
