"""Files of detections, written by any system: to read, and to score.

| format | file | made by |
|---|---|---|
| `partglee` | `.jsonl`: one image a line, `Prediction.to_json` | this library |
| `coco` | `.json`: a list of `{image_id, category_id, score, bbox, segmentation}`, one of the last two | COCO, LVIS |
| `png` | a folder of label images | semantic part segmentation, see `part_map_files` |

COCO rows may have `id` and `parent_id`, as `Prediction.to_coco` writes them. An empty file is an error; a valid
file without a single detection (`[]`) scores 0 with a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from partglee.basics.files import JSON_ERRORS, json_problem, parse_json, read_text
from partglee.basics.files import read_json_lines as lines_of
from partglee.data.records import Records
from partglee.evaluation.base import Results
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.instances import InstanceEvaluator
from partglee.evaluation.issues import PredictionError
from partglee.evaluation.result_files import Rows, read_image_rows


def detect_format(path: str | Path) -> str:
    """Format of a predictions file by its name: `.jsonl` -> partglee, `.json` -> coco, a folder -> png.

    Raises:
        ValueError: when it does not exist, is empty, or has another ending.
    """
    path = Path(path)
    if path.is_dir():
        return "png"
    if not path.is_file():
        raise ValueError(f"predictions file '{path}' does not exist")
    if path.stat().st_size == 0:
        raise PredictionError(
            f"predictions file '{path}' is empty; a system that found nothing writes [] or lines without results"
        )
    kinds = {".jsonl": "partglee", ".json": "coco"}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"predictions file '{path}' must end in .jsonl (partglee) or .json (COCO or LVIS results)")
    return kinds[path.suffix.lower()]


def score_file(path: str | Path, evaluator: InstanceEvaluator, *, format: str | None = None) -> Results:
    """Reset the evaluator, read the whole file into it, evaluate.

    Args:
        format: "partglee" or "coco"; None = by the file's name.

    Raises:
        PredictionError: for predictions that cannot be scored, when the evaluator is strict.
        ValueError: for a file that is not of the format.
    """
    format = format or detect_format(path)
    detect_format(path)  # existence and emptiness, whatever the format
    if format not in ("partglee", "coco"):
        raise ValueError(f"format must be 'partglee' or 'coco', got {format!r}; for PNG folders use score_label_images")
    evaluator.reset()
    if format == "coco":
        for image_id, rows in _coco_rows(Path(path), evaluator):
            with _wrong_types(f"image {image_id!r} of '{path}'"):
                evaluator.process(image_id, rows)
    else:
        for image_id, rows, where in read_json_lines(path, evaluator):
            with _wrong_types(where):
                evaluator.process_named(image_id, rows, where=where)
    return evaluator.evaluate()


def _coco_rows(path: Path, evaluator: InstanceEvaluator) -> Iterator[tuple[Any, Rows]]:
    """(image id, rows) by column where the file allows it, and where the evaluator does not have a way of its own."""
    fast = read_image_rows(path) if type(evaluator).process is InstanceEvaluator.process else None
    return read_coco_results(path) if fast is None else fast


@contextmanager
def _wrong_types(where: str) -> Iterator[None]:
    """Numbers, texts and lists in each other's place, told with their place; to test each of millions takes long."""
    try:
        yield
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{where}: a result has a value of the wrong type ({error})") from error


def read_coco_results(path: str | Path) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """(image id, rows) of a COCO or LVIS results file; rows of one image may stand anywhere in it.

    Raises:
        ValueError: for a file that is not a JSON list of results.
    """
    try:
        content = parse_json(read_text(path, "predictions file"))
    except JSON_ERRORS as error:
        problem = f"'{path}' is not JSON ({json_problem(error)})"
        raise ValueError(f"{problem}; a file with one image a line must end in .jsonl") from error
    if not isinstance(content, list):
        what = "an annotation file" if isinstance(content, dict) and "images" in content else type(content).__name__
        raise ValueError(f"'{path}' must be a list of results, got {what}")
    groups: dict[Any, list[dict[str, Any]]] = {}
    entry = None
    for i, entry in enumerate(content):
        if not isinstance(entry, dict) or isinstance(entry.get("image_id"), (type(None), list, dict)):
            raise ValueError(f"result {i} of '{path}' has no image_id: {entry!s:.80}")
        groups.setdefault(entry["image_id"], []).append(entry)
    del content, entry
    while groups:  # rows are let go once they are read: there can be millions
        image_id = next(iter(groups))
        yield image_id, groups.pop(image_id)


