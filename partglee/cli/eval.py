"""`partglee eval`: score a predictions file that any system made."""

from __future__ import annotations

import argparse
import math
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any


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
    parser.add_argument("--kinds", nargs="+", choices=("bbox", "segm"), help="default: masks too where all have one")
    parser.add_argument("--objects", type=Path, metavar="DIR", help="for label images: folder of object maps")
    parser.add_argument("--lenient", action="store_true", help="leave out what cannot be scored, and count it")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the numbers, not rounded")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table and what is worth a note."""
    from partglee.data.files import write_json
    from partglee.evaluation import detect_format, format_table

    kind = detect_format(arguments.predictions)
    options = parse_options(arguments.option)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        title, results = (_label_images if kind == "png" else _detections)(arguments, options)
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


def parse_options(texts: Sequence[str]) -> dict[str, Any]:
    """`["max_dets=300"]` -> `{"max_dets": 300}`; values are YAML.

    Raises:
        ValueError: for a text without `=`.
    """
    import yaml

    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ValueError(f"--option takes KEY=VALUE, got {text!r}")
        try:
            options[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--option {key}: {value!r} is no YAML value ({error})") from error
    return options


def _detections(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[str, dict[str, float]]:
    from partglee.data import DatasetSpec, get_dataset
    from partglee.data.coco_json import read_coco
    from partglee.evaluation import dataset_evaluator, score_file

    if arguments.objects is not None:
        raise ValueError("--objects is for label images, but --predictions is a file of detections")
    if arguments.dataset is not None:
        spec = get_dataset(arguments.dataset)
    else:
        path = str(arguments.annotations.resolve())
        spec = DatasetSpec(name=arguments.annotations.stem, annotations=path, images="", reader=read_coco)
    evaluator = dataset_evaluator(
        spec,
        spec.read(),
        key=arguments.evaluator,
        by_label=False,  # another system has another vocabulary
        kinds=arguments.kinds,
        strict=not arguments.lenient,
        **options,
    )
    return f"{spec.name}: {evaluator.name}", score_file(arguments.predictions, evaluator)


def _label_images(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[str, dict[str, float]]:
    from partglee.evaluation import SemanticPartEvaluator, score_label_images
    from partglee.evaluation.for_dataset import check_options

    if arguments.dataset is not None:
        raise ValueError(
            f"'{arguments.predictions}' is a folder: label images are scored against folders of annotated ones, "
            "--annotations DIR [--objects DIR] --option num_classes=K"
        )
    if arguments.evaluator not in (None, "semantic_parts") or arguments.kinds:
        raise ValueError("a folder of label images is scored by the evaluator semantic_parts, which knows no --kinds")
    check_options("semantic_parts", options)
    if "num_classes" not in options:
        raise ValueError("label images need --option num_classes=K, the number of part classes")
    evaluator = SemanticPartEvaluator(strict=not arguments.lenient, **options)
    results = score_label_images(
        arguments.predictions, evaluator, parts=arguments.annotations, objects=arguments.objects
    )
    return f"{arguments.annotations}: {evaluator.name}, {evaluator.mode}", results
