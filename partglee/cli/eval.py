"""`partglee eval`: score a predictions file that any system made."""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import warnings
from collections.abc import Callable, Sequence
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
    from partglee.basics.files import write_json
    from partglee.evaluation import detect_format, format_table

    kind = detect_format(arguments.predictions)
    options = parse_options(arguments.option)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always", UserWarning)
        title, results = _score_of(arguments, kind)(arguments, options)
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


def _score_of(arguments: argparse.Namespace, kind: str) -> Callable[..., tuple[str, dict[str, float]]]:
    """What scores files of this kind."""
    from partglee.data import get_dataset

    if kind == "png":
        return _label_images if arguments.dataset is None else _part_maps
    protocol = arguments.evaluator or (get_dataset(arguments.dataset).evaluator if arguments.dataset else "")
    if protocol == "semantic_parts":
        raise ValueError(f"semantic_parts scores a folder of label images, but '{arguments.predictions}' is a file")
    return _expressions if protocol in ("referring", "refcoco_boxes") and arguments.dataset else _detections


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
        if key.strip() in options:
            raise ValueError(f"--option {key.strip()} is given twice")
        try:
            options[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ValueError(f"--option {key}: {value!r} is no YAML value ({error})") from error
    return options


def _detections(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[str, dict[str, float]]:
    from partglee.data import DatasetSpec, get_dataset
    from partglee.data.annotations.coco_json import read_coco
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


def _part_maps(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[str, dict[str, float]]:
    from partglee.data import get_dataset
    from partglee.evaluation.for_dataset import check_options
    from partglee.evaluation.part_map_files import part_map_evaluator, score_part_maps

    spec = get_dataset(arguments.dataset)
    if spec.evaluator != "semantic_parts" or arguments.evaluator not in (None, "semantic_parts"):
        raise ValueError(
            f"'{arguments.predictions}' is a folder of label images, but {spec.name} is scored by "
            f"{arguments.evaluator or spec.evaluator or 'joint'!r}; other part maps: --annotations DIR [--objects DIR] "
            "--option num_classes=K"
        )
    check_options("semantic_parts", options)
    records = spec.read()
    evaluator = part_map_evaluator(spec, records, strict=not arguments.lenient, **options)
    results = score_part_maps(arguments.predictions, records, evaluator)
    return f"{spec.name}: {evaluator.name}, {evaluator.mode}", results


def _expressions(arguments: argparse.Namespace, options: dict[str, Any]) -> tuple[str, dict[str, float]]:
    from partglee.data import get_dataset
    from partglee.evaluation.expression_files import score_expressions
    from partglee.evaluation.referring import ReferringRules

    spec = get_dataset(arguments.dataset)
    if arguments.objects is not None or arguments.kinds:
        raise ValueError("answers to expressions are scored by boxes and masks, without --kinds and --objects")
    known = [field.name for field in dataclasses.fields(ReferringRules)]
    if unknown := [key for key in options if key not in known]:
        raise ValueError(f"referring expressions have no option {unknown[0]!r}; there are {', '.join(known)}")
    rules = ReferringRules(**options)
    results = score_expressions(arguments.predictions, spec.read(), rules=rules, strict=not arguments.lenient)
    return f"{spec.name}: referring expressions", results
