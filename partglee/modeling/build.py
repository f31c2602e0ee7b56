"""The one place where a model is put together from a configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode as CN

from partglee.config import load_config
from partglee.modeling.backbone import Backbone, build_timm_backbone
from partglee.modeling.decoder import DeformableDecoder
from partglee.modeling.denoising import DenoisingBuilder
from partglee.modeling.dense_head import DenseHead
from partglee.modeling.early_fusion import EarlyFusion
from partglee.modeling.heads import PredictionHeads
from partglee.modeling.object_decoder import ObjectDecoder, QuerySelection
from partglee.modeling.part_decoder import PartDecoder, QFormer
from partglee.modeling.partglee import PartGLEE
from partglee.modeling.pixel_decoder import PixelDecoder
from partglee.structures import Vocabulary
from partglee.text import TextEncoder, build_text_encoder


def build_model(
    cfg: CN | str | Path, *, text_encoder: TextEncoder | None = None, backbone: Backbone | None = None
) -> PartGLEE:
    """Build a model with fresh weights from a configuration, a YAML file or a name of the zoo.

    Build under `torch.device("meta")` to have the shapes without the memory.

    Args:
        text_encoder: in place of the one of `MODEL.TEXT`; its `embed_dim` is `MODEL.EMBED_DIM`.
        backbone: in place of the one of `MODEL.BACKBONE`.

    Raises:
        ValueError: for values of the configuration that fit nothing or do not fit each other.
    """
    if not isinstance(cfg, CN):
        cfg = load_config(cfg)
    m = cfg.MODEL
    backbone = build_backbone(cfg) if backbone is None else backbone
    text_encoder = build_text_encoder(cfg) if text_encoder is None else text_encoder
    if text_encoder.embed_dim != m.EMBED_DIM:
        raise ValueError(
            f"the text encoder's embed_dim must be MODEL.EMBED_DIM {m.EMBED_DIM}, got {text_encoder.embed_dim}"
        )
    return PartGLEE(
        backbone=backbone,
        text_encoder=text_encoder,
        pixel_decoder=build_pixel_decoder(m, backbone.channels, fusion=_build_early_fusion(m)),
        object_decoder=ObjectDecoder(
            selection=QuerySelection(embed_dim=m.EMBED_DIM, num_queries=m.OBJECT_DECODER.NUM_QUERIES),
            decoder=_build_decoder(m, m.OBJECT_DECODER.NUM_LAYERS),
            heads=_build_heads(m),
            dense_head=DenseHead(embed_dim=m.EMBED_DIM) if m.OBJECT_DECODER.DENSE_HEAD else None,
        ),
        qformer=QFormer(
            embed_dim=m.EMBED_DIM,
            num_parsing_queries=m.QFORMER.NUM_QUERIES,
            num_layers=m.QFORMER.NUM_LAYERS,
            num_heads=m.NUM_HEADS,
            ffn_dim=m.FFN_DIM,
        ),
        part_decoder=PartDecoder(
            embed_dim=m.EMBED_DIM,
            decoder=_build_decoder(m, m.PART_DECODER.NUM_LAYERS),
            heads=_build_heads(m),
            run=m.QFORMER.NUM_QUERIES if m.PART_DECODER.WITHIN_OBJECTS else None,
        ),
        num_parsed_objects=m.OBJECT_DECODER.NUM_PARSED,
        fuse_categories=m.EARLY_FUSION.CATEGORIES,
        selection=Vocabulary.parse(m.OBJECT_DECODER.SELECTION) if m.OBJECT_DECODER.SELECTION else None,
        unseen_shift=m.OBJECT_DECODER.UNSEEN_SHIFT,
        denoising=_build_denoising(m),
        pixel_mean=m.PIXEL_MEAN,
        pixel_std=m.PIXEL_STD,
        size_divisibility=m.SIZE_DIVISIBILITY,
    )


def build_backbone(cfg: CN) -> Backbone:
    """The backbone alone."""
    b = cfg.MODEL.BACKBONE
    return build_timm_backbone(
        b.NAME,
        frozen_norm=b.FROZEN_NORM,
        output_norms=b.OUTPUT_NORMS,
        drop_path=b.DROP_PATH,
        checkpoint_stages=cfg.MODEL.ACTIVATION_CHECKPOINTING,
        freeze_at=b.FREEZE_AT,
        options=dict(b.OPTIONS),
    )


def build_pixel_decoder(m: CN, in_channels: tuple[int, ...], *, fusion: EarlyFusion | None = None) -> PixelDecoder:
    """The pixel decoder of `cfg.MODEL`.

    Args:
        in_channels: of the backbone's maps, fine to coarse.
        fusion: joins image and text; None = the text plays no role here.
    """
    return PixelDecoder(
        in_channels=in_channels,
        num_layers=m.ENCODER.NUM_LAYERS,
        fusion=fusion,
        checkpoint_layers=m.ACTIVATION_CHECKPOINTING,
        separable=m.ENCODER.SEPARABLE,
        **{**_transformer(m), "ffn_dim": m.ENCODER.FFN_DIM or m.FFN_DIM},
    )


def _build_early_fusion(m: CN) -> EarlyFusion:
    f = m.EARLY_FUSION
    return EarlyFusion(
        embed_dim=m.EMBED_DIM,
        inner_dim=f.INNER_DIM,
        num_heads=f.NUM_HEADS,
        dropout=f.DROPOUT,
        residual_from_norm=f.RESIDUAL_FROM_NORM,
        attend_to_padding=f.ATTEND_TO_PADDING,
        update_text=f.UPDATE_TEXT,
    )


def _build_decoder(m: CN, num_layers: int) -> DeformableDecoder:
    return DeformableDecoder(num_layers=num_layers, **_transformer(m))


def _build_heads(m: CN) -> PredictionHeads:
    return PredictionHeads(embed_dim=m.EMBED_DIM, prior_prob=m.PRIOR_PROB or None)


def _build_denoising(m: CN) -> DenoisingBuilder | None:
    d = m.DENOISING
    if not d.NUM_QUERIES:
        return None
    return DenoisingBuilder(
        num_queries=d.NUM_QUERIES, label_noise=d.LABEL_NOISE, box_noise=d.BOX_NOISE, contrastive=d.CONTRASTIVE
    )


def _transformer(m: CN) -> dict[str, Any]:
    return {
        "embed_dim": m.EMBED_DIM,
        "num_heads": m.NUM_HEADS,
        "num_levels": m.NUM_LEVELS,
        "num_points": m.NUM_POINTS,
        "ffn_dim": m.FFN_DIM,
    }
