"""Configuration keys that UniRES has beside or instead of the library's, and the model that they describe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from partglee.config import get_cfg, project_config
from partglee.config.values import COUNT, FROM_ZERO, SHARE, Numbers, Range, Span, Words
from partglee.modeling import build_backbone, build_pixel_decoder
from partglee.text import TextBackend, backend_kind
from unires.criterion import UniRESCriterion
from unires.decoder import PROJECTIONS, DynamicProjection, LinearProjection, VisionLanguageDecoder
from unires.grouping import GroupReader, GroupTokens, LanguageFilter
from unires.image_side import ClipImageSide, MapImageSide, build_tower
from unires.model import UniRES

_HERE = Path(__file__).resolve().parent
CONFIGS = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)
SOURCES = ("clip", "pixel_decoder")
_NOT_OURS = ("PRIOR_PROB", "EARLY_FUSION", "OBJECT_DECODER", "QFORMER", "PART_DECODER", "DENOISING")


def unires_defaults() -> CN:
    """Every key with its default. Where the paper is silent, the reason stands beside the value."""
    cfg = get_cfg()
    cfg.RECIPE = "unires"
    for key in _NOT_OURS:
        del cfg.MODEL[key]
    del cfg.MODEL.TEXT["MODE"]

    cfg.MODEL.PIXEL_MEAN = [122.771, 116.746, 104.094]  # CLIP's
    cfg.MODEL.PIXEL_STD = [68.501, 66.632, 70.323]
    cfg.MODEL.NUM_LEVELS = 3  # of the pixel decoder
    cfg.MODEL.IMAGE = CN()
    # clip: open_clip's vision transformer (paper) | pixel_decoder: the library's backbone and pixel decoder
    cfg.MODEL.IMAGE.SOURCE = "clip"
    cfg.MODEL.IMAGE.ARCH = "ViT-B-16"  # the paper names no size; the smallest that CRIS' successors use
    cfg.MODEL.IMAGE.OPTIONS = CN(new_allowed=True)  # image_size, width, layers, head_width, patch_size: a smaller tower
    cfg.MODEL.GROUPS = CN()
    cfg.MODEL.GROUPS.LOW = 64  # tokens that travel through the first half; 0 = the level is off (table 8)
    cfg.MODEL.GROUPS.HIGH = 8  # tokens that travel through the second half
    cfg.MODEL.GROUPS.READERS = 2  # pixel_decoder: layers by which tokens see the map, in place of a transformer's
    cfg.MODEL.GROUPS.FFN_DIM = 1024  # of filters and readers; twice the width of the decoder
    cfg.MODEL.TEXT.ARCH = "ViT-B-16"  # CLIP's text tower that belongs to the image tower
    cfg.MODEL.TEXT.CONTEXT_LENGTH = 17  # begin and end included (paper); 22 for RefCOCOg
    cfg.MODEL.TEXT.TRAINABLE = True
    cfg.MODEL.DECODER = CN()
    cfg.MODEL.DECODER.DIM = 512  # CRIS
    cfg.MODEL.DECODER.WORD_LAYERS = 3  # CRIS has three; the paper says "stacked"
    cfg.MODEL.DECODER.GROUP_LAYERS = 3
    cfg.MODEL.DECODER.NUM_HEADS = 8  # CRIS
    cfg.MODEL.DECODER.FFN_DIM = 1024  # CRIS has 2048; with half of it ten sentences cost less than twice one
    # Places see each other in every layer, as in CRIS. They have done so in the image tower, for all sentences at once.
    cfg.MODEL.DECODER.SELF_ATTENTION = False
    cfg.MODEL.PROJECTION = "linear"  # linear (paper) | dynamic: a kernel that the sentence makes (CRIS)

    cfg.CRITERION = CN()
    cfg.CRITERION.NUM_POINTS = 0  # 0: at every place of the map (CRIS) | points, more of them where it is undecided
    cfg.CRITERION.WEIGHT = CN()
    cfg.CRITERION.WEIGHT.BCE = 1.0
    cfg.CRITERION.WEIGHT.DICE = 1.0  # CRIS has none; it keeps small parts from being nothing

    cfg.INPUT.TRAIN.MODE = "letterbox"  # CRIS; padding belongs to no mask
    cfg.INPUT.TRAIN.SIZE = [480, 480]
    cfg.INPUT.TRAIN.FLIP = 0.0  # sentences speak of left and right
    cfg.INPUT.TEST.SHORT_SIDE = 480  # with MAX_SIDE: the longer side is 480
    cfg.INPUT.TEST.MAX_SIDE = 480
    cfg.TEST.MASK_THRESHOLD = 0.35  # of a pixel's probability (paper)
    cfg.TEST.MIN_PIXELS = 1  # a smaller mask means that nothing is meant; the model has no head that says so
    cfg.TEST.EXPRESSIONS_AT_ONCE = 16  # of one image, through the decoder together
    return cfg


RANGES: dict[str, Range] = {
    **dict.fromkeys(
        (
            "MODEL.GROUPS.READERS", "MODEL.GROUPS.FFN_DIM", "MODEL.DECODER.DIM", "MODEL.DECODER.WORD_LAYERS",
            "MODEL.DECODER.GROUP_LAYERS", "MODEL.DECODER.NUM_HEADS", "MODEL.DECODER.FFN_DIM",
            "TEST.EXPRESSIONS_AT_ONCE",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "MODEL.GROUPS.LOW", "MODEL.GROUPS.HIGH", "CRITERION.NUM_POINTS", "CRITERION.WEIGHT.BCE",
            "CRITERION.WEIGHT.DICE", "TEST.MIN_PIXELS",
        ),
        FROM_ZERO,
    ),
    "MODEL.TEXT.CONTEXT_LENGTH": Span(3),
    "TEST.MASK_THRESHOLD": SHARE,
    "MODEL.IMAGE.SOURCE": Words(SOURCES),
    "MODEL.PROJECTION": Words(PROJECTIONS),
    "INPUT.TRAIN.SIZE": Numbers(COUNT, whole=True, length=2),
}  # fmt: skip
"""What UniRES's keys may be."""


