"""Score a predictions file written by any system.

| format | file | made by |
|---|---|---|
| `partglee` | `.jsonl`: one image a line, `Prediction.to_json` | this library |
| `coco` | `.json`: a list of `{image_id, category_id, score, bbox, segmentation}`, one of the last two | COCO, LVIS |
| `png` | a folder of label images | semantic part segmentation, see `score_label_images` |

COCO rows may have `id` and `parent_id`, as `Prediction.to_coco` writes them. An empty file is an error; a valid
file without a single detection (`[]`) scores 0 with a warning.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.segmentation import read_label_map
from partglee.evaluation.base import Results
from partglee.evaluation.ground_truth import GroundTruth
from partglee.evaluation.instances import InstanceEvaluator
from partglee.evaluation.issues import PredictionError
from partglee.evaluation.semantic_parts import SemanticPartEvaluator

FORMATS = ("partglee", "coco", "png")


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
        for image_id, rows in read_coco_results(path):
            with _wrong_types(f"image {image_id!r} of '{path}'"):
                evaluator.process(image_id, rows)
    else:
        for image_id, rows, where in read_json_lines(path, evaluator):
            with _wrong_types(where):
                evaluator.process_named(image_id, rows, where=where)
    return evaluator.evaluate()


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
        with Path(path).open(encoding="utf-8") as stream:
            content = json.load(stream)
    except json.JSONDecodeError as error:
        raise ValueError(f"'{path}' is not JSON ({error}); a file with one image a line must end in .jsonl") from error
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


def read_json_lines(path: str | Path, evaluator: InstanceEvaluator) -> Iterator[tuple[Any, list[dict[str, Any]], str]]:
    """(image id, rows, where) of a file with one `Prediction.to_json` a line; the rows are for `process_named`.

    The image is found by `image_id` where the line has one, else by `file_name`: as in the annotations, or the
    last part of the path where that is unique. Categories are found as `CategoryMap` says; a name nobody knows
    is an issue.

    Raises:
        ValueError: for a line that is not one.
    """
    images = ImageNames(evaluator.ground_truth)
    issues = evaluator.issues
    with Path(path).open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, start=1):
            if not line.strip():
                continue
            where = f"line {number} of '{path}'"
            try:
                entry = json.loads(line)
                file_name, rows = entry["file_name"], list(entry["results"])
                size = (int(entry["height"]), int(entry["width"]))
                hash((file_name, entry.get("image_id")))  # a list is no name of an image
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ValueError(f"{where} was not written by Prediction.to_json ({error!r}): {line[:60]!r}") from error
            image_id = entry.get("image_id", None)
            if image_id is None:
                image_id = images.find(file_name)
            if image_id is None:
                issues.add("unknown image", f"{where}: file_name {file_name!r} is not in the annotations")
                continue
            if not _same_size(evaluator.ground_truth, image_id, size):
                issues.add(
                    "mask of the wrong size", f"{where}: predicted at (height, width) {size}, not the image's size"
                )
                continue
            yield image_id, rows, where


def _same_size(truth: GroundTruth, image_id: Any, size: tuple[int, int]) -> bool:
    row = truth.image_index.get(image_id)
    expected = (0, 0) if row is None else tuple(int(side) for side in truth.image_sizes[row])
    return expected in ((0, 0), size)


class ImageNames:
    """Image ids by file name, or by the last part of the path where no two images share it."""

    def __init__(self, truth: GroundTruth) -> None:
        self._full = dict(zip(truth.file_names, truth.image_ids.tolist(), strict=True))
        self._last: dict[str, int | None] = {}
        for name, image_id in self._full.items():
            last = Path(name).name
            self._last[last] = None if last in self._last else image_id

    def find(self, file_name: str | None) -> int | None:
        """Image id, None when there is none or several."""
        if not file_name:
            return None
        return self._full.get(file_name, self._last.get(Path(file_name).name))


def score_label_images(
    predictions: str | Path,
    evaluator: SemanticPartEvaluator,
    *,
    parts: str | Path,
    objects: str | Path | None = None,
) -> Results:
    """Score a folder of predicted part maps against a folder of annotated ones with the same names.

    Mode "pred_all": `<name>.png` for each image. Mode "oracle_obj": one sample for each object class in the object map;
    `<name>_<object id>.png` if it is there, else `<name>.png` (one map for all objects of the image).

    Args:
        predictions: folder; K or `ignore_label` = no part.
        parts: folder of annotated part maps (macOS `._*` files are skipped).
        objects: folder of annotated object maps of the same names, for "oracle_obj".

    Raises:
        PredictionError: for missing, superfluous or wrong-sized maps, when the evaluator is strict.
    """
    predictions, parts = Path(predictions), Path(parts)
    truths = [path for path in sorted(parts.rglob("*.png")) if not path.name.startswith("._")]
    if not truths:
        raise ValueError(f"no PNG in '{parts}'")
    found = {path.relative_to(predictions) for path in predictions.rglob("*.png") if not path.name.startswith("._")}
    if not found:
        raise PredictionError(f"no PNG in '{predictions}'; the predictions are empty")
    if evaluator.mode == "oracle_obj" and objects is None:
        raise ValueError("mode 'oracle_obj' needs objects=, the folder of annotated object maps")
    evaluator.reset()
    used: set[Path] = set()
    for path in truths:
        name = path.relative_to(parts)
        truth = read_label_map(path)
        for key, file, annotated, mask in _samples(name, truth, evaluator, objects, found):
            if file not in found:
                detail = f"there is no predicted map for {key!r} ('{file}'); a missing map is all wrong"
                evaluator.issues.add("unknown image", detail)
                evaluator.process_missing(key, annotated)
                continue
            used.add(file)
            evaluator.process(key, read_label_map(predictions / file), annotated, object_mask=mask)
    for file in sorted(found - used):
        evaluator.issues.add("unknown image", f"predicted map '{file}' belongs to no annotated one")
    return evaluator.evaluate()


def _samples(
    name: Path, truth: NDArray[np.int64], evaluator: SemanticPartEvaluator, objects: str | Path | None, found: set[Path]
) -> Iterator[tuple[str, Path, NDArray[np.int64], NDArray[np.bool_] | None]]:
    if evaluator.mode == "pred_all":
        yield str(name), name, truth, None
        return
    object_map = read_label_map(Path(objects or "") / name)
    for key in np.unique(object_map[object_map != evaluator.ignore_label]).tolist():
        own = name.with_name(f"{name.stem}_{key}.png")
        mask = object_map == key
        file = own if own in found else name
        yield f"{name}#{key}", file, np.where(mask, truth, evaluator.ignore_label), mask
