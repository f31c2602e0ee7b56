"""Which values a configuration key may have. What depends on data or on several keys is in `engine.preflight`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fvcore.common.config import CfgNode as CN


class Span(NamedTuple):
    """Numbers from `low` to `high`, both included unless said; never NaN or infinite."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        try:
            finite = math.isfinite(value)
        except OverflowError:  # a whole number of 400 digits
            return False
        if not finite:
            return False
        above = value > self.low if self.open_low else value >= self.low
        return above and (value < self.high if self.open_high else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{'more than' if self.open_low else 'at least'} {self.low:g}"
        return f"in {'(' if self.open_low else '['}{self.low:g}, {self.high:g}{')' if self.open_high else ']'}"


POSITIVE, COUNT = Span(0, open_low=True), Span(1)
FROM_ZERO, SHARE, BELOW_ONE = Span(0), Span(0, 1), Span(0, 1, open_high=True)

NUMBERS: dict[str, Span] = {
    **dict.fromkeys(
        (
            "MODEL.EMBED_DIM", "MODEL.NUM_HEADS", "MODEL.NUM_LEVELS", "MODEL.NUM_POINTS", "MODEL.FFN_DIM",
            "MODEL.SIZE_DIVISIBILITY", "MODEL.TEXT.TABLE.WIDTH", "MODEL.TEXT.BERT.WIDTH",
            "MODEL.TEXT.BERT.NUM_LAYERS", "MODEL.TEXT.BERT.NUM_HEADS", "MODEL.TEXT.BERT.FFN_DIM",
            "MODEL.TEXT.BERT.NUM_WORDS",
            "MODEL.TEXT.BERT.CONTEXT_LENGTH", "MODEL.EARLY_FUSION.INNER_DIM",
            "MODEL.EARLY_FUSION.NUM_HEADS", "MODEL.ENCODER.NUM_LAYERS", "MODEL.OBJECT_DECODER.NUM_LAYERS",
            "MODEL.OBJECT_DECODER.NUM_QUERIES", "MODEL.OBJECT_DECODER.NUM_PARSED", "MODEL.QFORMER.NUM_LAYERS",
            "MODEL.QFORMER.NUM_QUERIES", "MODEL.PART_DECODER.NUM_LAYERS", "CRITERION.NUM_POINTS",
            "CRITERION.OVERSAMPLE", "INPUT.TRAIN.MAX_SIDE", "INPUT.TRAIN.EXPRESSIONS", "INPUT.TRAIN.MAX_INSTANCES",
            "INPUT.TEST.SHORT_SIDE",
            "INPUT.TEST.MAX_SIDE", "SOLVER.MAX_ITER", "SOLVER.BATCH_SIZE", "SOLVER.ACCUMULATE",
            "SOLVER.CHECKPOINT_PERIOD", "SOLVER.KEEP_CHECKPOINTS", "SOLVER.LOG_PERIOD", "TEST.DETECTIONS",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "MODEL.DENOISING.NUM_QUERIES", "CRITERION.FOCAL_GAMMA", "CRITERION.WEIGHT.CLASS", "CRITERION.WEIGHT.L1",
            "CRITERION.WEIGHT.GIOU", "CRITERION.WEIGHT.MASK", "CRITERION.WEIGHT.DICE", "CRITERION.WEIGHT.RESTRICTION",
            "CRITERION.WEIGHT.DISTILLATION", "CRITERION.WEIGHT.DENSE", "CRITERION.COST.CLASS", "CRITERION.COST.L1",
            "CRITERION.COST.GIOU", "CRITERION.COST.MASK", "CRITERION.COST.DICE", "DATALOADER.NUM_WORKERS",
            "DATALOADER.MAX_CORRUPT", "INPUT.TRAIN.COLOR", "INPUT.TRAIN.MIN_AREA", "SOLVER.BASE_LR",
            "SOLVER.WEIGHT_DECAY", "SOLVER.BACKBONE_MULTIPLIER", "SOLVER.TEXT_MULTIPLIER", "SOLVER.CLIP_GRADIENTS",
            "SOLVER.GAMMA", "SOLVER.FINAL_FACTOR", "SOLVER.WARMUP_ITERS", "SOLVER.MAX_NON_FINITE", "SOLVER.SEED",
            "TEST.PERIOD", "TEST.IMAGES", "TEST.BATCH_SIZE", "TEST.MASK_BOX", "TEST.OBJECT_QUERIES",
            "TEST.PART_QUERIES", "MODEL.BACKBONE.FREEZE_AT", "MODEL.OBJECT_DECODER.UNSEEN_SHIFT",
            "MODEL.ENCODER.FFN_DIM",
        ),
        FROM_ZERO,
    ),
    **dict.fromkeys(
        (
            "MODEL.EARLY_FUSION.DROPOUT", "MODEL.DENOISING.LABEL_NOISE", "MODEL.DENOISING.BOX_NOISE",
            "CRITERION.FOCAL_ALPHA", "CRITERION.IMPORTANCE", "CRITERION.POINTS_NEAR", "INPUT.TRAIN.FLIP",
            "INPUT.TRAIN.MOSAIC", "INPUT.TRAIN.COPY_PASTE", "SOLVER.WARMUP_FACTOR",
            "TEST.SCORE_THRESHOLD", "TEST.PART_OVERLAP",
        ),
        SHARE,
    ),
    "DATASETS.SHARE": Span(0, 1, open_low=True),
    **dict.fromkeys(("MODEL.PRIOR_PROB", "MODEL.BACKBONE.DROP_PATH", "SOLVER.EMA_DECAY"), BELOW_ONE),
}  # fmt: skip
"""Every key that is a number."""


class Numbers(NamedTuple):
    """A list of numbers."""

    each: Span
    whole: bool = False
    length: int | None = None

    def __str__(self) -> str:
        count = "a list of" if self.length is None else f"{self.length}"
        return f"{count} {'whole numbers' if self.whole else 'numbers'} {self.each}"

    def __contains__(self, values: object) -> bool:
        if not isinstance(values, (list, tuple)) or (self.length is not None and len(values) != self.length):
            return False
        return all(value in self.each and (not self.whole or isinstance(value, int)) for value in values)


LISTS: dict[str, Numbers] = {
    "MODEL.PIXEL_MEAN": Numbers(FROM_ZERO, length=3),
    "MODEL.PIXEL_STD": Numbers(POSITIVE, length=3),
    "DATASETS.RATIOS": Numbers(FROM_ZERO),
    "DATASETS.REPEAT_THRESHOLDS": Numbers(SHARE),
    "DATASETS.MOSAIC": Numbers(SHARE),
    "DATASETS.COPY_PASTE": Numbers(SHARE),
    "DATASETS.MOSAIC_ROWS": Numbers(Span(2, 8), whole=True),
    "INPUT.TRAIN.SIZE": Numbers(COUNT, whole=True, length=2),
    "INPUT.TRAIN.SCALE": Numbers(POSITIVE, length=2),
    "INPUT.TRAIN.SIZE_FACTORS": Numbers(POSITIVE),
    "INPUT.TRAIN.PASTE_FACTORS": Numbers(POSITIVE),
    "INPUT.TRAIN.MOSAIC_GRIDS": Numbers(Span(2, 8), whole=True),
    "INPUT.TRAIN.SHORT_SIDES": Numbers(COUNT, whole=True),
    "SOLVER.STEPS": Numbers(COUNT, whole=True),
}
"""Every key that is a list of numbers."""


class Words(tuple[str, ...]):
    """One of a few words."""

    def __str__(self) -> str:
        return f"{', '.join(self[:-1])} or {self[-1]}"


WORDS: dict[str, Words] = {
    "MODEL.TEXT.MODE": Words(("frozen", "trainable", "distill")),
    "CRITERION.PART_MATCHING": Words(("global", "within_parent")),
    "CRITERION.RESTRICTION_NORM": Words(("released", "paper", "mean")),
    "INPUT.TRAIN.LEVELS": Words(("both", "object", "part")),
    "SOLVER.SCHEDULE": Words(("step", "cosine")),
    "SOLVER.PRECISION": Words(("no", "bf16", "fp16")),
}
"""Keys that are one of a few words."""

Range = Span | Numbers | Words
RANGES: dict[str, Range] = {**NUMBERS, **LISTS, **WORDS}
"""What the keys of `get_cfg` may be."""


def check_values(cfg: CN, more: Mapping[str, Range] | None = None) -> None:
    """Every value by itself; its type has been checked when it was merged.

    Args:
        cfg: a recipe may have dropped keys of `get_cfg`.
        more: what keys that a recipe adds may be; of a key of `get_cfg`, in place of the library's range.

    Raises:
        ValueError: for the first value that its key may not have, with those that it may.
    """
    values = dict(leaves(cfg))
    for key, wanted in {**RANGES, **(more or {})}.items():
        if key in values and values[key] not in wanted:
            raise ValueError(f"{key} must be {wanted}, got {_shown(values[key])}")
    if not isinstance(folder := cfg.get("OUTPUT_DIR"), str) or not folder.strip():
        raise ValueError(f"OUTPUT_DIR must be the name of a folder ('.' is this one), got {folder!r}")
    for key, what in (("TRAIN", "data sets"), ("TEST", "data sets"), ("IMPORTS", "modules")):
        if wrong := [name for name in cfg.DATASETS.get(key, []) if not isinstance(name, str)]:
            raise ValueError(f"DATASETS.{key} must be a list of names of {what}, got {wrong[0]!r} among them")


def value_of(cfg: CN, key: str) -> Any:
    """The value of `SECTION.KEY`."""
    node: Any = cfg
    for name in key.split("."):
        node = node[name]
    return node


def leaves(cfg: CN, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key with its value."""
    for name, value in cfg.items():
        if isinstance(value, CN):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return repr(list(value) if isinstance(value, tuple) else value)
