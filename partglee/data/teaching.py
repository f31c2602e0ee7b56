"""Batches with what a dense detector says of them: knowledge distillation from a teacher that sees the augmented image.

B images, T names of the batch that the teacher knows, C = 80 names of COCO, H x W the canvas.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.basics.names import humanise, name_key
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
        self.names = {name_key(name): row for row, name in enumerate(names)}
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
        names = dict(zip(vocabulary.object_prompts, shared_keys(vocabulary), strict=True))
        shared = [(i, self.names[names[prompt]]) for i, prompt in enumerate(prompts) if names[prompt] in self.names]
        if not shared:
            return batch
        columns, rows = zip(*shared, strict=True)
        seen = [self.teacher.score_maps(self._on_canvas(image, batch.canvas)) for image in batch.images]
        maps = tuple(
            torch.from_numpy(np.stack([one[list(rows)] for one in grids])).half() for grids in zip(*seen, strict=True)
        )
        return batch._replace(dense=DenseScores(torch.tensor(columns), maps))

    @staticmethod
    def _on_canvas(image: torch.Tensor, canvas: Size) -> NDArray[np.uint8]:
        """(3, h, w) uint8 -> (H, W, 3), the image at the top left as the model sees it."""
        _, height, width = image.shape
        shown = np.full((*canvas, 3), _GREY, np.uint8)
        shown[:height, :width] = image.permute(1, 2, 0).numpy()
        return shown


def shared_keys(vocabulary: Vocabulary) -> list[str]:
    """What object names are compared by with those of a teacher: `stop_sign` and `Stop Sign` are `stop sign`."""
    return [name_key(humanise(name)) for name in vocabulary.object_names]


def check_teacher(cfg: CN, vocabularies: Mapping[str, Vocabulary]) -> None:
    """What can be known of `INPUT.TRAIN.TEACHER` before a run.

    Args:
        vocabularies: of the data sets of `DATASETS.TRAIN`.

    Raises:
        ValueError: for a teacher that is not there, cannot be read, that no head listens to, or that knows no name of
            any data set.
    """
    file = cfg.INPUT.TRAIN.TEACHER
    if not file:
        return
    if not cfg.MODEL.OBJECT_DECODER.DENSE_HEAD:
        raise ValueError(
            f"INPUT.TRAIN.TEACHER is {file!r}, but the model has no head for it; set MODEL.OBJECT_DECODER.DENSE_HEAD "
            "True, or the teacher to ''"
        )
    if not Path(file).is_file():
        raise ValueError(f"INPUT.TRAIN.TEACHER {file!r} is not there; expected the path of yolox_nano.onnx")
    known = {name_key(name) for name in read_builtin("coco").objects}
    if not any(known.intersection(shared_keys(vocabulary)) for vocabulary in vocabularies.values()):
        raise ValueError(
            f"INPUT.TRAIN.TEACHER knows COCO's 80 names, and {', '.join(vocabularies) or 'no data set'} has none of "
            "them as an object; set it to ''"
        )
    try:
        OnnxTeacher(Path(file)).score_maps(np.zeros((32, 32, 3), np.uint8))
    except Exception as error:  # what onnxruntime raises for a damaged file has no common class
        raise ValueError(f"INPUT.TRAIN.TEACHER {file!r} cannot be read as yolox_nano.onnx: {error}") from error


def build_taught_loader(cfg: CN, **options: Any) -> Iterable[TrainingBatch]:
    """`build_train_loader`, and where the configuration has an `INPUT.TRAIN.TEACHER` its scores in every batch.

    Args:
        options: as `build_train_loader` takes them.
    """
    if file := cfg.INPUT.TRAIN.TEACHER:
        options["collate"] = TeachingCollate(
            teacher=OnnxTeacher(Path(file)),
            names=tuple(read_builtin("coco").objects),
            collate=options.get("collate", collate),
        )
    return build_train_loader(cfg, **options)
