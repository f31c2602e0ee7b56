"""What can be known to be wrong before the first step: settings, files, annotations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fvcore.common.config import CfgNode as CN

from partglee.basics.names import nearest
from partglee.basics.processes import is_main_process
from partglee.config.values import Range, check_values
from partglee.data.annotations.coco_json import CocoRecords
from partglee.data.annotations.shards import ShardRecords
from partglee.data.build import build_augmentation
from partglee.data.catalog import DataSets, get_dataset
from partglee.data.checks.content import check_image_file
from partglee.data.expression_views import rows_with_expressions
from partglee.data.records import Records
from partglee.data.spec import DatasetSpec, missing_files
from partglee.engine.logging import LOGGER
from partglee.engine.schedule import build_schedule
from partglee.evaluation.protocols import metric_names

_log = logging.getLogger(__name__)
_TOLD_FROM = 0.01  # share of the annotations that are left out
_SHOWN = 30  # metrics that an error lists
_LOOKED_AT = 64  # images of a data set that are decoded before the first step
_BAD_SHOWN = 3


def check_config(cfg: CN, *, world_size: int, train: bool = True, ranges: Mapping[str, Range] | None = None) -> None:
    """Values that no key may have or that contradict each other, unknown data sets, missing files.

    Args:
        train: False: only what evaluation needs.
        ranges: of keys that a recipe adds.

    Raises:
        ValueError: for the first that is found, with what to do.
    """
    check_values(cfg, ranges)
    if cfg.INPUT.TEST.SHORT_SIDE > cfg.INPUT.TEST.MAX_SIDE:
        raise ValueError(
            f"INPUT.TEST.SHORT_SIDE {cfg.INPUT.TEST.SHORT_SIDE} must not exceed MAX_SIDE {cfg.INPUT.TEST.MAX_SIDE}"
        )
    if train:
        _check_training(cfg, world_size)
    elif not cfg.DATASETS.TEST or not cfg.MODEL.WEIGHTS:
        raise ValueError("--eval-only needs MODEL.WEIGHTS and at least one data set in DATASETS.TEST")
    names = (*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)
    for name in names:
        for what, path in missing_files(get_dataset(name)).items():
            raise ValueError(
                f"{what} of data set {name!r} are not at {path}; {_existing_part(path)} "
                "PARTGLEE_DATASETS is the root of all relative paths"
            )


def _check_training(cfg: CN, world_size: int) -> None:
    s = cfg.SOLVER
    passes = world_size * s.ACCUMULATE
    if s.BATCH_SIZE % passes:
        near = [count for count in (s.BATCH_SIZE // passes * passes, (s.BATCH_SIZE // passes + 1) * passes) if count]
        raise ValueError(
            f"SOLVER.BATCH_SIZE {s.BATCH_SIZE} must be a multiple of {passes} ({world_size} processes x "
            f"SOLVER.ACCUMULATE {s.ACCUMULATE}); the nearest {'is' if len(near) == 1 else 'are'} "
            f"{' and '.join(map(str, near))}"
        )
    build_schedule(cfg)
    build_augmentation(cfg)
    if s.SHARDED and (s.PRECISION == "fp16" or not cfg.DATALOADER.SAME_DATASET):
        raise ValueError("SOLVER.SHARDED needs SOLVER.PRECISION bf16 or no, and DATALOADER.SAME_DATASET True")
    if s.SHARDED and s.EMA_DECAY:
        raise ValueError("SOLVER.EMA_DECAY cannot follow weights that SOLVER.SHARDED spreads; set one of them to 0")
    if not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty; name registered data sets, or describe your own in DATASETS.CUSTOM")
    for key in ("RATIOS", "REPEAT_THRESHOLDS", "MOSAIC", "MOSAIC_ROWS", "COPY_PASTE"):
        values = cfg.DATASETS[key]
        if values and len(values) != len(cfg.DATASETS.TRAIN):
            raise ValueError(
                f"DATASETS.{key} has {len(values)} numbers for {len(cfg.DATASETS.TRAIN)} data sets of DATASETS.TRAIN; "
                "give one each, or []"
            )
    if cfg.DATASETS.RATIOS and not any(cfg.DATASETS.RATIOS):
        raise ValueError(f"DATASETS.RATIOS must not all be 0, got {list(cfg.DATASETS.RATIOS)}")
    if s.SHARDED and cfg.DATASETS.TEST:
        raise ValueError(
            "weights that SOLVER.SHARDED spreads are not evaluated while training; set DATASETS.TEST [] and run "
            "--eval-only on model_final.safetensors afterwards"
        )
    if cfg.TEST.BEST and not any(cfg.TEST.BEST.startswith(f"{name}/") for name in cfg.DATASETS.TEST):
        raise ValueError(
            f"TEST.BEST {cfg.TEST.BEST!r} must begin with a data set of DATASETS.TEST {list(cfg.DATASETS.TEST)}, "
            "such as NAME/part/mask/AP50; the better of raw and averaged weights counts, without 'ema/' in the name"
        )


def _existing_part(path: Path) -> str:
    """How far the path leads."""
    for parent in path.parents:
        if parent.is_dir():
            near = sorted(entry.name for entry in parent.iterdir())[:5]
            return f"{parent} exists and holds {', '.join(near) or 'nothing'}."
    return ""


def check_data(
    cfg: CN,
    *,
    train: bool = True,
    data: DataSets | None = None,
    metrics_of: Callable[[DatasetSpec, Records], Sequence[str]] = metric_names,
) -> None:
    """Referring expressions fit their objects, images to evaluate are there, `TEST.BEST` is a metric of its data set.

    Args:
        train: False: only what evaluation needs.
        data: what the run has read.
        metrics_of: the metrics that an evaluation of a data set gives.

    Raises:
        ValueError: for the first that is found, with the data set, the image or the nearest metric.
    """
    data = data or DataSets()
    names = tuple(dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)))
    for name in names:
        try:
            records = data.records(name)
            if train and name in cfg.DATASETS.TRAIN:
                _check_targets(get_dataset(name), records)
            _check_expressions(records)
            if name in cfg.DATASETS.TEST:
                if not cfg.TEST.LENIENT:
                    _check_images(records)
                _look_at_images(name, records, refuse=not train and not cfg.TEST.LENIENT)
        except ValueError as error:
            raise ValueError(f"data set {name!r}: {error}") from error
    if not train:  # evaluators are made next anyway
        return
    metrics = []
    for name in cfg.DATASETS.TEST:
        records = data.records(name)
        metrics += [f"{name}/{metric}" for metric in metrics_of(get_dataset(name), records)]
    if cfg.TEST.BEST and cfg.TEST.BEST not in metrics:
        own = [metric for metric in metrics if metric.split("/")[0] == cfg.TEST.BEST.split("/")[0]]
        raise ValueError(
            f"TEST.BEST {cfg.TEST.BEST!r} is no metric of its data set{nearest(cfg.TEST.BEST, own) or ';'} "
            f"there are {', '.join(own[:_SHOWN])}{f' and {len(own) - _SHOWN} more' if len(own) > _SHOWN else ''}"
        )


def _check_targets(spec: DatasetSpec, records: Records) -> None:
    """There is something to learn from; what is left out of it is told from 1 % on."""
    if not isinstance(records, (CocoRecords, ShardRecords)):  # others make their targets as they are asked for them
        return
    (objects, parts), lost = records.learnable()
    reasons = ", ".join(f"{count} {what}" for what, count in sorted(lost.items(), key=lambda pair: -pair[1]))
    usable = objects * spec.supervises_objects + parts * spec.supervises_parts
    if not usable and not rows_with_expressions(records):
        raise ValueError(
            f"nothing can be learned from it: none of its {objects + parts + sum(lost.values())} annotations is of a "
            f"level that it supervises and no crowd{f' ({reasons})' if reasons else ''}; "
            f"`partglee data check {spec.name}` looks at each"
        )
    dropped = sum(lost.values())
    if dropped >= _TOLD_FROM * (objects + parts + dropped):
        _log.warning(
            "data set %r: %d of %d annotations (%.1f %%) are not learned from: %s",
            spec.name, dropped, objects + parts + dropped, 100 * dropped / (objects + parts + dropped), reasons,
        )  # fmt: skip


def _check_expressions(records: Records) -> None:
    for row in rows_with_expressions(records):
        records[row]  # reading a record checks that its lists fit its objects


def _check_images(records: Records) -> None:
    """Training survives a missing image; an evaluation without it would be another one, so it ends there."""
    if not isinstance(records, CocoRecords):  # others list the files that they find, or draw
        return
    lost = [row for row in range(len(records)) if not (records.images / records.file_name(row)).is_file()]
    if lost:
        raise ValueError(
            f"it is to be evaluated, but {len(lost)} of its {len(records)} images are missing, such as "
            f"'{records.images / records.file_name(lost[0])}'; bring them, or remove them from the annotations"
        )


def _look_at_images(name: str, records: Records, *, refuse: bool) -> None:
    """Decode a sample of the images to evaluate, spread over the file, and say which cannot be.

    Raises:
        ValueError: when `refuse`; a training is only told, since it goes on without its evaluations.
    """
    if not is_main_process() or not isinstance(records, CocoRecords):
        return
    count = min(len(records), _LOOKED_AT)
    rows = sorted({len(records) * place // count for place in range(count)})
    names = [records.file_name(row) for row in rows]
    found = [check_image_file(records.images / name, records.size(row)) for name, row in zip(names, rows, strict=True)]
    bad = [f"{name}: {rule}, {detail}" for name, (rule, detail) in zip(names, found, strict=True) if rule]
    if not bad:
        return
    told = (
        f"{len(bad)} of {len(rows)} images looked at cannot be evaluated ({'; '.join(bad[:_BAD_SHOWN])}); `partglee "
        "data check` names all such, TEST.LENIENT True leaves them out"
    )
    if refuse:
        raise ValueError(told)
    LOGGER.warning(f"data set {name!r}: {told}")
