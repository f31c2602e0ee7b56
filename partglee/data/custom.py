"""Data sets that a configuration describes, `DATASETS.CUSTOM`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_args

from fvcore.common.config import CfgNode as CN

from partglee.data.annotations.coco_json import read_coco
from partglee.data.catalog import Background, DatasetSpec, register
from partglee.structures import Vocabulary

_OURS = ("reader", "counts", "needs")  # fields that an entry does not give
_custom: set[str] = set()  # names that came from a configuration: a later one may describe them anew


def register_custom(cfg: CN) -> tuple[DatasetSpec, ...]:
    """Make the data sets of `DATASETS.CUSTOM` known: hierarchical COCO JSON, described by the fields of `DatasetSpec`.

    Raises:
        ValueError: for an unknown field (with the nearest known one), a missing one, a value that a field does not
            take, or a name that the library uses.
    """
    specs = tuple(_custom_spec(entry) for entry in cfg.DATASETS.CUSTOM)
    names = [spec.name for spec in specs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"DATASETS.CUSTOM describes {', '.join(twice)} twice; give each data set its own NAME")
    for spec in specs:
        register(spec, replace=spec.name in _custom)
        _custom.add(spec.name)
    return specs


def _custom_spec(entry: Any) -> DatasetSpec:
    known = {field.name.upper(): field for field in fields(DatasetSpec) if field.name not in _OURS}
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
    for name in ("object_background", "part_background"):
        if values.get(name, "labelled") not in get_args(Background):
            raise ValueError(f"DATASETS.CUSTOM: {name.upper()} is one of {get_args(Background)}, got {values[name]!r}")
    if values.get("vocabulary") is not None:
        values["vocabulary"] = Vocabulary.parse(values["vocabulary"])
    return DatasetSpec(reader=read_coco, **values)
