"""Predicted part maps: a folder of label images, and the numbers of it, for a registered data set or another folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from partglee.basics.files import whole_file
from partglee.data.records import ImageRecord, Records
from partglee.data.segmentation import decode, read_label_map
from partglee.data.spec import DatasetSpec
from partglee.evaluation.base import Results
from partglee.evaluation.issues import PredictionError
from partglee.evaluation.semantic_parts import SemanticPartEvaluator
from partglee.structures.vocabulary_files import split_objects

_NONE = 65535  # pixels without a part


def part_map_evaluator(spec: DatasetSpec, records: Records, **options: Any) -> SemanticPartEvaluator:
    """The evaluator of a data set of part maps: Oracle-Obj where a sample is one object, else Pred-All.

    Args:
        options: arguments of the evaluator.
    """
    names = records.vocabulary
    base = {row for row, name in enumerate(names.object_names) if name in split_objects(spec.options["labels"], "base")}
    options.setdefault("mode", "oracle_obj" if spec.options["by_object"] else "pred_all")
    options.setdefault("base_classes", [k for k, owners in enumerate(names.part_owner) if owners[0] in base])
    return SemanticPartEvaluator(num_classes=len(names.part_names), ignore_label=_NONE, **options)


def part_map_name(record: ImageRecord, *, by_object: bool) -> str:
    """`IMAGE.png`; for one object of it `IMAGE_ID.png`, with the id of its annotation or class."""
    return f"{record.file.stem}_{record.objects[0].annotation_id}.png" if by_object else f"{record.file.stem}.png"


def write_part_map(labels: NDArray[np.int64], file: Path) -> None:
    """(H, W) labels as a 16-bit PNG."""
    with whole_file(file) as beside:
        Image.fromarray(labels.astype(np.uint16)).save(beside, format="PNG")


def score_part_maps(
    folder: Path, records: Records, evaluator: SemanticPartEvaluator, *, rows: Sequence[int] | None = None
) -> Results:
    """Score a folder of maps named as `part_map_name` says; where one object has no map, that of its image is read.

    Args:
        rows: samples of this process; None = all, and a map of none of them is superfluous.

    Raises:
        PredictionError: for a map that is missing, superfluous or of the wrong size, when the evaluator is strict.
    """
    by_object = evaluator.mode == "oracle_obj"
    evaluator.reset()
    if not folder.is_dir() or not any(folder.glob("*.png")):
        raise PredictionError(f"no PNG in '{folder}'; the predictions are empty")
    none = getattr(records, "ignore", _NONE)  # the files' own value of pixels without a part
    known: set[str] = set()
    for row in range(len(records)) if rows is None else rows:
        record = records[row]
        known.add(f"{record.file.stem}.png")
        if not record.objects:
            continue
        known.add(part_map_name(record, by_object=by_object))
        truth = np.full((record.height, record.width), _NONE, np.int64)
        for part in record.parts:
            truth[decode(part.segmentation, record.height, record.width)] = part.label
        mask = decode(record.objects[0].segmentation, record.height, record.width) if by_object else None
        if not record.parts:  # no pixel counts, whatever is predicted; the object may be of a kind without part names
            evaluator.process(record.image_id, truth, truth, object_mask=mask)
            continue
        file = folder / part_map_name(record, by_object=by_object)
        if by_object and not file.is_file():
            file = folder / part_map_name(record, by_object=False)
        if not file.is_file():
            detail = f"there is no predicted map for {record.file.name} ('{file.name}'); a missing map is all wrong"
            evaluator.issues.add("unknown image", detail)
            evaluator.process_missing(record.image_id, truth)
            continue
        predicted = read_label_map(file)
        evaluator.process(record.image_id, np.where(predicted == none, _NONE, predicted), truth, object_mask=mask)
    there = {path.name for path in folder.glob("*.png") if not path.name.startswith("._")}
    for extra in sorted(there - known) if rows is None else ():
        evaluator.issues.add("unknown image", f"predicted map '{folder / extra}' belongs to no sample")
    return evaluator.evaluate()


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
    maps = {path.relative_to(predictions) for path in predictions.rglob("*.png") if not path.name.startswith("._")}
    if not maps:
        raise PredictionError(f"no PNG in '{predictions}'; the predictions are empty")
    if evaluator.mode == "oracle_obj" and objects is None:
        raise ValueError("mode 'oracle_obj' needs objects=, the folder of annotated object maps")
    evaluator.reset()
    used: set[Path] = set()
    for path in truths:
        name = path.relative_to(parts)
        truth = read_label_map(path)
        for key, file, annotated, mask in _samples(name, truth, evaluator, objects, maps):
            if file not in maps:
                detail = f"there is no predicted map for {key!r} ('{file}'); a missing map is all wrong"
                evaluator.issues.add("unknown image", detail)
                evaluator.process_missing(key, annotated)
                continue
            used.add(file)
            evaluator.process(key, read_label_map(predictions / file), annotated, object_mask=mask)
    for file in sorted(maps - used):
        evaluator.issues.add("unknown image", f"predicted map '{file}' belongs to no annotated one")
    return evaluator.evaluate()


def _samples(
    name: Path, truth: NDArray[np.int64], evaluator: SemanticPartEvaluator, objects: str | Path | None, maps: set[Path]
) -> Iterator[tuple[str, Path, NDArray[np.int64], NDArray[np.bool_] | None]]:
    if evaluator.mode == "pred_all":
        yield str(name), name, truth, None
        return
    object_map = read_label_map(Path(objects or "") / name)
    for key in np.unique(object_map[object_map != evaluator.ignore_label]).tolist():
        own = name.with_name(f"{name.stem}_{key}.png")
        mask = object_map == key
        file = own if own in maps else name
        yield f"{name}#{key}", file, np.where(mask, truth, evaluator.ignore_label), mask