def read_detections(path: str | Path, records: Records) -> Iterator[tuple[Any, list[dict[str, Any]]]]:
    """(image id, rows) of a file of detections in either format, for a protocol of one's own.

    Rows of ours have `name`, `level` and `parent_id` besides `bbox`, `score` and `segmentation`; their `category_id` is
    a label of the vocabulary they were made with. Rows of COCO results have the `category_id` of the annotation file.

    Raises:
        ValueError: for a file of another kind, or a line of an image that the records do not have.
    """
    if detect_format(path) == "coco":
        yield from read_coco_results(path)
        return
    images: ImageNames | None = None
    for entry, where in _entries(path):
        image_id = entry.get("image_id")
        if image_id is None:
            if images is None:
                held = (records[row] for row in range(len(records)))
                images = ImageNames((record.file.as_posix(), record.image_id) for record in held)
            image_id = images.find(entry["file_name"])
        if image_id is None:
            raise ValueError(f"{where}: file_name {entry['file_name']!r} is not in the annotations")
        yield image_id, list(entry["results"])


def read_json_lines(path: str | Path, evaluator: InstanceEvaluator) -> Iterator[tuple[Any, list[dict[str, Any]], str]]:
    """(image id, rows, where) of a file with one `Prediction.to_json` a line; the rows are for `process_named`.

    The image is found by `image_id` where the line has one, else by `file_name`: as in the annotations, or the
    last part of the path where that is unique. Categories are found as `CategoryMap` says; a name nobody knows
    is an issue.

    Raises:
        ValueError: for a line that is not one.
    """
    truth, issues = evaluator.ground_truth, evaluator.issues
    images = ImageNames(zip(truth.file_names, truth.image_ids.tolist(), strict=True))
    for entry, where in _entries(path):
        file_name, size = entry["file_name"], (int(entry["height"]), int(entry["width"]))
        image_id = entry.get("image_id")
        if image_id is None:
            image_id = images.find(file_name)
        if image_id is None:
            issues.add("unknown image", f"{where}: file_name {file_name!r} is not in the annotations")
            continue
        if not _same_size(truth, image_id, size):
            issues.add("mask of the wrong size", f"{where}: predicted at (height, width) {size}, not the image's size")
            continue
        yield image_id, list(entry["results"]), where


def _entries(path: str | Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Each line, and where it is."""
    for number, line, entry in lines_of(path, "predictions file"):
        where = f"line {number} of '{path}'"
        try:
            list(entry["results"]), int(entry["height"]), int(entry["width"])
            hash((entry["file_name"], entry.get("image_id")))  # a list is no name of an image
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{where} was not written by Prediction.to_json ({error!r}): {line[:60]!r}") from error
        if not isinstance(entry["file_name"], (str, type(None))):
            raise ValueError(f"{where}: file_name must be text, got {entry['file_name']!r:.40}")
        yield entry, where


def _same_size(truth: GroundTruth, image_id: Any, size: tuple[int, int]) -> bool:
    row = truth.image_index.get(image_id)
    expected = (0, 0) if row is None else tuple(int(side) for side in truth.image_sizes[row])
    return expected in ((0, 0), size)


class ImageNames:
    """Image ids by file name: by as many parts of the path, from its end, as tell the images apart.

    `images/camA/0001.png` is the image `/data/camA/0001.png` where no other one ends with `camA/0001.png`: names in
    predictions and in annotations begin at different folders.

    Args:
        images: (file name, id) of each.
    """

    def __init__(self, images: Iterable[tuple[str, int]]) -> None:
        self._by_end: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for name, image_id in images:
            parts = _path_parts(name)
            self._by_end.setdefault(parts[-1] if parts else "", []).append((parts, image_id))

    def find(self, file_name: str | None) -> int | None:
        """Image id; None when there is none, or several fit as well."""
        parts = _path_parts(file_name or "")
        if not parts:
            return None
        fits = [(_common_end(parts, own), own, key) for own, key in self._by_end.get(parts[-1], ())]
        longest = max((length for length, _, _ in fits), default=0)
        best = [(own, key) for length, own, key in fits if length == longest]
        exact = [key for own, key in best if own == parts]
        if exact or len(best) > 1:
            return exact[0] if len(exact) == 1 else None
        # One image alone ends so. Where others share its last part, the names must not say different folders.
        whole = best and longest == min(len(parts), len(best[0][0]))
        return best[0][1] if best and (whole or len(fits) == 1) else None


def _path_parts(name: str) -> tuple[str, ...]:
    return tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))


def _common_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    count = 0
    for one, other in zip(reversed(a), reversed(b), strict=False):
        if one != other:
            break
        count += 1
    return count
