"""Configuration keys that ReLA has beside or instead of the library's, and the model that they describe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN
from torch import nn

from partglee.config import get_cfg, project_config
from partglee.config.values import BELOW_ONE, COUNT, FROM_ZERO, POSITIVE, SHARE, Numbers, Range, Words
from partglee.modeling import build_backbone, build_pixel_decoder
from partglee.text import TextBackend, backend_kind
from rela.criterion import MINIMAP_RULES, ReLACriterion
from rela.fusion import Gate, WordFusion
from rela.model import FUSIONS, ReLA
from rela.region_decoder import FORMS, SPLITS, RegionDecoder

_HERE = Path(__file__).resolve().parent
CONFIGS = next((folder for folder in (_HERE / "configs", _HERE.parent / "configs") if folder.is_dir()), _HERE)
_NOT_OURS = ("PRIOR_PROB", "EARLY_FUSION", "OBJECT_DECODER", "QFORMER", "PART_DECODER", "DENOISING")


def rela_defaults() -> CN:
    """Every key with its default: the library's of a run, of the backbone and of the text, and ReLA's own."""
    cfg = get_cfg()
    cfg.RECIPE = "rela"
    for key in _NOT_OURS:
        del cfg.MODEL[key]

    cfg.MODEL.NUM_LEVELS = 3  # of the pixel decoder: strides 8, 16, 32
    cfg.MODEL.FFN_DIM = 1024  # of the pixel decoder
    del cfg.MODEL.TEXT["MODE"]
    cfg.MODEL.TEXT.BACKEND = "bert"
    cfg.MODEL.TEXT.BERT.CONTEXT_LENGTH = 20  # longer expressions are cut
    cfg.MODEL.TEXT.BERT.KEEP_END = True  # a cut expression keeps its end token; released: it loses it
    cfg.MODEL.TEXT.BERT.DROPOUT = 0.1  # while training
    cfg.MODEL.TEXT.TRAINABLE = True
    # Of the tower's layers these do not learn, nor do its embeddings. Released: [10, 11] and the embeddings, which its
    # optimizer leaves out.
    cfg.MODEL.TEXT.FROZEN_LAYERS = []
    cfg.MODEL.TEXT.FROZEN_EMBEDDINGS = False

    cfg.MODEL.FUSION = CN()
    # Where words enter the image side. backbone: a block on each of its outputs, the pixel decoder runs for every
    # expression (released) | memory: a block on each level that the pixel decoder leaves, an image is encoded once |
    # none: only the regions read words (paper, figure 4)
    cfg.MODEL.FUSION.PLACE = "backbone"
    cfg.MODEL.FUSION.GATES = False  # words go on into the next stage of the backbone; released: gates that never open

    cfg.MODEL.REGIONS = CN()
    cfg.MODEL.REGIONS.NUM = 10  # P: the image has P x P regions
    cfg.MODEL.REGIONS.NUM_LAYERS = 9
    cfg.MODEL.REGIONS.FFN_DIM = 2048
    # layers: words in the first layer, regions see each other in every one | after: both once, behind the last layer
    # (the released code's earlier form)
    cfg.MODEL.REGIONS.FORM = "layers"
    cfg.MODEL.REGIONS.SPLIT = "soft"  # soft | decoder, input: hard split into P x P cells (paper, table 2)
    cfg.MODEL.REGIONS.LANGUAGE_ATTENTION = True  # False: regions times the mean word (paper, table 3)
    cfg.MODEL.REGIONS.LANGUAGE_LAYERS = 1  # in how many layers words are read
    cfg.MODEL.REGIONS.LANGUAGE_SCALE = 0.1  # of what is added
    cfg.MODEL.REGIONS.MERGE_SCALE = 1.0  # of the sum of region masks (released: 1)
    cfg.MODEL.REGIONS.ATTEND_TO_PADDING = False  # released: padding of short expressions takes part in the attention
    cfg.MODEL.REGIONS.REGION_ATTENTION = True  # False: regions do not see each other (paper, table 3)

    cfg.CRITERION = CN()
    cfg.CRITERION.CLASS_WEIGHT = [0.9, 1.1]  # of background and target, in every cross-entropy
    cfg.CRITERION.MINIMAP_RULE = "area"  # area: more than half of a cell | centre: all four central pixels (released)
    cfg.CRITERION.FACTOR = 5.0  # of all losses
    cfg.CRITERION.WEIGHT = CN()
    cfg.CRITERION.WEIGHT.MASK = 1.0
    cfg.CRITERION.WEIGHT.MINIMAP = 0.1  # 0: regions are plain queries (paper, table 2)
    cfg.CRITERION.WEIGHT.NO_TARGET = 0.1
    cfg.CRITERION.WEIGHT.DICE = 0.0

    cfg.INPUT.TEST.MODE = "squash"  # squash: to SIZE, whatever the proportions (released) | resize: short side
    cfg.INPUT.TEST.SIZE = [480, 480]  # squash: (height, width)
    cfg.TEST.NO_TARGET = "classifier"  # classifier | pixels: a mask of fewer than MIN_PIXELS (paper, table 6) | either
    cfg.TEST.MIN_PIXELS = 50
    cfg.TEST.NO_TARGET_THRESHOLD = 0.5  # of the classifier's probability (released: 0.5)
    cfg.TEST.CLEAR = True  # no target: an empty mask; released: the mask stays
    cfg.TEST.EXPRESSIONS_AT_ONCE = 16  # of one image, through the decoders together
    return cfg


RANGES: dict[str, Range] = {
    **dict.fromkeys(
        (
            "MODEL.REGIONS.NUM", "MODEL.REGIONS.NUM_LAYERS", "MODEL.REGIONS.FFN_DIM", "MODEL.REGIONS.LANGUAGE_LAYERS",
            "TEST.EXPRESSIONS_AT_ONCE",
        ),
        COUNT,
    ),
    **dict.fromkeys(
        (
            "CRITERION.FACTOR", "CRITERION.WEIGHT.MASK", "CRITERION.WEIGHT.MINIMAP", "CRITERION.WEIGHT.NO_TARGET",
            "CRITERION.WEIGHT.DICE", "TEST.MIN_PIXELS",
        ),
        FROM_ZERO,
    ),
    **dict.fromkeys(("MODEL.REGIONS.MERGE_SCALE", "MODEL.REGIONS.LANGUAGE_SCALE"), POSITIVE),
    "MODEL.TEXT.BERT.DROPOUT": BELOW_ONE,
    "TEST.NO_TARGET_THRESHOLD": SHARE,
    "MODEL.TEXT.FROZEN_LAYERS": Numbers(FROM_ZERO, whole=True),
    "MODEL.FUSION.PLACE": Words(FUSIONS),
    "MODEL.REGIONS.FORM": Words(FORMS),
    "MODEL.REGIONS.SPLIT": Words(SPLITS),
    "CRITERION.CLASS_WEIGHT": Numbers(POSITIVE, length=2),
    "CRITERION.MINIMAP_RULE": Words(MINIMAP_RULES),
    "INPUT.TEST.MODE": Words(("squash", "resize")),
    "INPUT.TEST.SIZE": Numbers(COUNT, whole=True, length=2),
    "TEST.NO_TARGET": Words(("classifier", "pixels", "either")),
}  # fmt: skip
"""What ReLA's keys may be."""


