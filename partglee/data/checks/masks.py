"""Segmentations: are they masks of their image, and do they fit their boxes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from partglee.data.segmentation import is_finite, run_length_fault, run_list, usable_polygons

Finding = tuple[str, str, str]  # "error" or "warning", rule, detail
MIN_BOX_IOU = 0.5  # of the box and the box around the mask


def check_segmentation(segmentation: Any, size: tuple[int, int], box: Sequence[float]) -> list[Finding]:
    """What is wrong with a segmentation; none at all is allowed.

    Args:
        size: height and width of the image, (0, 0) = unknown.
        box: xywh.
    """
    if segmentation is None or segmentation == []:
        return []
    if isinstance(segmentation, Mapping):
        findings, around = _run_lengths(segmentation, size)
    elif isinstance(segmentation, list):
        findings, around = _polygons(segmentation, size)
    else:
        return [("error", "segmentation that is neither polygons nor run lengths", type(segmentation).__name__)]
    if around is not None and _box_iou(around, box) < MIN_BOX_IOU:
        detail = f"box {[round(float(side), 1) for side in box]}, mask in {[round(side, 1) for side in around]}"
        findings.append(("warning", "box that does not fit its mask", detail))
    return findings


def _polygons(polygons: list[Any], size: tuple[int, int]) -> tuple[list[Finding], list[float] | None]:
    """Findings, and the xywh box around the usable polygons."""
    usable: list[NDArray[np.float64]] = []
    bad = ""
    for polygon in polygons:
        try:
            points, fault = usable_polygons([polygon], size, what="it")
        except ValueError:
            bad = bad or "not a flat list of numbers"
            continue
        usable += [np.reshape(numbers, (-1, 2)) for numbers in points]
        bad = bad or fault
    if not usable:
        return [("error", "segmentation without a usable polygon", bad)], None
    findings: list[Finding] = [("warning", "degenerate polygon beside usable ones", bad)] if bad else []
    corners = np.concatenate(usable)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return findings, [*low.tolist(), *(high - low).tolist()]


def _run_lengths(segmentation: Mapping[str, Any], size: tuple[int, int]) -> tuple[list[Finding], list[float] | None]:
    """Findings, and the xywh box around the mask."""
    said = segmentation.get("size")
    if not isinstance(said, list) or len(said) != 2 or "counts" not in segmentation:
        return [("error", "run lengths without size or counts", str(sorted(segmentation)))], None
    if not all(is_finite(side) for side in said):
        return [("error", "run lengths that are broken", f"size {said!s:.40}")], None
    height, width = (int(side) for side in said)
    if 0 not in size and (height, width) != size:
        return [("error", "run lengths of another size than the image", f"{said}, the image is {list(size)}")], None
    if fault := run_length_fault(segmentation):
        return [("error", "run lengths that are broken", fault)], None
    counts = run_list(segmentation["counts"])
    ends = np.cumsum(counts)
    starts, stops = ends[:-1:2], ends[1::2]  # of the runs inside the mask, pixels counted down the columns
    filled = stops > starts[: len(stops)]
    starts, stops = starts[: len(stops)][filled], stops[filled]
    if not len(stops):
        return [("error", "empty mask", "no pixel is set")], None
    left, right = starts[0] // height, (stops[-1] - 1) // height
    spans = starts // height != (stops - 1) // height  # a run that goes on in the next column fills rows 0 to the last
    top = 0 if spans.any() else int((starts % height).min())
    bottom = height - 1 if spans.any() else int(((stops - 1) % height).max())
    return [], [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]


def _box_iou(a: Sequence[float], b: Sequence[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return float(inter / (a[2] * a[3] + b[2] * b[3] - inter))
