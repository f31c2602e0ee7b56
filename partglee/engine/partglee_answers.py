"""What the library's own model answers when it is evaluated, with the settings of `TEST`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.engine.answerers import LabelMaps
from partglee.engine.batches import check_batch_size
from partglee.engine.image_input import InputImage
from partglee.engine.precision import precision_of
from partglee.engine.predictor import Predictor
from partglee.modeling import PartGLEE
from partglee.modeling.frame import Frame
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.part_maps import part_map
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Grounding, ModelOutput, Prediction, Vocabulary

_ON_A_GPU = 4  # images at once; a processor is no faster with several (docs/benchmarks.md)
OnePhoto = NDArray[np.uint8] | InputImage


class PartGLEEAnswers:
    """A `Predictor` as evaluation asks it; see `partglee.engine.answerers` for the methods.

    Args:
        multi_label: which queries and how many detections are scored.
        map_queries: part queries that a part map is made of.
        union: an expression means all objects that score enough, or nothing; False: the best one.
        parts: expressions that mean one of its parts are answered by part queries; None: by objects, all of them.
        batch_size: images of one canvas that are searched together.
    """

    def __init__(
        self,
        *,
        predictor: Predictor,
        multi_label: MultiLabel,
        map_queries: int,
        union: bool = False,
        parts: Vocabulary | None = None,
        batch_size: int = 1,
    ) -> None:
        check_batch_size(batch_size)
        self.predictor = predictor
        self.multi_label = multi_label
        self.map_queries = map_queries
        self.union = union
        self.parts = parts
        self.batch_size = batch_size

    @property
    def prepare(self) -> Callable[[NDArray[np.uint8]], InputImage]:
        return self.predictor.input.read

    def canvas(self, image: InputImage) -> tuple[int, int]:
        return self.predictor.canvas(image)

    def detect_batch(
        self, images: Sequence[InputImage], vocabulary: Vocabulary, *, masks: bool
    ) -> Iterator[Prediction]:
        options = PostprocessOptions(multi_label=self.multi_label, masks=masks)
        return self.predictor.predict_batch(images, vocabulary, options)

    def detect(self, pixels: OnePhoto, vocabulary: Vocabulary, *, masks: bool) -> Prediction:
        return next(self.detect_batch([self.predictor.read(pixels)], vocabulary, masks=masks))

    def show(self, pixels: OnePhoto, vocabulary: Vocabulary) -> Prediction:
        shown: Prediction = self.predictor(pixels, vocabulary, max_objects=8, max_parts_per_object=8)
        return shown

    def part_maps_batch(self, images: Sequence[InputImage], vocabulary: Vocabulary) -> Iterator[LabelMaps]:
        output, frames = self.predictor.raw(images, vocabulary)
        for i, frame in enumerate(frames):
            yield partial(self._labels, output, i, frame)

    def part_maps(self, pixels: OnePhoto, vocabulary: Vocabulary) -> LabelMaps:
        return next(self.part_maps_batch([self.predictor.read(pixels)], vocabulary))

    def _labels(self, output: ModelOutput, i: int, frame: Frame, columns: Sequence[int] | None) -> NDArray[np.int64]:
        return part_map(output, i, frame, columns=columns, queries=self.map_queries).numpy()

    def answer_batch(
        self, images: Sequence[InputImage], expressions: Sequence[Sequence[str]]
    ) -> Iterator[list[Grounding]]:
        encoded = self.predictor.encode_batch(images)
        for row, texts in enumerate(expressions):
            one = encoded if len(images) == 1 else encoded.picked([row])
            yield self.predictor.ground(one, texts, union=self.union, parts=self.parts)

    def answer(self, image: OnePhoto, expressions: Sequence[str]) -> list[Grounding]:
        return next(self.answer_batch([self.predictor.read(image)], [expressions]))


def partglee_answerer(cfg: CN, model: PartGLEE) -> PartGLEEAnswers:
    """What answers for a model, as `INPUT.TEST`, `TEST` and `SOLVER.PRECISION` say."""
    predictor = Predictor(
        model=model,
        short_side=cfg.INPUT.TEST.SHORT_SIDE,
        max_side=cfg.INPUT.TEST.MAX_SIDE,
        score_threshold=cfg.TEST.SCORE_THRESHOLD,
        mask_box=cfg.TEST.MASK_BOX or None,
        precision=precision_of(cfg),
    )
    multi_label = MultiLabel(
        object_queries=cfg.TEST.OBJECT_QUERIES,
        part_queries=cfg.TEST.PART_QUERIES,
        detections=cfg.TEST.DETECTIONS,
        part_overlap=cfg.TEST.PART_OVERLAP if cfg.TEST.PART_OVERLAP < 1 else None,
        mask_box=cfg.TEST.MASK_BOX or None,
    )
    return PartGLEEAnswers(
        predictor=predictor,
        batch_size=cfg.TEST.BATCH_SIZE or (1 if model.device.type == "cpu" else _ON_A_GPU),
        multi_label=multi_label,
        map_queries=cfg.TEST.PART_QUERIES,
        union=cfg.TEST.EXPRESSION_UNION,
        parts=Vocabulary.parse(cfg.TEST.EXPRESSION_PARTS) if cfg.TEST.EXPRESSION_PARTS else None,
    )
