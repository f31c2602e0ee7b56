"""Tiny models of transformers with random weights, one of each class, and inputs for them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

RESNET = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1], "layer_type": "basic"}
THREE = {"out_features": ["stage2", "stage3", "stage4"]}
SMALL_DETR = {
    "d_model": 32, "num_queries": 7, "encoder_attention_heads": 2, "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0,
    "activation_dropout": 0.0, "attention_dropout": 0.0, "num_labels": 5,
}  # fmt: skip
SMALL_RT = {
    "d_model": 32, "encoder_hidden_dim": 32, "num_queries": 7, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "decoder_layers": 2, "dropout": 0.0,
    "activation_dropout": 0.0, "attention_dropout": 0.0, "num_labels": 5, "num_denoising": 0, "encoder_in_channels":
    [8, 12, 16], "decoder_in_channels": [32, 32, 32], "anchor_image_size": None,
}  # fmt: skip
SWIN = {"image_size": 64, "embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 2}


def deformable_detr() -> nn.Module:
    from transformers import DeformableDetrConfig, DeformableDetrForObjectDetection, ResNetConfig

    backbone = ResNetConfig(**RESNET, **THREE)
    config = DeformableDetrConfig(
        use_timm_backbone=False, backbone=None, backbone_config=backbone, use_pretrained_backbone=False,
        with_box_refine=True, two_stage=True, two_stage_num_proposals=7, num_feature_levels=4, **SMALL_DETR,
    )  # fmt: skip
    return DeformableDetrForObjectDetection(config)


def mask2former() -> nn.Module:
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

    backbone = SwinConfig(**SWIN, drop_path_rate=0.0, out_features=["stage1", "stage2", "stage3", "stage4"])
    config = Mask2FormerConfig(
        backbone_config=backbone, feature_size=32, mask_feature_size=32, hidden_dim=32, num_attention_heads=2,
        encoder_feedforward_dim=16, dim_feedforward=16, encoder_layers=2, decoder_layers=3, num_queries=7,
        num_labels=5, dropout=0.0,
    )  # fmt: skip
    return Mask2FormerForUniversalSegmentation(config)


def grounding_dino() -> nn.Module:
    from transformers import BertConfig, GroundingDinoConfig, GroundingDinoForObjectDetection, SwinConfig

    text = BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    backbone = SwinConfig(**SWIN, drop_path_rate=0.0, out_features=["stage2", "stage3", "stage4"])
    config = GroundingDinoConfig(
        backbone_config=backbone, text_config=text, max_text_len=8, fusion_droppath=0.0, fusion_dropout=0.0,
        text_enhancer_dropout=0.0, **SMALL_DETR,
    )  # fmt: skip
    return GroundingDinoForObjectDetection(config)


def rt_detr() -> nn.Module:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    return RTDetrForObjectDetection(RTDetrConfig(backbone_config=RTDetrResNetConfig(**RESNET, **THREE), **SMALL_RT))


def rt_detr_v2(method: str = "default") -> nn.Module:
    from transformers import RTDetrResNetConfig, RTDetrV2Config, RTDetrV2ForObjectDetection

    backbone = RTDetrResNetConfig(**RESNET, **THREE)
    return RTDetrV2ForObjectDetection(
        RTDetrV2Config(backbone_config=backbone, decoder_method=method, decoder_n_levels=3, **SMALL_RT)
    )


def d_fine() -> nn.Module:
    from transformers import DFineConfig, DFineForObjectDetection, HGNetV2Config

    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8], embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1],
        stage_in_channels=[8, 8, 8, 12], stage_mid_channels=[4, 4, 4, 4], stage_out_channels=[8, 8, 12, 16],
        stage_num_blocks=[1, 1, 1, 1], stage_downsample=[False, True, True, True],
        stage_light_block=[False, False, True, True], stage_kernel_size=[3, 3, 3, 3], stage_numb_of_layers=[1, 1, 1, 1],
        **THREE,
    )  # fmt: skip
    return DFineForObjectDetection(DFineConfig(backbone_config=backbone, decoder_n_points=[3, 6, 3], **SMALL_RT))


MODELS: dict[str, Callable[[], nn.Module]] = {
    build.__name__: build for build in (deformable_detr, mask2former, grounding_dino, rt_detr, rt_detr_v2, d_fine)
}


def build(name: str) -> nn.Module:
    """In evaluation mode; weights that transformers sets to one number are random too, or nothing would tell heads."""
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.3 if "sampling_offsets" in key else 0.1)
    return model


def inputs(name: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> dict[str, Tensor]:
    """A batch of two images, of which one is padded where the model knows of padding."""
    generator = torch.Generator().manual_seed(1)
    given: dict[str, Tensor] = {"pixel_values": torch.randn(2, 3, 64, 96, generator=generator).to(dtype)}
    if name not in ("rt_detr", "rt_detr_v2", "d_fine"):
        mask = torch.ones(2, 64, 96, dtype=torch.long)
        mask[1, :, 64:] = 0
        given["pixel_mask"] = mask
    if name == "grounding_dino":
        given["input_ids"] = torch.tensor([[1, 7, 8, 2], [1, 9, 5, 2]])
        given["attention_mask"] = torch.ones(2, 4, dtype=torch.long)
    return {key: tensor.to(device) for key, tensor in given.items()}


def outputs(model: nn.Module, given: dict[str, Tensor]) -> list[Tensor]:
    """What a user reads: classes with boxes, or with masks."""
    out = model(**given)
    names = ("logits", "pred_boxes", "class_queries_logits", "masks_queries_logits")
    return [out[key] for key in names if out.get(key) is not None]
