"""Semantic part segmentation (Pascal-Part-116, ADE20K-Part-234, PartImageNet-OV40): mIoU base, novel, hIoU, all.

K part classes; class K stands for background/ignore. The unit is one sample: an (image, object class) pair or
one object instance, as the data set defines it. "mIoU" is three different metrics in the literature, which
average over different classes; all three are reported side by side and must never share a column:

- A (OV-PARTS, PartGLEE): classes with annotated or predicted pixels;
- B (PartCLIPSeg): classes with annotated pixels;
- C (PartCATSeg): classes with IoU > 0, so that a class that fails completely is dropped.

Only pixels that carry a part label count: a false positive elsewhere costs nothing, in either mode.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion

from partglee.evaluation.average_precision import mean_defined
from partglee.evaluation.base import Evaluator, Results, harmonic_mean
from partglee.evaluation.options import check_choice, check_classes, check_count, check_number

VARIANTS = ("A", "B", "C")
MODES = ("oracle_obj", "pred_all")


def compose_part_map(
    scores: NDArray[np.floating[Any]], masks: NDArray[np.floating[Any]], *, allowed: Sequence[int] | None = None
) -> NDArray[np.int64]:
    """Query scores and masks -> label map. The score of class c at a pixel is the sum over queries of score times mask.

    Args:
        scores: (Q, K) class scores.
        masks: (Q, H, W) mask probabilities.
        allowed: classes that the object has (Oracle-Obj); the others score 0. None = all.

    Returns:
        (H, W) class of the largest score, the lowest class at equal scores. There is no background class.
    """
    total = np.einsum("qc,qhw->chw", scores, masks)
    if allowed is not None:
        keep = np.zeros(len(total), bool)
        keep[list(allowed)] = True
        total = np.where(keep[:, None, None], total, 0.0)
    return total.argmax(axis=0)


class SemanticPartEvaluator(Evaluator):
    """Confusion counts of part classes; see the module's text.

    Results (percent): `<variant>/mIoU-base`, `mIoU-novel`, `hIoU`, `mIoU` (all classes) for each variant;
    `recall/...` (TP over annotated pixels, classes with annotations); `boundary/...` (boundary IoU, classes with
    annotations). `num_samples` and `num_samples_without_part` (skipped; upstream tools put a random sample in
    their place).

    Args:
        num_classes: K.
        base_classes: class numbers of base objects; the rest is novel. Empty: only `mIoU` is reported.
        mode: "oracle_obj": the annotated object mask is given, predictions outside it are not read, and pixels without
            a predicted part inside do not count (a note says in how many samples). "pred_all": K in the prediction
            means background, and background on a part pixel is a miss.
        ignore_label: annotated pixels without a part.
        boundary_width: of the boundary band, as a share of the image diagonal; None = no boundary IoU.
        resize_truth: short side that OV-PARTS' mapper gives its images (512 there): annotation and object mask are
            brought to that size and back by the nearest pixel before they are compared, as its published numbers were;
            None = they are compared as they are.
        resize_truth_max: longest side of that size; None = any.
    """

    name = "semantic parts"

    def __init__(
        self,
        *,
        num_classes: int,
        base_classes: Sequence[int] = (),
        mode: str = "oracle_obj",
        ignore_label: int = 255,
        boundary_width: float | None = 0.02,
        resize_truth: int | None = None,
        resize_truth_max: int | None = None,
        strict: bool = True,
    ) -> None:
        check_count("num_classes", num_classes)
        check_choice("mode", mode, MODES)
        check_classes("base_classes", base_classes, num_classes)
        check_count("ignore_label", ignore_label, least=0)
        if boundary_width is not None:
            check_number("boundary_width", boundary_width, most=1)
        for option, side in (("resize_truth", resize_truth), ("resize_truth_max", resize_truth_max)):
            if side is not None:
                check_count(option, side)
        if 0 <= ignore_label < num_classes:
            raise ValueError(f"ignore_label {ignore_label} is one of the {num_classes} classes")
        super().__init__(strict=strict)
        self.num_classes = num_classes
        self.base = np.isin(np.arange(num_classes), list(base_classes))
        self.mode = mode
        self.ignore_label = ignore_label
        self.boundary_width = boundary_width
        self.resize_truth = resize_truth
        self.resize_truth_max = resize_truth_max
        self.reset()

    def reset(self) -> None:
        super().reset()
        k = self.num_classes
        self._confusion = np.zeros((k + 1, k + 1), np.int64)  # [predicted, annotated]
        self._boundary = np.zeros((3, k), np.int64)  # intersection, annotated, predicted
        self._missed = np.zeros(k, np.int64)  # annotated pixels of samples without a usable prediction
        self._samples: dict[Any, bool] = {}  # key -> has part labels

    def process(
        self,
        key: Any,
        prediction: NDArray[np.integer[Any]],
        truth: NDArray[np.integer[Any]],
        *,
        object_mask: NDArray[np.bool_] | None = None,
    ) -> None:
        """Add one sample.

        Args:
            key: name of the sample, for example (image, object class).
            prediction: (H, W) part classes; K or `ignore_label` = no part.
            truth: (H, W) part classes of this object; `ignore_label` elsewhere.
            object_mask: (H, W) annotated object, for "oracle_obj".

        Raises:
            ValueError: without an object mask in mode "oracle_obj", or for an annotated class that does not exist.
            PredictionError: for a map of the wrong size, an unknown class or a sample given twice, when strict;
                otherwise the first two count as `process_missing` says.
        """
        if self._is_repeated(key):
            return
        if prediction.shape != truth.shape:
            self.issues.add("mask of the wrong size", f"sample {key!r}: {prediction.shape}, expected {truth.shape}")
            self.process_missing(key, truth)
            return
        k = self.num_classes
        predicted = np.where(prediction == self.ignore_label, k, prediction).astype(np.int64)
        annotated = self._annotated(key, truth)
        if self.mode == "oracle_obj":
            if object_mask is None:
                raise ValueError("mode 'oracle_obj' needs object_mask, the annotated object")
            object_mask = self._as_upstream(object_mask)
            predicted = np.where(object_mask, predicted, k)
            if (open_pixels := int((object_mask & (predicted == k) & (annotated < k)).sum())) > 0:
                kind = "pixels without a predicted part"
                self.issues.add(kind, f"sample {key!r}: {open_pixels} annotated ones, which do not count in this mode")
        else:
            predicted = np.where(annotated == k, k, predicted)
        if predicted.min() < 0 or predicted.max() > k:
            self.issues.add("unknown category", f"sample {key!r}: classes must lie in [0, {k}], K = no part")
            self.process_missing(key, truth)
            return
        self._samples[key] = bool((annotated < k).any())
        if not self._samples[key]:
            return
        pairs = (k + 1) * predicted + annotated
        self._confusion += np.bincount(pairs.ravel(), minlength=(k + 1) ** 2).reshape(k + 1, k + 1)
        if self.boundary_width is not None:
            self._add_boundary(predicted, annotated)

    def process_missing(self, key: Any, truth: NDArray[np.integer[Any]]) -> None:
        """Add one sample that has no usable prediction: every annotated pixel is a miss, in either mode.

        Raises:
            ValueError: for an annotated class that does not exist.
            PredictionError: for a sample given twice, when strict.
        """
        if self._is_repeated(key):
            return
        annotated = self._annotated(key, truth)
        self._samples[key] = bool((annotated < self.num_classes).any())
        self._missed += np.bincount(annotated.ravel(), minlength=self.num_classes + 1)[:-1]
        if self.boundary_width is not None:
            self._add_boundary(np.full_like(annotated, self.num_classes), annotated)

    def _is_repeated(self, key: Any) -> bool:
        if key in self._samples:
            self.issues.add("image given twice", f"sample {key!r}; the first one is kept")
        return key in self._samples

    def _annotated(self, key: Any, truth: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Classes, K where there is none, at the resolution that is asked for."""
        k = self.num_classes
        annotated = self._as_upstream(np.where(truth == self.ignore_label, k, truth).astype(np.int64))
        if annotated.min() < 0 or annotated.max() > k:
            raise ValueError(f"sample {key!r}: annotated class {annotated.max()} is not below {k}")
        return annotated

    def _as_upstream(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W) brought to the size of `resize_truth` and back."""
        if self.resize_truth is None:
            return image
        scale = self.resize_truth / min(image.shape)
        if self.resize_truth_max is not None:
            scale = min(scale, self.resize_truth_max / max(image.shape))
        return _nearest(_nearest(image, [int(side * scale + 0.5) for side in image.shape]), image.shape)

    def _add_boundary(self, predicted: NDArray[np.int64], annotated: NDArray[np.int64]) -> None:
        labelled = annotated < self.num_classes
        width = max(1, round((self.boundary_width or 0) * float(np.hypot(*annotated.shape))))
        for k in np.union1d(predicted[labelled], annotated[labelled]):
            if k == self.num_classes:
                continue
            bands = [_band(image == k, width) & labelled for image in (predicted, annotated)]
            self._boundary[:, k] += [(bands[0] & bands[1]).sum(), bands[1].sum(), bands[0].sum()]

    def state(self) -> Any:
        return self._confusion, self._boundary, self._missed, self._samples

    def compute(self, states: list[Any]) -> Results:
        seen: dict[Any, bool] = {}
        for *_, samples in states:
            # Only sums are kept, so a sample that two processes saw cannot be taken out again: use a sampler
            # that does not repeat. It is an error of the run, not of the predictions.
            repeated = [key for key in samples if key in seen]
            if repeated:
                raise ValueError(
                    f"{len(repeated)} samples came from two processes (first: {repeated[0]!r}); shard without repeats"
                )
            seen.update(samples)
        confusion = np.sum([state[0] for state in states], axis=0)
        boundary = np.sum([state[1] for state in states], axis=0)
        missed = np.sum([state[2] for state in states], axis=0)
        true, annotated, predicted = self.counts(confusion, missed)
        results: Results = {}
        for variant in VARIANTS:
            results.update(_prefixed(variant, self.summarise(true, annotated, predicted, variant), "IoU"))
        recall = np.divide(true, annotated, out=np.full(self.num_classes, np.nan), where=annotated > 0)
        results.update(_prefixed("recall", self._means(recall), "Recall"))
        if self.boundary_width is not None:
            results.update(_prefixed("boundary", self.summarise(boundary[0], boundary[1], boundary[2], "B"), "IoU"))
        results["num_samples"] = float(len(seen))
        results["num_samples_without_part"] = float(sum(not labelled for labelled in seen.values()))
        if not any(seen.values()):
            self.issues.add("no predictions", "no sample with a part label was processed")
        return results

    def counts(
        self, confusion: NDArray[np.int64] | None = None, missed: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """(K,) true positive, annotated and predicted pixels by the rule of the mode; None = this process's own."""
        table = self._confusion if confusion is None else confusion
        rows = table[:-1] if self.mode == "oracle_obj" else table
        annotated = rows[:, :-1].sum(axis=0) + (self._missed if missed is None else missed)
        return np.diag(table)[:-1], annotated, table[:-1, :-1].sum(axis=1)

    def summarise(
        self, true: NDArray[np.int64], annotated: NDArray[np.int64], predicted: NDArray[np.int64], variant: str
    ) -> dict[str, float]:
        """Means in [0, 1] of one variant: base, novel, h, all."""
        union = annotated + predicted - true
        iou = np.divide(true, union, out=np.zeros(len(true)), where=union > 0)
        counted = {"A": union > 0, "B": annotated > 0, "C": iou > 0}[variant]
        return self._means(np.where(counted, iou, np.nan))

    def _means(self, values: NDArray[np.float64]) -> dict[str, float]:
        everything = {"all": mean_defined(values)}
        if not self.base.any():
            return everything
        base, novel = mean_defined(values[self.base]), mean_defined(values[~self.base])
        return {"base": base, "novel": novel, "h": harmonic_mean(base, novel), **everything}


def _nearest(image: NDArray[Any], size: Sequence[int]) -> NDArray[Any]:
    """(H, W) -> (h, w), each pixel the one above and to the left, as `torch.nn.functional.interpolate` has it."""
    wide = torch.from_numpy(np.ascontiguousarray(image).astype(np.float64))[None, None]
    return torch.nn.functional.interpolate(wide, size=tuple(size), mode="nearest")[0, 0].numpy().astype(image.dtype)


def _band(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Pixels of the mask within `width` of its border (outside the image counts as outside the mask)."""
    return mask & ~binary_erosion(mask, np.ones((3, 3), bool), iterations=width)


def _prefixed(group: str, means: dict[str, float], metric: str) -> Results:
    names = {"base": f"m{metric}-base", "novel": f"m{metric}-novel", "h": f"h{metric}", "all": f"m{metric}"}
    return {f"{group}/{names[key]}": 100 * value for key, value in means.items()}
