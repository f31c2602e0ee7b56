"""Released ReLA weights in our format.

The library's rules know the backbone and the pixel decoder; what is ReLA's own is here, with two turns of axes: the
released pixel decoder runs its levels coarse to fine, ours fine to coarse.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from fvcore.common.config import CfgNode as CN
from torch import Tensor

from partglee.checkpoint import ConversionReport, apply_rules, read_weights, write_weights
from partglee.checkpoint.rules import DROPPED, PIXEL_DECODER, RESNET, SWIN, drop, rule
from partglee.engine.weight_files import CONFIG_TEXT, WORDS
from partglee.text import read_word_pieces
from rela.config import build_model, load_config

CLOSED = "gates into the next stage of the backbone: zero, so that words never pass them"
_FUSION = r"backbone\.layers\.(\d)\.fusion\."

RULES = (
    rule(r"backbone\.layers\.(\d)\.res_gate\.0\.weight", r"gates.\1.inner.weight"),
    rule(r"backbone\.layers\.(\d)\.res_gate\.2\.weight", r"gates.\1.outer.weight"),
    rule(_FUSION + r"vis_project\.0\.(.+)", r"fusion.\1.visual.\2"),
    rule(_FUSION + r"image_lang_att\.f_query\.0\.(.+)", r"fusion.\1.query.\2"),
    rule(_FUSION + r"image_lang_att\.f_key\.0\.(.+)", r"fusion.\1.key.\2"),
    rule(_FUSION + r"image_lang_att\.f_value\.0\.(.+)", r"fusion.\1.value.\2"),
    rule(_FUSION + r"image_lang_att\.W\.0\.(.+)", r"fusion.\1.out.\2"),
    rule(_FUSION + r"project_mm\.0\.(.+)", r"fusion.\1.join.\2"),
    rule(r"backbone\.norm(\d)\.(.+)", r"fusion.\1.norm.\2"),
    rule(r"text_encoder\.((?:embeddings|encoder)\..+(?:weight|bias))", r"text_encoder.tower.\1"),
    rule(r"predictor\.RIA_layers\.(\d)\.multihead_attn\.(.+)", r"region_decoder.layers.\1.pixel_attn.\2"),
    rule(r"predictor\.RIA_layers\.(\d)\.norm\.(.+)", r"region_decoder.layers.\1.pixel_norm.\2"),
    rule(r"predictor\.RLA_vision\.(\d)\.self_attn\.(.+)", r"region_decoder.layers.\1.region_attn.\2"),
    rule(r"predictor\.RLA_vision\.(\d)\.norm\.(.+)", r"region_decoder.layers.\1.region_norm.\2"),
    rule(r"predictor\.transformer_ffn_layers\.(\d)\.(linear\d\..+)", r"region_decoder.layers.\1.ffn.\2"),
    rule(r"predictor\.transformer_ffn_layers\.(\d)\.norm\.(.+)", r"region_decoder.layers.\1.ffn_norm.\2"),
    rule(r"predictor\.RLA_lang_att\.multihead_attn\.(.+)", r"region_decoder.language.0.attn.\1"),
    rule(r"predictor\.RLA_lang_att\.norm\.(.+)", r"region_decoder.language.0.norm.\1"),
    rule(r"predictor\.lang_proj\.weight", "region_decoder.language.0.proj.weight"),
    rule(r"predictor\.lang_weight", "region_decoder.language.0.gate"),
    rule(r"predictor\.query_feat\.weight", "region_decoder.content"),
    rule(r"predictor\.query_embed\.weight", "region_decoder.position"),
    rule(r"predictor\.level_embed\.weight", "region_decoder.level_embed"),
    rule(r"predictor\.decoder_norm\.(.+)", r"region_decoder.norm.\1"),
    rule(r"predictor\.mask_embed\.(.+)", r"region_decoder.mask_mlp.\1"),
    rule(r"predictor\.minimap_embed\.(.+)", r"region_decoder.minimap.\1"),
    rule(r"predictor\.nt_embed\.(.+)", r"region_decoder.no_target.\1"),
    drop(r"criterion\..*", "criterion state"),
    drop(r"pixel_(?:mean|std)", "image statistics (in the configuration)"),
    *DROPPED,
    *RESNET,
    *SWIN,
    *PIXEL_DECODER,
)
PREFIXES = ("module.", "sem_seg_head.")


def convert_state_dict(
    state: Mapping[str, Tensor], *, num_heads: int = 8, num_points: int = 4
) -> tuple[dict[str, Tensor], ConversionReport]:
    """Released keys -> ours.

    Args:
        num_heads, num_points: of the pixel decoder's deformable attention.

    Raises:
        ValueError: for weights of another program.
    """
    closed = not any(value.any() for key, value in state.items() if ".res_gate." in key)
    gates = drop(r"backbone\.layers\.\d\.res_gate\.\d\.weight", CLOSED) if closed else None
    out, report = apply_rules(state, RULES if gates is None else (gates, *RULES), source="rela", prefixes=PREFIXES)
    if "region_decoder.content" not in out:
        shown = ", ".join(list(state)[:3]) or "none"
        raise ValueError(f"these are no ReLA weights: there are no region queries (some keys: {shown})")
    return _fine_to_coarse(out, num_heads, num_points), report


def _fine_to_coarse(out: dict[str, Tensor], num_heads: int, num_points: int) -> dict[str, Tensor]:
    levels = len(out["pixel_decoder.level_embed"])
    turned = {}
    for key, value in out.items():
        if key.startswith("pixel_decoder.input_proj."):
            head, name, index, rest = key.split(".", 3)
            key = f"{head}.{name}.{levels - 1 - int(index)}.{rest}"
        elif key == "pixel_decoder.level_embed":
            value = value.flip(0)
        elif ".sampling_offsets." in key:
            value = value.unflatten(0, (num_heads, levels, num_points * 2)).flip(1).flatten(0, 2)
        elif ".attention_weights." in key:
            value = value.unflatten(0, (num_heads, levels, num_points)).flip(1).flatten(0, 2)
        turned[key] = value
    return turned


def convert_file(
    source: str | Path, target: str | Path, *, vocabulary: str | Path | None = None, config: str | Path | None = None
) -> tuple[ConversionReport, str]:
    """Convert a file to a `.safetensors` file, which appears whole or not at all and says its configuration.

    Args:
        vocabulary: BERT's `vocab.txt` or `tokenizer.json`, which then travels inside.
        config: name or file; None: told by the backbone, with the settings of the released code.

    Returns:
        The report, and the configuration's name.

    Raises:
        ValueError: for weights of another program, or that do not fill the configuration's model to the last tensor.
    """
    state, report = convert_state_dict(read_weights(source))
    name = str(config) if config is not None else _fitting_config(state)
    cfg = load_config(name)
    if config is None:
        _as_released(cfg, state)
    metadata = {"partglee_source": "rela"}
    if vocabulary is not None:
        metadata[WORDS] = read_word_pieces(vocabulary).to_str()
    cfg.MODEL.TEXT.BERT.PRETRAINED = ""  # the weights hold the words
    with torch.device("meta"):
        ours = {key: tuple(value.shape) for key, value in build_model(cfg).state_dict().items()}
    wrong = sorted(key for key, shape in ours.items() if key not in state or tuple(state[key].shape) != shape)
    left = sorted(set(state) - set(ours))
    if wrong or left or report.unknown:
        told = [f"{len(keys)} {what} ({', '.join(keys[:4])})" for what, keys in (
            ("missing or of another shape", wrong), ("without a place", left), ("unknown", report.unknown)
        ) if keys]  # fmt: skip
        raise ValueError(f"{source} does not fit {name}: {'; '.join(told)}; pass the configuration that it is of")
    metadata[CONFIG_TEXT] = cfg.dump()
    write_weights(state, target, metadata)
    return report, name


def _fitting_config(state: Mapping[str, Tensor]) -> str:
    """The configuration whose backbone the weights have."""
    patch = state.get("backbone.body.patch_embed.proj.weight")
    if patch is not None:
        known = {96: "rela_swint", 128: "rela_swinb"}
        if patch.shape[0] not in known:
            raise ValueError(f"a Swin of width {patch.shape[0]} has no configuration here; pass one")
        return known[patch.shape[0]]
    return "rela_r50"


def _as_released(cfg: CN, state: Mapping[str, Tensor]) -> None:
    """What released weights were trained with, where our defaults differ."""
    cfg.MODEL.REGIONS.ATTEND_TO_PADDING = True
    cfg.MODEL.TEXT.BERT.KEEP_END = False
    cfg.MODEL.FUSION.GATES = any(key.startswith("gates.") for key in state)
    if not any(key.startswith("fusion.") for key in state):
        cfg.MODEL.FUSION.PLACE = "none"
