"""Federated annotations: in an image only some names were looked for (LVIS, PACO, Open Images).

N detections. A name that is annotated in an image, or in its list of verified absent names, can be judged there; of the
others nobody knows. A name that is not exhaustively annotated has more instances than are annotated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from partglee.evaluation.detections import Detections
from partglee.evaluation.ground_truth import GroundTruth


def judgeable(truth: GroundTruth, detections: Detections) -> NDArray[np.bool_]:
    """(N,) whether the category of a detection is annotated in its image, as present or as absent."""
    num_categories = len(truth.categories.ids)
    absent = [image * num_categories + k for image, negative in enumerate(truth.negative) for k in negative]
    cells = np.union1d(truth.image * num_categories + truth.category, np.array(absent, np.int64))
    return np.isin(detections.image * num_categories + detections.category, cells)


def not_exhaustive(truth: GroundTruth, detections: Detections) -> NDArray[np.bool_]:
    """(N,) whether the image may have more instances of a detection's category than are annotated."""
    pairs = zip(detections.image.tolist(), detections.category.tolist(), strict=True)
    return np.fromiter((k in truth.not_exhaustive[i] for i, k in pairs), bool, len(detections))
