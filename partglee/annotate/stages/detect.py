"""Objects and parts, as a predictor finds them by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from partglee.annotate.plugs import resolve
from partglee.annotate.sample import Region, Sample
from partglee.annotate.stage import Stage
from partglee.basics.names import name_key

if TYPE_CHECKING:
    from partglee.structures import Prediction

_COVERED = 0.5  # of a part's box, inside the box of the given object that it is added to


class Detect(Stage):
    """Adds the objects and parts that a predictor finds.

    Args:
        weights: a `.safetensors` file or the name of a model, as `Predictor.from_pretrained` takes them.
        vocabulary: whatever `Vocabulary.parse` takes; None = each image's own, of a stage before.
        predictor: "partglee", or `module:attribute` that is called with `weights` and `device` and gives what is called
            as `partglee.Predictor` is: `predictor(images, vocabulary, **options)`.
        score_threshold, part_score_threshold, max_objects: of the call.
        parts_only: leave the objects that are there and add the parts found on them: part boxes that lie mostly in the
            box of a given object of the name that the predictor saw the part on.
        masks: False leaves them to another stage.
        device: None = a GPU when there is one.
    """

    outputs = ("region.box", "region.name", "region.level", "region.score", "region.parent")

    def __init__(
        self,
        *,
        weights: str = "partglee-tiny",
        vocabulary: Any = None,
        predictor: str = "partglee",
        score_threshold: float = 0.3,
        part_score_threshold: float | None = None,
        max_objects: int = 100,
        parts_only: bool = False,
        masks: bool = True,
        device: str | None = None,
    ) -> None:
        for name, value in (("score_threshold", score_threshold), ("part_score_threshold", part_score_threshold)):
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must be in 0..1, got {value}")
        self.weights, self.vocabulary, self.predictor, self.device = weights, vocabulary, predictor, device
        self.parts_only = parts_only
        self.options = {
            "score_threshold": score_threshold, "part_score_threshold": part_score_threshold,
            "max_objects": max_objects, "masks": masks,
        }  # fmt: skip
        self._predict: Any = None

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        inputs = ("image", *(("vocabulary",) if self.vocabulary is None else ()))
        if self.parts_only:
            inputs += ("region.box", "region.name", "region.level")
        # Given objects keep the masks that they have, or have not.
        masks = ("region.mask",) if self.options["masks"] and not self.parts_only else ()
        return inputs, (*self.outputs, *masks)

    def weight_files(self) -> Sequence[Path]:
        if self.predictor != "partglee":
            return (Path(self.weights),) if Path(self.weights).is_file() else ()
        from partglee.engine.weight_files import find_weights

        return (find_weights(self.weights),)

    def open(self) -> None:
        make = resolve(self.predictor, {"partglee": _partglee}, "predictor")
        self._predict = make(self.weights, device=self.device)

    def run(self, samples: Sequence[Sample]) -> None:
        if self.vocabulary is not None:
            images = [sample.image for sample in samples]
            options = {**self.options, "batch_size": self.batch_size} if len(samples) > 1 else self.options
            for sample, found in zip(samples, self._predict(images, self.vocabulary, **options), strict=True):
                self._add(sample, found)
            return
        for sample in samples:
            if sample.vocabulary:  # nothing to look for is no failure
                self._add(sample, self._predict(sample.image, sample.vocabulary, **self.options))

    def _add(self, sample: Sample, found: Prediction) -> None:
        if self.parts_only:
            _add_parts(sample, found)
        else:
            add_prediction(sample, found)


def _partglee(weights: str, *, device: str | None) -> Callable[..., Any]:
    from partglee.engine import Predictor

    return Predictor.from_pretrained(weights, device=device)


def add_prediction(sample: Sample, found: Prediction) -> None:
    """Every row of a prediction as a region, objects before parts, best score first."""
    order = [*found.objects(), *(row for row in range(len(found)) if found.level[row] == 1)]
    place = {row: len(sample.regions) + number for number, row in enumerate(order)}
    entries = found.to_coco()
    for row in order:
        region = _region(found, row, entries[row])
        region.parent = place.get(int(found.parent[row]), -1)
        sample.regions.append(region)


def _region(found: Prediction, row: int, entry: Mapping[str, Any]) -> Region:
    x0, y0, x1, y1 = (float(value) for value in found.boxes[row])
    return Region(
        name=entry["name"], level=entry["level"], box=(x0, y0, x1, y1), score=float(entry["score"]),
        mask=entry.get("segmentation"),
    )  # fmt: skip


def _add_parts(sample: Sample, found: Prediction) -> None:
    given = [(number, region) for number, region in sample.kept() if region.level == "object" and region.box]
    entries = found.to_coco()
    for row in range(len(found)):
        parent = int(found.parent[row])
        if found.level[row] == 0 or parent < 0:
            continue
        wanted = name_key(found.names[parent])
        owners = [(number, region) for number, region in given if name_key(region.name) == wanted]
        shares = [_share(found.boxes[row].tolist(), region.box) for _, region in owners]
        if shares and max(shares) >= _COVERED:
            # A part in two boxes of one name goes to the object whose box fits the predictor's own object best.
            fits = [_iou(found.boxes[parent].tolist(), region.box) for _, region in owners]
            best = max(range(len(owners)), key=lambda n: (shares[n] >= _COVERED, fits[n], shares[n]))
            region = _region(found, row, entries[row])
            region.parent = owners[best][0]
            sample.regions.append(region)


def _share(box: Sequence[float], other: Any) -> float:
    """Of `box` inside the other."""
    return _inter(box, other) / max(_area(box), 1e-9)


def _iou(box: Sequence[float], other: Any) -> float:
    inter = _inter(box, other)
    return inter / max(_area(box) + _area(other) - inter, 1e-9)


def _inter(box: Sequence[float], other: Sequence[float]) -> float:
    low, high = np.maximum(box[:2], other[:2]), np.minimum(box[2:], other[2:])
    return float(np.prod(np.maximum(high - low, 0)))


def _area(box: Sequence[float]) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)
