"""How a predictions file is scored: one record for each protocol, by the name that `DatasetSpec.evaluator` gives.

`partglee eval`, `--eval-only` and evaluation while training ask a protocol alone: which kind of file it reads (this
decides who writes it, see `partglee.engine.answers`), what its metrics are called (the preflight checks `TEST.BEST`
against them), and the numbers. Another one is one call:

    def score(file, records, options):
        return {"answered": 100.0 * sum(1 for _ in file.open()) / len(records)}

    register_protocol(Protocol(name="answered", reads=DETECTIONS, score=score, metrics=("answered",)))
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from partglee.basics.names import nearest
from partglee.data import DatasetSpec, Records
from partglee.evaluation.base import Results
from partglee.evaluation.evaluators import EVALUATORS, check_options, dataset_evaluator, evaluator_name
from partglee.evaluation.instances import InstanceEvaluator
from partglee.evaluation.part_map_files import part_map_evaluator, score_label_images, score_part_maps
from partglee.evaluation.prediction_files import detect_format, score_file
from partglee.evaluation.semantic_parts import SemanticPartEvaluator


class FileKind(NamedTuple):
    """A kind of predictions file."""

    name: str  # by which `partglee.engine.answers` knows who writes it
    what: str  # for messages: "a file of detections"
    suffixes: tuple[str, ...]  # of the file, the one that we write first; none: it is a folder

    def place(self, folder: Path, name: str) -> Path:
        """Where the predictions for the data set `name` go."""
        return folder / (name + (self.suffixes[0] if self.suffixes else ""))


DETECTIONS = FileKind("detections", "a file of detections", (".jsonl", ".json"))
EXPRESSIONS = FileKind("expressions", "a file of answers to expressions", (".jsonl", ".json"))
PART_MAPS = FileKind("part maps", "a folder of label images", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringOptions:
    """What a score is asked for, besides the file and the records."""

    spec: DatasetSpec  # of the records
    rows: Sequence[int] | None = None  # records that the file answers for, those of one process; None = all
    by_label: bool = False  # labels are those of the records' vocabulary (our own files); False: names are looked up
    kinds: tuple[str, ...] | None = None  # of "bbox" and "segm"; None: masks too where annotations have some
    strict: bool = True  # the first bad prediction ends it; False: they are left out and counted
    arguments: Mapping[str, Any] = field(default_factory=dict)  # the protocol's own, such as {"rules": ["official"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """How predictions of one kind of file are scored.

    `score(file, records, options)` gives `{"<group>/<metric>": number}`; where options name the rows of one process,
    every process of the run calls it, and the first one gets the numbers of all. It raises ValueError for options that
    the protocol does not have, and `PredictionError` for predictions that cannot be scored.
    """

    name: str
    reads: FileKind
    score: Callable[[Path, Records, ScoringOptions], Results]
    metrics: tuple[str, ...] | Callable[[Records, ScoringOptions], tuple[str, ...]]
    title: str | Callable[[ScoringOptions], str] = ""  # heads the table; "" = the name

    def metric_names(self, records: Records, options: ScoringOptions) -> tuple[str, ...]:
        """The keys of `score`, known without predictions.

        Raises:
            ValueError: for records that cannot be scored by this protocol.
        """
        if isinstance(self.metrics, tuple):
            return self.metrics
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the score will tell them
            return self.metrics(records, options)

    def heading(self, options: ScoringOptions) -> str:
        """What the numbers are, such as `car_parts_val: objects and parts`."""
        title = self.title(options) if callable(self.title) else self.title
        return f"{options.spec.name}: {title or self.name}"

    def check_file(self, path: Path, spec: DatasetSpec) -> None:
        """Whether there is a file of the kind that this protocol reads.

        Raises:
            ValueError: when there is none, or one of another kind.
        """
        endings = self.reads.suffixes
        if path.is_dir() and endings:
            raise ValueError(
                f"'{path}' is {PART_MAPS.what}, but {spec.name} is scored by {self.name!r}, which reads "
                f"{self.reads.what}; other part maps: --annotations DIR [--objects DIR] --option num_classes=K"
            )
        if path.is_file() and not endings:
            raise ValueError(f"{self.name} scores {self.reads.what}, but '{path}' is a file")
        if not path.exists() or set(endings) <= set(DETECTIONS.suffixes):
            detect_format(path)
        elif path.suffix.lower() not in endings:
            raise ValueError(f"{self.name} scores files that end in {', '.join(endings)}, got '{path}'")


_PROTOCOLS: dict[str, Protocol] = {}


def register_protocol(protocol: Protocol, *, replace: bool = False) -> Protocol:
    """Make a protocol known by its name, for `DatasetSpec.evaluator` and `partglee eval --evaluator`.

    Raises:
        ValueError: when the name is taken and `replace` is False.
    """
    if protocol.name in _PROTOCOLS and not replace:
        raise ValueError(f"a protocol {protocol.name!r} is there already; choose another name, or pass replace=True")
    _PROTOCOLS[protocol.name] = protocol
    return protocol


def list_protocols() -> tuple[str, ...]:
    """Names of all protocols, sorted."""
    return tuple(sorted(_PROTOCOLS))


def get_protocol(name: str) -> Protocol:
    """A protocol by its name.

    Raises:
        ValueError: for an unknown one, with the nearest known ones.
    """
    if name not in _PROTOCOLS:
        raise ValueError(
            f"there is no evaluator {name!r}{nearest(name, _PROTOCOLS) or ';'} there are {', '.join(list_protocols())}"
        )
    return _PROTOCOLS[name]


def protocol_of(spec: DatasetSpec, records: Records) -> Protocol:
    """The protocol of a data set: its own, else `joint`, or `federated` where images say which names were looked for.

    Raises:
        ValueError: for a spec that names an unknown one.
    """
    return get_protocol(evaluator_name(spec, records))


def metric_names(spec: DatasetSpec, records: Records) -> tuple[str, ...]:
    """The metrics of a data set by its own protocol, as evaluation while training names them behind `NAME/`.

    Raises:
        ValueError: for records that cannot be scored by it.
    """
    return protocol_of(spec, records).metric_names(records, ScoringOptions(spec=spec, by_label=True))


# -- detections ------------------------------------------------------------------------------------------------------


def detection_protocol(name: str, kind: type[InstanceEvaluator]) -> Protocol:
    """A protocol whose numbers are those of an evaluator of detections; `ScoringOptions.arguments` are its own."""

    def evaluator(records: Records, options: ScoringOptions) -> InstanceEvaluator:
        return dataset_evaluator(
            options.spec, records, key=kind, by_label=options.by_label, kinds=options.kinds, strict=options.strict,
            **options.arguments,
        )  # fmt: skip

    def score(file: Path, records: Records, options: ScoringOptions) -> Results:
        made = evaluator(records, options)
        if options.rows is not None and not file.stat().st_size:  # a process without an image has found nothing
            return made.evaluate()
        return score_file(file, made)

    def metrics(records: Records, options: ScoringOptions) -> tuple[str, ...]:
        return evaluator(records, options).metric_names()

    return Protocol(name=name, reads=DETECTIONS, score=score, metrics=metrics, title=kind.name)


# -- part maps -------------------------------------------------------------------------------------------------------


def _map_evaluator(records: Records, options: ScoringOptions) -> SemanticPartEvaluator:
    if options.kinds:
        raise ValueError("a folder of label images is scored by the evaluator semantic_parts, which knows no --kinds")
    check_options(SemanticPartEvaluator, options.arguments)
    if "labels" in options.spec.options:
        return part_map_evaluator(options.spec, records, strict=options.strict, **options.arguments)
    if not options.spec.annotation_path.is_dir():
        raise ValueError(
            f"{options.spec.name} has no part maps to score by semantic_parts; other part maps: --annotations DIR "
            "[--objects DIR] --option num_classes=K"
        )
    if "num_classes" not in options.arguments:
        raise ValueError("label images need --option num_classes=K, the number of part classes")
    return SemanticPartEvaluator(strict=options.strict, **options.arguments)


def _score_part_maps(folder: Path, records: Records, options: ScoringOptions) -> Results:
    evaluator = _map_evaluator(records, options)
    if "labels" in options.spec.options:
        return score_part_maps(folder, records, evaluator, rows=options.rows)
    objects = options.spec.image_root if options.spec.images else None  # a folder of annotated maps alone
    return score_label_images(folder, evaluator, parts=options.spec.annotation_path, objects=objects)


def _map_title(options: ScoringOptions) -> str:
    by_object = options.spec.options.get("by_object", True)
    mode = options.arguments.get("mode", "oracle_obj" if by_object else "pred_all")
    return f"{SemanticPartEvaluator.name}, {mode}"


def _map_metrics(records: Records, options: ScoringOptions) -> tuple[str, ...]:
    return _map_evaluator(records, options).metric_names()


for _name, _kind in EVALUATORS.items():
    if issubclass(_kind, InstanceEvaluator):
        register_protocol(detection_protocol(_name, _kind))
_maps = Protocol(name="semantic_parts", reads=PART_MAPS, score=_score_part_maps, metrics=_map_metrics, title=_map_title)
register_protocol(_maps)
