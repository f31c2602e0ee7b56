"""Loaders from a configuration."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.data.catalog import DataSets, get_dataset, register_custom
from partglee.data.expression_views import single_target_view
from partglee.data.loader import BatchMaker, Source, TestLoader, TrainingLoader
from partglee.data.mapper import Mapper
from partglee.data.records import Records
from partglee.data.samplers import ImageStream, MixtureSampler, repeat_factors
from partglee.data.transforms import Augmentation, JitterCrop, ShortSide
from partglee.structures import TrainingBatch

__all__ = ["build_augmentation", "build_test_loader", "build_train_loader", "register_custom"]


def build_train_loader(
    cfg: CN,
    *,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    images_per_process: int | None = None,
    data: DataSets | None = None,
) -> Iterable[TrainingBatch]:
    """Endless batches of the data sets of `DATASETS.TRAIN` for one process.

    Args:
        cfg: the whole configuration; DATASETS, DATALOADER, INPUT.TRAIN, SOLVER and MODEL.SIZE_DIVISIBILITY are read.
        start_step: optimiser steps done before; the batches that follow are those of the uninterrupted run. A step
            takes `SOLVER.ACCUMULATE` batches.
        rank, world_size: this process, and how many there are.
        images_per_process: B of a batch; None = `SOLVER.BATCH_SIZE` over processes and accumulated passes.
        data: what the run has read; None = the files are read here.

    Raises:
        ValueError: for unknown data sets, files that are missing or malformed, or settings that contradict each other.
    """
    register_custom(cfg)
    names = list(cfg.DATASETS.TRAIN)
    if not names:
        raise ValueError("DATASETS.TRAIN is empty; name registered data sets, or describe your own in DATASETS.CUSTOM")
    ratios = _per_dataset(cfg.DATASETS.RATIOS, names, "RATIOS", default=1.0)
    thresholds = _per_dataset(cfg.DATASETS.REPEAT_THRESHOLDS, names, "REPEAT_THRESHOLDS", default=0.0)
    if min(ratios) < 0 or sum(ratios) <= 0:
        raise ValueError(f"DATASETS.RATIOS must be at least 0 and not all 0, got {ratios}")
    if images_per_process is None:
        images_per_process = cfg.SOLVER.BATCH_SIZE // (world_size * cfg.SOLVER.ACCUMULATE)
    if images_per_process < 1:
        raise ValueError(
            f"SOLVER.BATCH_SIZE {cfg.SOLVER.BATCH_SIZE} leaves no image for each of {world_size} processes"
        )

    augmentation = build_augmentation(cfg)
    data = data or DataSets()
    sources = [_source(cfg, name, data.records(name), augmentation) for name in names]
    seed = int(cfg.SOLVER.SEED)
    streams = [
        ImageStream(
            len(source.records),
            seed=(seed, number),
            batch=images_per_process,
            repeats=repeat_factors(source.records, threshold) if threshold else None,
            groups=None if isinstance(augmentation, JitterCrop) else _upright(source.records),
        )
        for number, (source, threshold) in enumerate(zip(sources, thresholds, strict=True))
    ]
    draws = MixtureSampler(
        streams,
        ratios=ratios,
        seed=seed,
        start=start_step * cfg.SOLVER.ACCUMULATE,
        rank=rank,
        world_size=world_size,
        same_dataset=cfg.DATALOADER.SAME_DATASET,
    )
    maker = BatchMaker(
        sources,
        seed=seed,
        rank=rank,
        divisibility=cfg.MODEL.SIZE_DIVISIBILITY,
        min_canvas=augmentation.size if isinstance(augmentation, JitterCrop) else (1, 1),
    )
    return TrainingLoader(maker, draws, num_workers=cfg.DATALOADER.NUM_WORKERS)


def build_augmentation(cfg: CN) -> Augmentation:
    """Where training images go, `INPUT.TRAIN.MODE`.

    Raises:
        ValueError: for an unknown mode, or sizes that no image can have.
    """
    train = cfg.INPUT.TRAIN
    if train.MODE == "jitter":
        low, high = train.SCALE
        if not 0 < low <= high or len(train.SIZE) != 2 or min(train.SIZE) < 1:
            raise ValueError(
                f"INPUT.TRAIN.SCALE must be 0 < low <= high and SIZE two sides, got {train.SCALE} and {train.SIZE}"
            )
        return JitterCrop(size=(train.SIZE[0], train.SIZE[1]), scale=(low, high), flip=train.FLIP)
    if train.MODE == "resize":
        if not train.SHORT_SIDES or min(train.SHORT_SIDES) < 1:
            raise ValueError(f"INPUT.TRAIN.SHORT_SIDES must be lengths in pixels, got {train.SHORT_SIDES}")
        return ShortSide(short_sides=tuple(train.SHORT_SIDES), max_side=train.MAX_SIDE, flip=train.FLIP)
    raise ValueError(f"INPUT.TRAIN.MODE must be jitter or resize, got {train.MODE!r}")


def _source(cfg: CN, name: str, records: Records, augmentation: Augmentation) -> Source:
    spec = get_dataset(name)
    records = single_target_view(records, name=name)
    mapper = Mapper(
        vocabulary=records.vocabulary,
        augmentation=augmentation,
        color=cfg.INPUT.TRAIN.COLOR,
        max_instances=cfg.INPUT.TRAIN.MAX_INSTANCES,
        min_area=cfg.INPUT.TRAIN.MIN_AREA,
        boxes_from_masks=spec.boxes_from_masks,
        left_right=spec.left_right,
    )
    return Source(spec, records, mapper)


def _per_dataset(values: list[float], names: list[str], key: str, *, default: float) -> list[float]:
    if values and len(values) != len(names):
        raise ValueError(f"DATASETS.{key} has {len(values)} numbers for {len(names)} data sets; give one each, or []")
    return [float(value) for value in values] or [default] * len(names)


def _upright(records: Records) -> NDArray[np.int64]:
    """(N,) 1 for images that are taller than wide."""
    sizes = [records.size(index) for index in range(len(records))]
    return np.array([height > width for height, width in sizes], np.int64)


def build_test_loader(
    cfg: CN, name: str, *, rank: int = 0, world_size: int = 1, data: DataSets | None = None
) -> TestLoader:
    """(record, (h, w, 3) uint8 RGB) of every image of a data set, for one process.

    Args:
        data: what the run has read; None = the file is read here.

    Raises:
        ValueError: for an unknown data set or a malformed file; while reading, for an image that cannot be read.
    """
    register_custom(cfg)
    records = (data or DataSets()).records(name)
    return TestLoader(records, num_workers=cfg.DATALOADER.NUM_WORKERS, rank=rank, world_size=world_size)
