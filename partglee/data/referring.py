"""Records with expressions to batches for models that answer any expression: one mask for each, or nothing.

h x w what a sample shows of its image, n expressions of one image; E expressions, H x W the canvas of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray
from torch import Tensor

from partglee.data.augmentation import Augmentation
from partglee.data.build import build_train_loader
from partglee.data.catalog import DataSets
from partglee.data.collate import canvas_of
from partglee.data.expression_views import expression_view, no_crowds
from partglee.data.images import read_image
from partglee.data.mapper import must_stay_whole, read_annotated, to_tensor
from partglee.data.records import Expression, ImageRecord, Records
from partglee.data.spec import DatasetSpec
from partglee.data.transforms import Geometry, Size, jitter_color, swap_sides
from partglee.structures import Level, ReferringBatch, Vocabulary


class ReferringSample(NamedTuple):
    """One augmented image with n expressions."""

    image: Tensor  # (3, h, w) uint8 RGB
    expressions: tuple[str, ...]  # n, one or more
    masks: NDArray[np.bool_]  # (n, h, w) union of what each means
    no_target: tuple[bool, ...]  # n
    level: tuple[int, ...]  # n
    file: str


class ReferringMapper:
    """Reads and augments images, and unites the targets of each expression into one mask.

    Args:
        augmentation: where the image goes.
        most: expressions of a sample; of an image that has more, some are drawn.
        color: strength of colour changes; 0 = off.
        left_right: a flip swaps the words left and right.

    Crowds are no targets: an expression that means nothing else is left out. What a crop would hide, or an ordinal
    would count wrongly, is not cropped.
    """

    def __init__(
        self, *, augmentation: Augmentation, most: int = 1, color: float = 0.0, left_right: bool = True
    ) -> None:
        if most < 1:
            raise ValueError(f"a sample shows at least one expression, got most = {most}")
        self.augmentation = augmentation
        self.most = most
        self.color = color
        self.left_right = left_right

    def __call__(self, record: ImageRecord, rng: np.random.Generator) -> ReferringSample:
        """A sample, the same one for the same state of `rng`.

        Raises:
            FileNotFoundError, ValueError: for an image that cannot be read or is not of the annotated size, a mask that
                is not of the image's size, a target without a mask, and an image that no expression is left for.
        """
        usable = [record.expressions[place] for place in no_crowds(record)]
        size, pixels = (record.height, record.width), None
        if 0 in size or not usable:
            pixels = read_image(record.source)
            size = (pixels.shape[0], pixels.shape[1])
        if not usable:
            raise ValueError(f"image '{record.file}' has no expression that means anything but crowds; remove it")
        if len(usable) > self.most:
            usable = [usable[place] for place in sorted(rng.choice(len(usable), self.most, replace=False))]
        whole = any(must_stay_whole(said.text) for said in usable)
        geometry = self.augmentation.draw(size, rng, whole=whole)
        masks = _masks(record, usable, geometry)
        if any(not mask.any() and not said.no_target for mask, said in zip(masks, usable, strict=True)):
            geometry = self.augmentation.draw(size, rng, whole=True)
            masks = _masks(record, usable, geometry)
        if pixels is None:
            pixels = read_annotated(record, at_least=geometry.resized)
        image = geometry.image(pixels)
        if self.color:
            image = jitter_color(image, self.color, rng)
        texts = [said.text for said in usable]
        if geometry.flip and self.left_right:
            texts = [swap_sides(text) for text in texts]
        return ReferringSample(
            image=image,
            expressions=tuple(texts),
            masks=masks,
            no_target=tuple(said.no_target for said in usable),
            level=tuple(int(Level.PART if said.of_parts else Level.OBJECT) for said in usable),
            file=str(record.file),
        )


def collate_referring(
    samples: Sequence[ReferringSample],
    *,
    spec: DatasetSpec,
    vocabulary: Vocabulary | None = None,
    rng: np.random.Generator | None = None,
    divisibility: int = 1,
    min_canvas: Size = (1, 1),
) -> ReferringBatch:
    """Samples on one canvas, the expressions of all in one list.

    Args:
        spec: of the data set, for its name.
        vocabulary, rng: not needed; every collate function of a loader is given them.
        divisibility: the canvas is a multiple of this.
        min_canvas: the canvas is at least this large.
    """
    del vocabulary, rng
    canvas = canvas_of([sample.image for sample in samples], divisibility, min_canvas)
    counts = [len(sample.expressions) for sample in samples]
    masks = torch.zeros(sum(counts), *canvas, dtype=torch.bool)
    first = 0
    for sample, count in zip(samples, counts, strict=True):
        _, height, width = sample.masks.shape
        masks[first : first + count, :height, :width] = to_tensor(sample.masks)
        first += count
    return ReferringBatch(
        images=tuple(sample.image for sample in samples),
        canvas=canvas,
        expressions=tuple(text for sample in samples for text in sample.expressions),
        image_of=torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(counts)),
        masks=masks,
        no_target=torch.tensor([flag for sample in samples for flag in sample.no_target]),
        level=torch.tensor([level for sample in samples for level in sample.level]),
        source=spec.name,
        files=tuple(sample.file for sample in samples),
    )


def build_referring_loader(
    cfg: CN,
    *,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    images_per_process: int | None = None,
    data: DataSets | None = None,
    augmentation: Augmentation | None = None,
) -> Iterable[ReferringBatch]:
    """Endless batches of expressions of `DATASETS.TRAIN` for one process, as `build_train_loader`.

    `INPUT.TRAIN.EXPRESSIONS` is how many expressions of an image come together. 1 makes each expression its own sample;
    an epoch shows each once, however many its image has. `INPUT.TRAIN.LEVELS` is whether they mean objects, parts, or
    both.

    Raises:
        ValueError: as `build_train_loader`, and for a data set without expressions.
    """
    most, level = int(cfg.INPUT.TRAIN.EXPRESSIONS), str(cfg.INPUT.TRAIN.LEVELS)

    def view(spec: DatasetSpec, records: Records) -> Records:
        return expression_view(records, name=spec.name, most=most, level=level)

    def mapper(spec: DatasetSpec, records: Records, augmentation: Augmentation) -> ReferringMapper:
        color = cfg.INPUT.TRAIN.COLOR
        return ReferringMapper(augmentation=augmentation, most=most, color=color, left_right=spec.left_right)

    return build_train_loader(
        cfg, start_step=start_step, rank=rank, world_size=world_size, images_per_process=images_per_process, data=data,
        augmentation=augmentation, view=view, mapper=mapper, collate=collate_referring,
    )  # fmt: skip


def _masks(record: ImageRecord, expressions: Sequence[Expression], geometry: Geometry) -> NDArray[np.bool_]:
    """(n, h, w) what each expression means, united: masks that overlap stay one."""
    made: dict[int, NDArray[np.bool_]] = {}  # of an instance, by its identity: expressions share targets
    united = np.zeros((len(expressions), *geometry.size), bool)
    for row, said in enumerate(expressions):
        for thing in record.targets(said):
            if thing.crowd:
                continue
            if thing.segmentation is None:
                raise ValueError(
                    f"image '{record.file}': {said.text!r:.60} means annotation {thing.annotation_id}, which has a box "
                    "alone; models that answer with masks need a mask"
                )
            if id(thing) not in made:
                made[id(thing)] = geometry.mask(thing.segmentation)
            united[row] |= made[id(thing)]
    return united
