"""What the library's own model answers when it is evaluated, with the settings of `TEST`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.engine.precision import precision_of
from partglee.engine.predictor import Predictor
from partglee.modeling import PartGLEE
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.part_maps import part_map
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Grounding, Prediction, Vocabulary


class PartGLEEAnswers:
    """A `Predictor` as evaluation asks it; see `partglee.engine.answers` for the methods.

    Args:
        multi_label: which queries and how many detections are scored.
        map_queries: part queries that a part map is made of.
        union: an expression means all objects that score enough, or nothing; False: the best one.
        parts: expressions that mean one of its parts are answered by part queries; None: by objects, all of them.
    """

    def __init__(
        self,
        *,
        predictor: Predictor,
        multi_label: MultiLabel,
        map_queries: int,
        union: bool = False,
        parts: Vocabulary | None = None,
    ) -> None:
        self.predictor = predictor
        self.multi_label = multi_label
        self.map_queries = map_queries
        self.union = union
        self.parts = parts

    def detect(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary, *, masks: bool) -> Prediction:
        options = PostprocessOptions(multi_label=self.multi_label, masks=masks)
        return next(self.predictor.stream([pixels], vocabulary, options))

    def show(self, pixels: NDArray[np.uint8], vocabulary: Vocabulary) -> Prediction:
        shown: Prediction = self.predictor(pixels, vocabulary, max_objects=8, max_parts_per_object=8)
        return shown

    def part_maps(
        self, pixels: NDArray[np.uint8], vocabulary: Vocabulary
    ) -> Callable[[Sequence[int] | None], NDArray[np.int64]]:
        output, frame = self.predictor.raw(pixels, vocabulary)

        def labels(columns: Sequence[int] | None) -> NDArray[np.int64]:
            return part_map(output, 0, frame, columns=columns, queries=self.map_queries).numpy()

        return labels

    def answer(self, image: NDArray[np.uint8], expressions: Sequence[str]) -> list[Grounding]:
        answers: list[Grounding] = self.predictor.ground(image, expressions, union=self.union, parts=self.parts)
        return answers


def partglee_answerer(cfg: CN, model: PartGLEE) -> PartGLEEAnswers:
    """What answers for a model, as `INPUT.TEST`, `TEST` and `SOLVER.PRECISION` say."""
    predictor = Predictor(
        model=model,
        short_side=cfg.INPUT.TEST.SHORT_SIDE,
        max_side=cfg.INPUT.TEST.MAX_SIDE,
        score_threshold=cfg.TEST.SCORE_THRESHOLD,
        precision=precision_of(cfg),
    )
    multi_label = MultiLabel(
        object_queries=cfg.TEST.OBJECT_QUERIES,
        part_queries=cfg.TEST.PART_QUERIES,
        detections=cfg.TEST.DETECTIONS,
        part_overlap=cfg.TEST.PART_OVERLAP if cfg.TEST.PART_OVERLAP < 1 else None,
    )
    return PartGLEEAnswers(
        predictor=predictor,
        multi_label=multi_label,
        map_queries=cfg.TEST.PART_QUERIES,
        union=cfg.TEST.EXPRESSION_UNION,
        parts=Vocabulary.parse(cfg.TEST.EXPRESSION_PARTS) if cfg.TEST.EXPRESSION_PARTS else None,
    )
