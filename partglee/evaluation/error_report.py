"""The findings of `errors.analyse` as tables in Markdown, and detections as a picture shows them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.detections import Detections
from partglee.evaluation.errors import OUTCOMES, PARENTS, ErrorAnalysis
from partglee.evaluation.ground_truth import GroundTruth
from partglee.structures import Prediction

SIZES = (0, 16, 32, 64, 96)  # side of a square of the same area, pixels; the last bin is open
_ROWS = 15  # of a table of names


def markdown_report(
    analysis: ErrorAnalysis,
    truth: GroundTruth,
    detections: Detections,
    *,
    title: str,
    results: Mapping[str, float],
    pictures: Mapping[int, str],
    number: int = 4,
) -> str:
    """The whole report.

    Args:
        results: of the evaluator, printed at the top.
        pictures: image row -> file, relative to the report; images without one are named alone.
        number: images among the best and among the worst.
    """
    counts = Counter(outcome.what for outcome in analysis.outcomes)
    shape = {"bbox": "boxes", "segm": "masks"}[analysis.kind]
    lines = [
        f"# {title}",
        "",
        f"{len(analysis.images)} images, {len(analysis.outcomes)} annotated {analysis.level}s. All detections:",
        "",
        *_table(("metric", "value"), [(key, f"{value:.2f}") for key, value in _headline(results).items()]),
        f"Everything below is at IoU 0.5 of {shape} and from the score {analysis.threshold:.3f} on. Pictures: "
        "annotated at the left, predicted at the right.",
        "",
        f"## Annotated {analysis.level}s",
        "",
        *_table(
            (*OUTCOMES, "superfluous detections"),
            [(*(f"{counts[what]}" for what in OUTCOMES), f"{len(analysis.false_positives)}")],
        ),
        *_by_size(analysis, truth),
        *_by_name(analysis, truth),
        *_confusions(analysis, truth, detections, pictures),
        *_parents(analysis, truth, detections, pictures),
        *_images(analysis, truth, pictures, number),
    ]
    return "\n".join(lines) + "\n"


def chosen_images(analysis: ErrorAnalysis, number: int) -> tuple[list[int], list[int]]:
    """Rows of the best and of the worst images by F1; of equals those with more annotations, then file order."""
    annotated = [image for image in analysis.images if image.annotated]
    best = sorted(annotated, key=lambda image: (-image.f1, -image.annotated))[:number]
    left = [image for image in annotated if image not in best]
    worst = sorted(left, key=lambda image: (image.f1, -image.annotated))[:number]
    return [image.image for image in best], [image.image for image in worst]


def examples(analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections) -> dict[tuple[str, ...], int]:
    """An image row for each of the most frequent confusions of names and of parents."""
    examples: dict[tuple[str, ...], int] = {}
    for pair, _ in confusions(analysis, truth, detections).most_common(3):
        examples[pair] = next(i for p, i in _confused(analysis, truth, detections) if p == pair)
    for key, _ in parent_confusions(analysis, truth, detections).most_common(2):
        examples[key] = next(i for k, i in _wrong_parents(analysis, truth, detections) if k == key)
    return examples


def confusions(analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections) -> Counter[tuple[str, ...]]:
    """(annotated name, predicted name) -> how often."""
    return Counter(pair for pair, _ in _confused(analysis, truth, detections))


def parent_confusions(analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections) -> Counter[tuple[str, ...]]:
    """(part, annotated parent, predicted parent) -> how often, of the parts whose parent is wrong."""
    return Counter(key for key, _ in _wrong_parents(analysis, truth, detections))


def _confused(analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections) -> list[tuple[tuple[str, ...], int]]:
    names = truth.categories.names
    return [
        ((names[truth.category[o.truth]], names[detections.category[o.detection]]), int(truth.image[o.truth]))
        for o in analysis.outcomes
        if o.what == "other name"
    ]


def _wrong_parents(
    analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections
) -> list[tuple[tuple[str, ...], int]]:
    names = truth.categories.names
    confused: list[tuple[tuple[str, ...], int]] = []
    for outcome in analysis.parents:
        if outcome.what == PARENTS[0]:
            continue
        parent = int(detections.parent[outcome.detection])
        said = "none" if parent < 0 else names[detections.category[parent]]
        said = f"another {said}" if outcome.what == PARENTS[1] else said
        annotated = names[truth.category[truth.parent[outcome.truth]]]
        confused.append(((names[truth.category[outcome.truth]], annotated, said), int(truth.image[outcome.truth])))
    return confused


def _by_size(analysis: ErrorAnalysis, truth: GroundTruth) -> list[str]:
    side = np.sqrt(truth.area[[outcome.truth for outcome in analysis.outcomes]])
    place = np.searchsorted(SIZES, side, side="right") - 1
    rows = []
    for number, low in enumerate(SIZES):
        here = [o.what for o, p in zip(analysis.outcomes, place.tolist(), strict=True) if p == number]
        high = f"{low} to {SIZES[number + 1]}" if number + 1 < len(SIZES) else f"{low} or more"
        rows.append((high, str(len(here)), *(_share(here.count(what), len(here)) for what in OUTCOMES)))
    head = ("side in pixels (root of the area)", "annotated", *OUTCOMES)
    return [f"## {analysis.level.title()}s by size", "", *_table(head, rows)]


def _by_name(analysis: ErrorAnalysis, truth: GroundTruth) -> list[str]:
    of_name: dict[int, Counter[str]] = {}
    for outcome in analysis.outcomes:
        of_name.setdefault(int(truth.category[outcome.truth]), Counter())[outcome.what] += 1
    ranked = sorted(of_name.items(), key=lambda item: item[1]["found"] - sum(item[1].values()))[:_ROWS]
    rows = [
        (truth.categories.names[k], str(sum(c.values())), *(_share(c[what], sum(c.values())) for what in OUTCOMES))
        for k, c in ranked
    ]
    return ["## Names that lose most", "", *_table(("name", "annotated", *OUTCOMES), rows)]


def _confusions(
    analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections, pictures: Mapping[int, str]
) -> list[str]:
    shown = examples(analysis, truth, detections)
    rows = [
        (*pair, str(count), _link(shown.get(pair), pictures))
        for pair, count in confusions(analysis, truth, detections).most_common(_ROWS)
    ]
    return ["## Confused names", "", *_table(("annotated", "predicted", "how often", "example"), rows)]


def _parents(
    analysis: ErrorAnalysis, truth: GroundTruth, detections: Detections, pictures: Mapping[int, str]
) -> list[str]:
    if not analysis.parents:
        return []
    counts = Counter(outcome.what for outcome in analysis.parents)
    shown = examples(analysis, truth, detections)
    rows = [
        (*key, str(count), _link(shown.get(key), pictures))
        for key, count in parent_confusions(analysis, truth, detections).most_common(_ROWS)
    ]
    return [
        "## Parents of the parts that were found",
        "",
        *_table(PARENTS, [tuple(f"{counts[what]}" for what in PARENTS)]),
        *(_table(("part", "annotated parent", "predicted parent", "how often", "example"), rows) if rows else ()),
    ]


def _images(analysis: ErrorAnalysis, truth: GroundTruth, pictures: Mapping[int, str], number: int) -> list[str]:
    lines = []
    for title, rows in zip(("Best images", "Worst images"), chosen_images(analysis, number), strict=True):
        lines += [f"## {title}", ""]
        for row in rows:
            score = analysis.images[row]
            lines.append(
                f"- `{Path(truth.file_names[row]).name}` (id {truth.image_ids[row]}): F1 {score.f1:.2f}, "
                f"{score.annotated} annotated, {score.detected} detected"
            )
            if row in pictures:
                lines += ["", f"  ![{truth.image_ids[row]}]({pictures[row]})", ""]
        lines.append("")
    return lines


def _link(image: int | None, pictures: Mapping[int, str]) -> str:
    return f"[picture]({pictures[image]})" if image is not None and image in pictures else ""


def _headline(results: Mapping[str, float]) -> dict[str, float]:
    """The few numbers that a reader looks for; counts and what is not defined are left out."""
    wanted = ("AP", "AP50", "hAP", "parent_accuracy")
    return {key: v for key, v in results.items() if key.rpartition("/")[2] in wanted and v == v}


def _share(count: int, of: int) -> str:
    return f"{count} ({100 * count / of:.0f} %)" if of else "0"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    if not rows:
        return ["none", ""]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(map(_cell, row))} |" for row in rows), ""]


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|")


def as_prediction(
    truth: GroundTruth, detections: Detections, rows: NDArray[np.int64], size: tuple[int, int]
) -> Prediction:
    """Some detections of one image, for drawing; a parent that is not among them, or is a part, is left out.

    Args:
        rows: of the detections.
        size: height and width of the image.
    """
    categories, d = truth.categories, detections
    is_part = categories.is_part[d.category]
    objects = {row for row in rows.tolist() if not is_part[row]}
    entries = []
    for row in rows.tolist():
        column, parent = int(d.category[row]), int(d.parent[row])
        entry = {
            "id": row, "parent_id": parent if is_part[row] and parent in objects else None,
            "level": "part" if is_part[row] else "object",
            "name": categories.part[column] or categories.names[column], "category_id": column,
            "bbox": d.boxes[row].tolist(), "score": float(d.score[row]),
        }  # fmt: skip
        counts = d.counts[row]
        if counts is not None:
            entry["segmentation"] = {**d.mask(row), "counts": counts.decode("ascii")}
        entries.append(entry)
    return Prediction.from_coco(entries, image_size=size)
