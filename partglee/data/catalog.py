"""The data sets by name. Everything in which they differ is a field of `DatasetSpec`."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from partglee.basics.names import nearest
from partglee.data.counts import Counts
from partglee.data.records import Records
from partglee.structures import Vocabulary

Background = Literal["labelled", "inside", "unlabelled"]
_DATASETS: dict[str, DatasetSpec] = {}


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One data set or split.

    `background` says what an unmatched query may be punished for: "labelled": every instance of the names is annotated,
    wherever it is; "inside": everything inside the annotated objects is, the rest of the image was not looked at;
    "unlabelled": nothing is known beside the annotations.
    """

    name: str
    annotations: str  # file or folder, relative to the root of data sets (absolute paths stay)
    images: str  # folder that the file names are relative to
    reader: Callable[[DatasetSpec], Records]
    vocabulary: Vocabulary | str | None = None  # None: the categories of the file; a string: `Vocabulary.parse`
    object_background: Background = "labelled"
    part_background: Background = "labelled"
    supervises_objects: bool = True  # False: the part level alone is annotated
    supervises_parts: bool = True  # False: the object level alone is annotated
    sampled_names: int = 0  # names of a batch vocabulary at each level: positives + random others; 0 = all names
    boxes_from_masks: bool = True  # after a crop; False where masks are worse than boxes
    left_right: bool = True  # names that say left or right are swapped by a flip
    evaluator: str = ""  # key of `partglee.evaluation.EVALUATORS`; "" = for training only
    counts: Counts = field(default_factory=Counts)  # what `partglee data` compares the files with
    needs: tuple[str, ...] = ()  # further files and folders that the reader reads, relative to the root
    select: tuple[float, float] = (0.0, 1.0)  # share of the images, in file order, that this split keeps
    options: Mapping[str, Any] = field(default_factory=dict)  # for the reader

    @property
    def annotation_path(self) -> Path:
        return datasets_root() / self.annotations

    @property
    def image_root(self) -> Path:
        return datasets_root() / self.images

    def read(self) -> Records:
        """The records, read now.

        Raises:
            ValueError: when the annotation file is missing (with the expected path) or not what the reader expects.
        """
        return self.reader(self)


def datasets_root() -> Path:
    """`PARTGLEE_DATASETS`, or else `DETECTRON2_DATASETS`, or else ./datasets."""
    return Path(os.environ.get("PARTGLEE_DATASETS") or os.environ.get("DETECTRON2_DATASETS") or "datasets")


def register(spec: DatasetSpec, *, replace: bool = False) -> DatasetSpec:
    """Make a data set known by its name.

    Raises:
        ValueError: when the name is taken and `replace` is False.
    """
    _register_built_in()
    if spec.name in _DATASETS and not replace:
        raise ValueError(f"a data set {spec.name!r} is registered already; choose another name, or pass replace=True")
    _DATASETS[spec.name] = spec
    return spec


def get_dataset(name: str) -> DatasetSpec:
    """The spec of a registered data set.

    Raises:
        ValueError: for an unknown name, with the nearest known ones.
    """
    _register_built_in()
    if name not in _DATASETS:
        raise ValueError(
            f"no data set {name!r}{nearest(name, _DATASETS) or ';'} `partglee data list` shows all; your own files are "
            "registered by DATASETS.CUSTOM in a config or by partglee.data.register"
        )
    return _DATASETS[name]


def list_datasets() -> tuple[str, ...]:
    """Names of all registered data sets, sorted."""
    _register_built_in()
    return tuple(sorted(_DATASETS))


def _register_built_in() -> None:
    """Import the library's own data sets; while they register themselves, this does nothing."""
    importlib.import_module("partglee.data.datasets")
