"""A report with pictures of what is wrong in a predictions file. `tools/analyze_errors.py` runs this."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partglee.basics.arguments import ArgumentParser
from partglee.cli.arguments import add_data_config, add_import, load_arguments


def main(argv: Sequence[str] | None = None) -> int:
    """Write `report.md` and its pictures; bad input ends with one line on stderr and status 2."""
    parser = ArgumentParser(
        prog="analyze_errors.py",
        description="Best and worst images, confused names, missed parts by size and confused parents, as Markdown "
        "with pictures. The predictions are a file that `partglee eval` takes.",
    )
    parser.add_argument("--predictions", type=Path, required=True, metavar="FILE", help=".jsonl, or COCO results")
    parser.add_argument("--dataset", required=True, metavar="NAME", help="a data set of `partglee data list`")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="gets report.md and pictures/")
    parser.add_argument(
        "--kind", choices=("bbox", "segm"), help="IoU of boxes or masks; default: masks where all have one"
    )
    parser.add_argument(
        "--score-threshold", type=float, metavar="X", help="default: the score with the best F1 of parts"
    )
    parser.add_argument(
        "--number", type=int, default=4, metavar="N", help="best and worst images (default: %(default)s)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="tables alone; the images need not be there")
    parser.add_argument("--lenient", action="store_true", help="leave out predictions that cannot be scored")
    add_data_config(parser)
    add_import(parser)
    parsed = parser.parse_args(argv)
    arguments = {key: value for key, value in vars(parsed).items() if key not in ("imports", "data_config")}
    try:
        load_arguments(parsed)
        file = write_report(**arguments)
    except (ValueError, TypeError, OSError) as error:
        print(f"analyze_errors.py: {error}", file=sys.stderr)
        return 2
    print(f"{file}: {sum(1 for _ in file.parent.glob('pictures/*.jpg'))} pictures")
    return 0


def write_report(
    *,
    predictions: Path,
    dataset: str,
    output: Path,
    kind: str | None = None,
    score_threshold: float | None = None,
    number: int = 4,
    no_pictures: bool = False,
    lenient: bool = False,
) -> Path:
    """Analyse, draw, write; the report comes last and appears whole.

    Returns:
        `output/report.md`.

    Raises:
        ValueError: as `partglee eval` raises, and for images that cannot be read.
    """
    from partglee.basics.files import whole_file
    from partglee.data import get_dataset
    from partglee.evaluation import FederatedEvaluator, JointEvaluator, dataset_evaluator, score_file
    from partglee.evaluation.detections import merge_states
    from partglee.evaluation.error_report import chosen_images, examples, markdown_report
    from partglee.evaluation.errors import analyse
    from partglee.evaluation.evaluators import is_federated

    spec = get_dataset(dataset)
    records = spec.read()
    evaluator = dataset_evaluator(
        spec, records, key=FederatedEvaluator if is_federated(records) else JointEvaluator, by_label=False,
        kinds=None if kind is None else (kind,), strict=not lenient,
    )  # fmt: skip
    assert isinstance(evaluator, JointEvaluator)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # notes of the evaluator; `partglee eval` tells them
        results = score_file(predictions, evaluator)
        truth = evaluator.ground_truth
        detections = evaluator.judged(merge_states([evaluator.state()], evaluator.issues, len(truth.image_ids)))
    analysis = analyse(truth, detections, kind=evaluator.kinds[-1], threshold=score_threshold)
    best, worst = chosen_images(analysis, number)
    wanted = list(dict.fromkeys([*best, *worst, *examples(analysis, truth, detections).values()]))
    pictures = {} if no_pictures else _draw(records, truth, detections, wanted, analysis.threshold, output)
    text = markdown_report(
        analysis, truth, detections, title=f"Errors of {predictions.name} on {dataset}", results=results,
        pictures=pictures, number=number,
    )  # fmt: skip
    file = output / "report.md"
    with whole_file(file) as beside:
        beside.write_text(text, encoding="utf-8")
    return file


def _draw(
    records: Any, truth: Any, detections: Any, images: Sequence[int], threshold: float, output: Path
) -> dict[int, str]:
    """Image row -> picture, relative to the report: annotated at the left, predicted at the right."""
    import numpy as np

    from partglee.basics.files import write_jpeg
    from partglee.data.images import read_image
    from partglee.evaluation.error_report import as_prediction
    from partglee.visualization.annotations import annotated_image
    from partglee.visualization.pairs import side_by_side

    place_of = {records[index].image_id: index for index in range(len(records))}
    drawn = {}
    for image in images:
        index = place_of[int(truth.image_ids[image])]
        pixels = read_image(records[index].source)
        rows = np.flatnonzero((detections.image == image) & (detections.score >= threshold))
        size = (pixels.shape[0], pixels.shape[1])
        annotated, predicted = annotated_image(records, index, size), as_prediction(truth, detections, rows, size)
        name = f"pictures/{int(truth.image_ids[image])}.jpg"
        write_jpeg(side_by_side(pixels, annotated, predicted), output / name)
        drawn[image] = name
    return drawn
