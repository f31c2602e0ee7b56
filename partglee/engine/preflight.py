"""What can be known to be wrong before the first step."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode as CN

from partglee.data.build import build_augmentation
from partglee.data.catalog import DataSets, get_dataset
from partglee.data.spec import missing_files
from partglee.engine.preflight_values import check_values
from partglee.engine.schedule import build_schedule
from partglee.modeling import PartGLEE


def check_config(cfg: CN, *, world_size: int, train: bool = True) -> None:
    """Values that no key may have or that contradict each other, unknown data sets, missing files.

    Args:
        train: False: only what evaluation needs.

    Raises:
        ValueError: for the first that is found, with what to do.
    """
    check_values(cfg)
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
    for key, values in (("RATIOS", cfg.DATASETS.RATIOS), ("REPEAT_THRESHOLDS", cfg.DATASETS.REPEAT_THRESHOLDS)):
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


def check_names(cfg: CN, model: PartGLEE, *, train: bool = True, data: DataSets | None = None) -> None:
    """Every name of every data set can be encoded.

    Args:
        train: False: only what evaluation needs.
        data: what the run has read.

    Raises:
        ValueError: for a name that the model's table lacks, with the data set and the nearest known names.
    """
    data = data or DataSets()
    for name in dict.fromkeys((*(cfg.DATASETS.TRAIN if train else ()), *cfg.DATASETS.TEST)):
        records = data.records(name)
        sentences = [expression.text for expression in records[0].expressions] if len(records) else []
        try:
            model.text_encoder.tokenize(records.vocabulary)
            if sentences:
                model.text_encoder.tokenize_expressions(sentences[:1])
        except ValueError as error:
            raise ValueError(f"data set {name!r}: {error}") from error


def _existing_part(path: Path) -> str:
    """How far the path leads."""
    for parent in path.parents:
        if parent.is_dir():
            near = sorted(entry.name for entry in parent.iterdir())[:5]
            return f"{parent} exists and holds {', '.join(near) or 'nothing'}."
    return ""