def load_config(name: str | Path, overrides: Sequence[Any] = ()) -> CN:
    """Defaults, then a YAML file or one of this project by name (`unires_toy`), then `KEY VALUE` pairs."""
    return project_config(name, overrides, folder=CONFIGS, defaults=unires_defaults)


def list_configs() -> list[str]:
    """Names that `load_config` knows."""
    return sorted(file.stem for file in CONFIGS.glob("[!_]*.yaml"))


def build_model(cfg: CN | str | Path, *, text_encoder: TextBackend | None = None) -> UniRES:
    """Build a model with fresh weights from a configuration, a YAML file or a name.

    Args:
        text_encoder: in place of the one of `MODEL.TEXT`.

    Raises:
        ValueError: for values that fit nothing or do not fit each other.
    """
    if not isinstance(cfg, CN):
        cfg = load_config(cfg)
    m, g, d = cfg.MODEL, cfg.MODEL.GROUPS, cfg.MODEL.DECODER
    text = build_text(cfg) if text_encoder is None else text_encoder
    side = _build_clip_side(m) if m.IMAGE.SOURCE == "clip" else _build_map_side(cfg)
    levels = side.groups.levels
    scale = side.stride // 4 or 1  # logits at a quarter of the image
    return UniRES(
        image_side=side,
        text_encoder=text,
        filters={
            level: LanguageFilter(
                width=side.width, word_dim=text.width, out_dim=d.DIM, num_heads=d.NUM_HEADS, ffn_dim=g.FFN_DIM
            )
            for level in levels
        },
        decoder=VisionLanguageDecoder(
            image_dim=side.width,
            word_dim=text.width,
            dim=d.DIM,
            num_layers=(d.WORD_LAYERS, d.GROUP_LAYERS),
            num_heads=d.NUM_HEADS,
            ffn_dim=d.FFN_DIM,
            second_stage=bool(levels),
            self_attention=d.SELF_ATTENTION,
        ),
        projection=LinearProjection(dim=d.DIM, scale=scale)
        if m.PROJECTION == "linear"
        else DynamicProjection(dim=d.DIM, word_dim=text.width, scale=scale),
        context_length=m.TEXT.CONTEXT_LENGTH,
        pixel_mean=m.PIXEL_MEAN,
        pixel_std=m.PIXEL_STD,
        size_divisibility=m.SIZE_DIVISIBILITY,
    )


def _build_clip_side(m: CN) -> ClipImageSide:
    tower = build_tower(m.IMAGE.ARCH, options=dict(m.IMAGE.OPTIONS))
    groups = GroupTokens(width=int(tower.class_embedding.shape[0]), num_low=m.GROUPS.LOW, num_high=m.GROUPS.HIGH)
    side = ClipImageSide(tower=tower, groups=groups, checkpoint_layers=m.ACTIVATION_CHECKPOINTING)
    if m.SIZE_DIVISIBILITY % side.stride:
        raise ValueError(
            f"MODEL.SIZE_DIVISIBILITY must be a multiple of the patch of {m.IMAGE.ARCH}, {side.stride}, "
            f"got {m.SIZE_DIVISIBILITY}"
        )
    return side


def _build_map_side(cfg: CN) -> MapImageSide:
    m = cfg.MODEL
    backbone = build_backbone(cfg)
    groups = GroupTokens(width=m.EMBED_DIM, num_low=m.GROUPS.LOW, num_high=m.GROUPS.HIGH)
    return MapImageSide(
        backbone=backbone,
        pixel_decoder=build_pixel_decoder(m, backbone.channels),
        groups=groups,
        readers={
            level: [
                GroupReader(width=m.EMBED_DIM, num_heads=m.NUM_HEADS, ffn_dim=m.GROUPS.FFN_DIM)
                for _ in range(m.GROUPS.READERS)
            ]
            for level in groups.levels
        },
        width=m.EMBED_DIM,
    )


def build_text(cfg: CN) -> TextBackend:
    """The words' side."""
    backend = backend_kind(cfg).build(cfg.MODEL.TEXT)
    return backend.requires_grad_(cfg.MODEL.TEXT.TRAINABLE)


def build_criterion(cfg: CN) -> UniRESCriterion:
    """The losses as `CRITERION` says."""
    weights = {name.lower(): value for name, value in cfg.CRITERION.WEIGHT.items()}
    return UniRESCriterion(weights=weights, num_points=cfg.CRITERION.NUM_POINTS)