def load_config(name: str | Path, overrides: Sequence[Any] = ()) -> CN:
    """Defaults, then a YAML file or one of this project by name (`rela_swint`), then `KEY VALUE` pairs."""
    return project_config(name, overrides, folder=CONFIGS, defaults=rela_defaults)


def list_configs() -> list[str]:
    """Names that `load_config` knows."""
    return sorted(file.stem for file in CONFIGS.glob("[!_]*.yaml"))


def build_model(cfg: CN | str | Path, *, text_encoder: TextBackend | None = None) -> ReLA:
    """Build a model with fresh weights from a configuration, a YAML file or a name.

    Args:
        text_encoder: in place of the one of `MODEL.TEXT`.

    Raises:
        ValueError: for values that fit nothing or do not fit each other.
    """
    if not isinstance(cfg, CN):
        cfg = load_config(cfg)
    m, r = cfg.MODEL, cfg.MODEL.REGIONS
    backbone = build_backbone(cfg)
    text = build_text(cfg) if text_encoder is None else text_encoder
    place = m.FUSION.PLACE
    fused = {"backbone": backbone.channels, "memory": (m.EMBED_DIM,) * m.NUM_LEVELS, "none": ()}[place]
    return ReLA(
        backbone=backbone,
        text_encoder=text,
        pixel_decoder=build_pixel_decoder(m, backbone.channels),
        region_decoder=RegionDecoder(
            embed_dim=m.EMBED_DIM,
            word_dim=text.width,
            num_heads=m.NUM_HEADS,
            num_layers=r.NUM_LAYERS,
            num_levels=m.NUM_LEVELS,
            ffn_dim=r.FFN_DIM,
            num_regions=r.NUM,
            form=r.FORM,
            split=r.SPLIT,
            language_attention=r.LANGUAGE_ATTENTION,
            region_attention=r.REGION_ATTENTION,
            language_layers=r.LANGUAGE_LAYERS,
            language_scale=r.LANGUAGE_SCALE,
            attend_to_padding=r.ATTEND_TO_PADDING,
            merge_scale=r.MERGE_SCALE,
        ),
        fusion=place,
        fusion_blocks=[
            WordFusion(dim=c, word_dim=text.width, apart=place != "memory", words_first=place == "memory")
            for c in fused
        ],
        gates=[Gate(dim=c) for c in fused[:-1]] if m.FUSION.GATES else (),
        hard_split=r.NUM if r.SPLIT == "input" else 0,
        pixel_mean=m.PIXEL_MEAN,
        pixel_std=m.PIXEL_STD,
        size_divisibility=m.SIZE_DIVISIBILITY,
    )


def build_text(cfg: CN) -> TextBackend:
    """The words' side; what `MODEL.TEXT` keeps from learning does not require gradients."""
    text = cfg.MODEL.TEXT
    backend = backend_kind(cfg).build(text)
    if hasattr(backend, "keep_end"):
        backend.keep_end = text.BERT.KEEP_END
    for module in backend.modules():
        if isinstance(module, nn.Dropout):
            module.p = text.BERT.DROPOUT
    frozen = tuple(f".layer.{i}." for i in text.FROZEN_LAYERS)
    for name, parameter in backend.named_parameters():
        held = any(part in name for part in frozen) or (text.FROZEN_EMBEDDINGS and ".embeddings." in f".{name}")
        parameter.requires_grad_(text.TRAINABLE and not held)
    return backend


def build_criterion(cfg: CN) -> ReLACriterion:
    """The losses as `CRITERION` says."""
    c = cfg.CRITERION
    weights: Mapping[str, float] = {name.lower(): value for name, value in c.WEIGHT.items()}
    return ReLACriterion(
        num_regions=cfg.MODEL.REGIONS.NUM,
        class_weight=c.CLASS_WEIGHT,
        minimap_rule=c.MINIMAP_RULE,
        factor=c.FACTOR,
        weights=weights,
    )
