"""Loaders from a configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode as CN
from numpy.typing import NDArray

from partglee.data.augmentation import Augmentation, build_augmentation
from partglee.data.catalog import DataSets, get_dataset, register_custom
from partglee.data.collate import collate
from partglee.data.copy_paste import CopyPasteMapper
from partglee.data.expression_views import first_share, single_target_view
from partglee.data.loader import BatchMaker, Collate, Mapping, OneOf, Source, TestLoader, TrainingLoader
from partglee.data.mapper import Mapper
from partglee.data.mosaic import MosaicMapper
from partglee.data.records import Records
from partglee.data.samplers import ImageStream, MixtureSampler, repeat_factors
from partglee.data.spec import DatasetSpec
from partglee.data.transforms import Size, scaled

__all__ = ["build_augmentation", "build_test_loader", "build_train_loader", "register_custom"]

View = Callable[[DatasetSpec, Records], Records]
MapperBuilder = Callable[[DatasetSpec, Records, Augmentation], Mapping]


def build_train_loader(
    cfg: CN,
    *,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
    images_per_process: int | None = None,
    data: DataSets | None = None,
    augmentation: Augmentation | None = None,
    view: View | None = None,
    mapper: MapperBuilder | None = None,
    collate: Collate = collate,
) -> Iterable[Any]:
    """Endless batches of the data sets of `DATASETS.TRAIN` for one process: `TrainingBatch`, if nothing else is said.

    Another kind of batch takes another `mapper` and `collate` (and `view`, where a sample is less than an image), and
    has samplers, workers, resume and images that cannot be read as they are.

    Args:
        cfg: the whole configuration; DATASETS, DATALOADER, INPUT.TRAIN, SOLVER and MODEL.SIZE_DIVISIBILITY are read.
        start_step: optimiser steps done before; the batches that follow are those of the uninterrupted run. A step
            takes `SOLVER.ACCUMULATE` batches.
        rank, world_size: this process, and how many there are.
        images_per_process: B of a batch; None = `SOLVER.BATCH_SIZE` over processes and accumulated passes.
        data: what the run has read; None = the files are read here.
        augmentation: where images go; None = as `INPUT.TRAIN.MODE` says.
        view: of the records of a data set, those that are drawn from; None = what PartGLEE draws from.
        mapper: for a data set what makes a sample of a record; None = `Mapper`.
        collate: samples to a batch.

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

    data = data or DataSets()
    specs = [get_dataset(name) for name in names]
    share = float(cfg.DATASETS.SHARE)
    read = [(spec, (view or _single_targets)(spec, first_share(data.records(spec.name), share))) for spec in specs]
    sized = _sizes(cfg) if augmentation is None else [(cfg, augmentation)]
    if len(sized) > 1 and sized[0][1].canvas is None:
        raise ValueError(f"INPUT.TRAIN.SIZE_FACTORS needs a mode with a SIZE, and {cfg.INPUT.TRAIN.MODE!r} has none")
    mosaics = _per_dataset(cfg.DATASETS.MOSAIC, names, "MOSAIC", default=float(cfg.INPUT.TRAIN.MOSAIC))
    rows = _per_dataset(cfg.DATASETS.MOSAIC_ROWS, names, "MOSAIC_ROWS", default=0)
    pasted = _per_dataset(cfg.DATASETS.COPY_PASTE, names, "COPY_PASTE", default=float(cfg.INPUT.TRAIN.COPY_PASTE))
    seed = int(cfg.SOLVER.SEED)
    streams = [
        ImageStream(
            len(records),
            seed=(seed, number),
            batch=images_per_process,
            repeats=repeat_factors(records, threshold) if threshold else None,
            groups=_upright(records) if sized[0][1].canvas is None else None,
        )
        for number, ((_, records), threshold) in enumerate(zip(read, thresholds, strict=True))
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
    makers = [
        BatchMaker(
            [
                Source(spec, records, (mapper or partial(_mapper, _shown(one, *shown)))(spec, records, augmentation))
                for (spec, records), *shown in zip(read, mosaics, rows, pasted, strict=True)
            ],
            collate=collate,
            seed=seed,
            rank=rank,
            divisibility=cfg.MODEL.SIZE_DIVISIBILITY,
            min_canvas=augmentation.canvas or (1, 1),
        )
        for one, augmentation in sized
    ]
    return TrainingLoader(
        makers[0] if len(makers) == 1 else OneOf(makers, seed=seed), draws, num_workers=cfg.DATALOADER.NUM_WORKERS
    )


def _sizes(cfg: CN) -> list[tuple[CN, Augmentation]]:
    """The configuration with each of the sizes that batches have, and where images go there."""
    factors = list(cfg.INPUT.TRAIN.SIZE_FACTORS)
    if not factors:
        return [(cfg, build_augmentation(cfg))]
    height, width = cfg.INPUT.TRAIN.SIZE
    sized = [_at_size(cfg, scaled((height, width), factor)) for factor in factors]
    return [(one, build_augmentation(one)) for one in sized]


def _at_size(cfg: CN, size: Size) -> CN:
    one = cfg.clone()
    one.defrost()
    one.INPUT.TRAIN.SIZE = list(size)
    return one


def _shown(cfg: CN, mosaic: float, rows: float, pasted: float) -> CN:
    """The configuration of one data set: chances of a paste and of a mosaic of up to `rows` rows (0 = as it is)."""
    one = cfg.clone()
    one.defrost()
    one.INPUT.TRAIN.MOSAIC, one.INPUT.TRAIN.COPY_PASTE = mosaic, pasted
    if rows:
        one.INPUT.TRAIN.MOSAIC_GRIDS = list(range(2, int(rows) + 1))
    return one


def _single_targets(spec: DatasetSpec, records: Records) -> Records:
    return single_target_view(records, name=spec.name)


def _mapper(cfg: CN, spec: DatasetSpec, records: Records, augmentation: Augmentation) -> Mapping:
    train = cfg.INPUT.TRAIN
    made = partial(
        Mapper,
        vocabulary=records.vocabulary,
        color=train.COLOR,
        min_area=train.MIN_AREA,
        boxes_from_masks=spec.boxes_from_masks,
        left_right=spec.left_right,
    )
    single: Mapping = made(augmentation=augmentation, max_instances=train.MAX_INSTANCES)
    if train.COPY_PASTE:
        single = CopyPasteMapper(
            records,
            single=single,
            donors=_donors(cfg, single, made, augmentation),
            chance=train.COPY_PASTE,
            max_instances=train.MAX_INSTANCES,
            min_area=train.MIN_AREA,
            boxes_from_masks=spec.boxes_from_masks,
        )
    if not train.MOSAIC:
        return single
    if augmentation.canvas is None:
        raise ValueError(f"INPUT.TRAIN.MOSAIC needs a mode with a SIZE, and {train.MODE!r} has none; set it to 0")
    height, width = augmentation.canvas
    cells = {
        grid: made(
            augmentation=build_augmentation(_at_size(cfg, (height // grid, width // grid))),
            max_instances=max(1, train.MAX_INSTANCES // grid**2),
        )
        for grid in train.MOSAIC_GRIDS
    }
    return MosaicMapper(
        records,
        single=single,
        cells=cells,
        chance=train.MOSAIC,
        canvas=augmentation.canvas,
        fill=cfg.MODEL.PIXEL_MEAN,
    )


def _donors(cfg: CN, single: Mapping, made: Callable[..., Mapping], augmentation: Augmentation) -> list[Mapping]:
    """What makes the samples that pasted objects are taken from, at each of their sizes."""
    train = cfg.INPUT.TRAIN
    factors = list(train.PASTE_FACTORS) or [1.0]
    if factors == [1.0]:
        return [single]
    if augmentation.canvas is None:
        raise ValueError(
            f"INPUT.TRAIN.PASTE_FACTORS needs a mode with a SIZE, and {train.MODE!r} has none; set it to []"
        )
    sized = [_at_size(cfg, scaled(augmentation.canvas, factor)) for factor in factors]
    return [made(augmentation=build_augmentation(one), max_instances=train.MAX_INSTANCES) for one in sized]


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
        ValueError: for an unknown data set or a malformed file; while reading, for an image that cannot be read or is
            not of its annotations' size, unless `TEST.LENIENT` leaves it out.
    """
    register_custom(cfg)
    records = (data or DataSets()).records(name)
    return TestLoader(
        records, num_workers=cfg.DATALOADER.NUM_WORKERS, rank=rank, world_size=world_size, lenient=cfg.TEST.LENIENT
    )
