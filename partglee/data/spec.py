"""A data set as a value: where it lies, what it supervises, how much it should hold. Nothing here is registered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from partglee.data.expression_rules import ExpressionRules
from partglee.data.records import Records
from partglee.structures import Vocabulary

Background = Literal["labelled", "inside", "unlabelled"]

PUBLISHED = "published"
UNCONFIRMED = "expected, unconfirmed"
EXPRESSION_COUNTS = ("expressions", "single target", "multi target", "no target", "part expressions")


@dataclass(frozen=True, slots=True)
class Counts:
    """What the files of a data set should hold; None where nobody says. `partglee data` compares them."""

    images: int | None = None
    objects: int | None = None  # annotations of the object level
    parts: int | None = None
    annotations: int | None = None  # of both levels, where the levels are not counted apart
    object_names: int | None = None  # categories of the file
    part_names: int | None = None
    expressions: int | None = None
    single_target: int | None = None  # expressions by what they mean
    multi_target: int | None = None
    no_target: int | None = None
    part_expressions: int | None = None  # that mean parts alone
    unconfirmed: tuple[str, ...] = ()  # fields above whose numbers come from memory or second hand
    source: str = PUBLISHED  # of the other numbers

    def told(self) -> dict[str, tuple[int, str]]:
        """What is counted ("images", "part names") -> (number, who says so), of the numbers that are known."""
        known: dict[str, tuple[int, str]] = {}
        for entry in fields(self):
            number = getattr(self, entry.name)
            if isinstance(number, int):
                source = UNCONFIRMED if entry.name in self.unconfirmed else self.source
                known[entry.name.replace("_", " ")] = (number, source)
        return known

    def beside(self, held: Mapping[str, int]) -> list[Compared]:
        """What is there beside what should be; numbers that nobody gives are told where they are of images or levels.

        Args:
            held: by the names of `told`; what it does not count is left out.
        """
        told = self.told()
        compared: list[Compared] = []
        for what, count in held.items():
            number, source = told.get(what, (count, ""))
            if source:
                text = (
                    f"{count} {what} ({source})"
                    if count == number
                    else f"{count} {what} INSTEAD OF {number} ({source})"
                )
                compared.append(Compared(text, count == number))
            elif what in ("images", "objects", "parts", *EXPRESSION_COUNTS):
                compared.append(Compared(f"{count} {what}", True))
        return compared


class Compared(NamedTuple):
    """One count."""

    text: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """One data set or split.

    `background` says what an unmatched query may be punished for: "labelled": every instance of the names is annotated,
    wherever it is; "inside": everything inside the annotated objects is, the rest of the image was not looked at;
    "unlabelled": nothing is known beside the annotations.
    """

    name: str
    annotations: str  # file or folder, relative to the root of data sets (absolute paths stay); "" = there is none
    images: str  # folder that the file names are relative to; "" = there is none
    reader: Callable[[DatasetSpec], Records]
    vocabulary: Vocabulary | str | None = None  # None: the categories of the file; a string: `Vocabulary.parse`
    object_background: Background = "labelled"
    part_background: Background = "labelled"
    supervises_objects: bool = True  # False: the part level alone is annotated
    supervises_parts: bool = True  # False: the object level alone is annotated
    sampled_names: int = 0  # names of a batch vocabulary at each level: positives + random others; 0 = all names
    boxes_from_masks: bool = True  # after a crop; False where masks are worse than boxes
    left_right: bool = True  # names that say left or right are swapped by a flip
    evaluator: str = ""  # scoring protocol (`partglee.evaluation.protocols`); "" = `joint`, or `federated`
    outside_images: bool = False  # file names may lead out of the folder of images
    counts: Counts = field(default_factory=Counts)  # what `partglee data` compares the files with
    needs: tuple[str, ...] = ()  # further files and folders that the reader reads, relative to the root
    select: tuple[float, float] = (0.0, 1.0)  # share of the images, in file order, that this split keeps
    options: Mapping[str, Any] = field(default_factory=dict)  # for the reader
    expressions: ExpressionRules | None = None  # referring expressions are made by these rules, in place of the files'

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
        records = self.reader(self)
        if self.expressions is None:
            return records
        from partglee.data.expression_views import RuleExpressions

        return RuleExpressions(records, rules=self.expressions)


def splits(spec: DatasetSpec, **counts: Mapping[str, Any]) -> tuple[DatasetSpec, ...]:
    """The splits of a data set that differ in nothing but their name, which `{split}` stands for in names and paths.

    Args:
        spec: with what is common to all.
        counts: split -> its own fields of `Counts`, none = `{}`.
    """
    return tuple(
        replace(
            spec,
            name=spec.name.format(split=split),
            annotations=spec.annotations.format(split=split),
            images=spec.images.format(split=split),
            needs=tuple(path.format(split=split) for path in spec.needs),
            counts=replace(spec.counts, **own),
        )
        for split, own in counts.items()
    )


def divided(spec: DatasetSpec, *, split: str = "train", **shares: tuple[float, float]) -> tuple[DatasetSpec, ...]:
    """Names for shares of the images of one split, in file order.

    Args:
        spec: with what is common to all, `{split}` as for `splits`.
        split: whose files they are shares of.
        shares: name of the share, which stands where `{split}` does in the spec's name -> (from, to), 0..1.
    """
    (whole,) = splits(replace(spec, name="{split}"), **{split: {}})
    return tuple(
        replace(whole, name=spec.name.format(split=name), select=share, counts=Counts())
        for name, share in shares.items()
    )


def datasets_root() -> Path:
    """`PARTGLEE_DATASETS`, or else `DETECTRON2_DATASETS`, or else ./datasets."""
    return Path(os.environ.get("PARTGLEE_DATASETS") or os.environ.get("DETECTRON2_DATASETS") or "datasets")


def missing_files(spec: DatasetSpec) -> dict[str, Path]:
    """What is not there -> where it is expected: "annotations", "images", or a further path that the reader needs."""
    places = {"annotations": spec.annotation_path} if spec.annotations else {}  # toy scenes have no files
    places |= {"images": spec.image_root} if spec.images else {}
    places |= {path: datasets_root() / path for path in spec.needs}
    return {what: path for what, path in places.items() if not path.exists()}
