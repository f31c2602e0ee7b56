"""`partglee eval`: score a predictions file that any system made."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partglee.cli.arguments import add_data_config, add_import

if TYPE_CHECKING:
    from partglee.data import DatasetSpec


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "eval",
        help="score a predictions file, made by any system, against annotations",
        description="Score predictions: JSON Lines of this library, COCO or LVIS results, or a folder of label images. "
        "docs/evaluation.md describes the formats and the protocols.",
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help=".jsonl, .json, or a folder")
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--dataset", metavar="NAME", help="a data set of `partglee data list`")
    truth.add_argument(
        "--annotations", type=Path, metavar="FILE", help="a COCO, LVIS or PACO file; for label images their folder"
    )
    parser.add_argument("--evaluator", metavar="KEY", help="protocol; default: the data set's own, or both levels")
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE",
        help="argument of the evaluator, such as parents=derived or rules=[official]; may be repeated",
    )  # fmt: skip
    parser.add_argument("--kinds", nargs="+", choices=("bbox", "segm"), help="default: masks too where some have one")
    parser.add_argument("--objects", type=Path, metavar="DIR", help="for label images: folder of object maps")
    parser.add_argument("--lenient", action="store_true", help="leave out what cannot be scored, and count it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers, not rounded")
    add_data_config(parser)
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table and what is worth a note."""
    from partglee.basics.files import write_json
    from partglee.evaluation import format_table
    from partglee.evaluation.protocols import ScoringOptions, get_protocol, protocol_of

    if not arguments.predictions.exists():  # told before annotations are read
        raise ValueError(f"predictions file '{arguments.predictions}' does not exist")
    spec = _data(arguments)
    options = ScoringOptions(
        spec=spec,
        kinds=None if arguments.kinds is None else tuple(arguments.kinds),
        strict=not arguments.lenient,
        arguments=parse_options(arguments.option),
    )
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        known = get_protocol(arguments.evaluator) if arguments.evaluator else None
        records = spec.read()
        protocol = known or protocol_of(spec, records)
        protocol.check_file(arguments.predictions, spec)
        title, results = protocol.heading(options), protocol.score(arguments.predictions, records, options)
    print(format_table(results, title=title))
    for note in notes:
        print(f"partglee: note: {note.message}", file=sys.stderr)
    if arguments.json is not None:
        numbers = {key: value if math.isfinite(value) else None for key, value in results.items()}
        source = arguments.dataset or str(arguments.annotations)
        write_json(
            {"predictions": str(arguments.predictions), "data": source, "protocol": title, "results": numbers},
            arguments.json,
        )
    return 0


def _data(arguments: argparse.Namespace) -> DatasetSpec:
    """What the predictions are compared with: a registered data set, an annotation file, or folders of label images."""
    from partglee.data import DatasetSpec, get_dataset
    from partglee.data.annotations.coco_json import read_coco

    folders = arguments.annotations is not None and arguments.annotations.is_dir()
    if arguments.objects is not None and not folders:
        raise ValueError("--objects is for label images, whose --annotations are a folder too")
    if arguments.dataset is not None:
        return get_dataset(arguments.dataset)
    path = str(arguments.annotations.resolve())
    if not folders:
        return DatasetSpec(name=arguments.annotations.stem, annotations=path, images="", reader=read_coco)
    objects = "" if arguments.objects is None else str(arguments.objects.resolve())
    return DatasetSpec(
        name=str(arguments.annotations), annotations=path, images=objects, reader=_no_records,
        evaluator="semantic_parts",
    )  # fmt: skip


def _no_records(spec: DatasetSpec) -> Any:
    """Of folders of label images: they are compared with each other, file by file."""
    del spec
    return ()


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """`["max_dets=300"]` -> `{"max_dets": 300}`; values are YAML.

    Raises:
        ValueError: for a text without `=`.
    """
    from partglee.basics.files import parse_yaml

    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"--option takes KEY=VALUE, got {text!r}")
        if key.strip() in options:
            raise ValueError(f"--option {key.strip()} is given twice")
        options[key.strip()] = parse_yaml(value, f"--option {key}: {value!r}")
    return options
