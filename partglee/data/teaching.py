"""Batches with what a dense detector says of them: knowledge distillation from a teacher that sees the augmented image.

B images, T names of the batch that the teacher knows, C = 80 names of COCO, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.data.build import build_train_loader
from partglee.data.collate import collate
from partglee.data.loader import Collate
from partglee.data.mapper import Sample
from partglee.data.prepare.teachers import YoloxNano
from partglee.data.spec import DatasetSpec
from partglee.data.transforms import Size
from partglee.structures import DenseScores, TrainingBatch, Vocabulary
from partglee.structures.vocabulary_files import read_builtin

_GREY = 114  # what detectors of this family see where there is no image


class DenseTeacher(Protocol):
    """A detector that predicts at every place of a few grids."""

    def score_maps(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """(h, w, 3) RGB -> (C, h_l, w_l) of each grid, fine to coarse, in 0..1, each over the whole image."""
        ...


class OnnxTeacher:
    """`YoloxNano`, opened where it is first asked, for an open one does not travel to a worker."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def score_maps(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """As of `DenseTeacher`."""
        return self._model.score_maps(pixels)

    @cached_property
    def _model(self) -> YoloxNano:
        return YoloxNano(self.file)


class TeachingCollate:
    """Collates, then asks a teacher about what the batch shows.

    Args:
        teacher: is shown each image on the batch's canvas.
        names: C, that the teacher knows, in the order of its scores.
        collate: samples to a batch.
    """

    def __init__(self, *, teacher: DenseTeacher, names: Sequence[str], collate: Collate = collate) -> None:
        self.teacher = teacher
        self.names = {name: row for row, name in enumerate(names)}
        self.collate = collate

    def __call__(
        self,
        samples: Sequence[Sample],
        *,
        spec: DatasetSpec,
        vocabulary: Vocabulary,
        rng: np.random.Generator,
        divisibility: int,
        min_canvas: Size,
    ) -> TrainingBatch:
        """A batch; without `dense` where it has expressions, or no name that the teacher knows."""
        batch: TrainingBatch = self.collate(
            samples, spec=spec, vocabulary=vocabulary, rng=rng, divisibility=divisibility, min_canvas=min_canvas
        )
        prompts = () if batch.names is None else batch.names.object_prompts
        shared = [(column, self.names[name]) for column, name in enumerate(prompts) if name in self.names]
        if not shared:
            return batch
        columns, rows = zip(*shared, strict=True)
        seen = [self.teacher.score_maps(self._on_canvas(image, batch.canvas)) for image in batch.images]
        maps = tuple(
            torch.from_numpy(np.stack([one[list(rows)] for one in grids])).half()  # half: a tenth of a batch's memory
            for grids in zip(*seen, strict=True)
        )
        return batch._replace(dense=DenseScores(torch.tensor(columns), maps))

    @staticmethod
    def _on_canvas(image: torch.Tensor, canvas: Size) -> NDArray[np.uint8]:
        """(3, h, w) uint8 -> (H, W, 3), the image at the top left as the model sees it."""
        _, height, width = image.shape
        shown = np.full((*canvas, 3), _GREY, np.uint8)
        shown[:height, :width] = image.permute(1, 2, 0).numpy()
        return shown


def build_taught_loader(cfg: CN, **options: Any) -> Iterable[TrainingBatch]:
    """`build_train_loader`, and where the configuration has an `INPUT.TRAIN.TEACHER` its scores in every batch.

    Args:
        options: as `build_train_loader` takes them.

    Raises:
        ValueError: as of `build_train_loader`, and for a teacher that is not there or that no head listens to.
    """
    file = cfg.INPUT.TRAIN.TEACHER
    if not file:
        return build_train_loader(cfg, **options)
    if not cfg.MODEL.OBJECT_DECODER.DENSE_HEAD:
        raise ValueError(
            f"INPUT.TRAIN.TEACHER is {file!r}, but the model has no head for it; set MODEL.OBJECT_DECODER.DENSE_HEAD "
            "True, or the teacher to ''"
        )
    teacher = OnnxTeacher(_found(Path(file)))
    return build_train_loader(
        cfg, collate=TeachingCollate(teacher=teacher, names=tuple(read_builtin("coco").objects)), **options
    )


def _found(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(f"INPUT.TRAIN.TEACHER {str(file)!r} is not there; expected the path of yolox_nano.onnx")
    return file
