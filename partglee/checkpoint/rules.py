"""How keys of upstream checkpoints become ours. A rule: a pattern for a whole key, and its new name.

Rules run in order on keys whose `partglee.` or `glee.` prefix has been taken off; the first that matches decides.
A name of None drops the key; `why` says so in the report.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Rule(NamedTuple):
    pattern: re.Pattern[str]
    names: tuple[str, ...]  # one or more new names; empty = drop
    why: str = ""


def rule(pattern: str, *names: str) -> Rule:
    """Keys that match get one or more new names; `\\1` is a group of the pattern, `{\\1-1}` a number less one."""
    return Rule(re.compile(pattern), names)


def drop(pattern: str, why: str) -> Rule:
    """Keys that match are left out, which the report tells with this reason."""
    return Rule(re.compile(pattern), (), why)


DROPPED = (
    drop(r"(?:object_|part_)?predictor\.\w*label_enc\.weight", "label tables (denoising reads the text instead)"),
    drop(r"(?:object_|part_)?predictor\.bdd_(?:det|inst)\.weight", "label tables (denoising reads the text instead)"),
    drop(r"text_encoder_teacher\..*", "text teacher (copied from the text tower when needed)"),
    drop(r"(?:object_|part_)?predictor\.confidence_score\..*", "unused heads"),
    drop(r"obj_queries_pos\.weight", "dead weights"),
    drop(r"mask_sptial_embed\.\d+|pn_indicator\.weight|sot_fuser\..*", "visual-prompt and tracking leftovers"),
    drop(r"criterion\..*", "criterion state"),
    drop(r".*\.(?:position_ids|relative_position_index|num_batches_tracked|attn_mask)", "index tables and counters"),
    drop(r"logit_scale|.*\.text_projection.*", "CLIP's own projection"),
)

RESNET = (
    rule(r"backbone\.stem\.conv1\.weight", "backbone.body.conv1.weight"),
    rule(r"backbone\.stem\.conv1\.norm\.(.+)", r"backbone.body.bn1.\1"),
    rule(r"backbone\.res(\d)\.(\d+)\.shortcut\.weight", r"backbone.body.layer{\1-1}.\2.downsample.0.weight"),
    rule(r"backbone\.res(\d)\.(\d+)\.shortcut\.norm\.(.+)", r"backbone.body.layer{\1-1}.\2.downsample.1.\3"),
    rule(r"backbone\.res(\d)\.(\d+)\.conv(\d)\.weight", r"backbone.body.layer{\1-1}.\2.conv\3.weight"),
    rule(r"backbone\.res(\d)\.(\d+)\.conv(\d)\.norm\.(.+)", r"backbone.body.layer{\1-1}.\2.bn\3.\4"),
)

SWIN = (
    rule(r"backbone\.patch_embed\.(.+)", r"backbone.body.patch_embed.\1"),
    rule(r"backbone\.layers\.(\d)\.blocks\.(.+)", r"backbone.body.layers_\1.blocks.\2"),
    rule(r"backbone\.layers\.(\d)\.downsample\.(.+)", r"backbone.body.layers_{\1+1}.downsample.\2"),
    rule(r"backbone\.norm(\d)\.(.+)", r"backbone.norms.\1.\2"),
)

TEXT = (
    rule(r"lang_projection", "text_encoder.projection"),
    rule(
        r"text_encoder\.(?:text_model\.)?embeddings\.token_embedding\.weight",
        "text_encoder.backend.tower.token_embedding.weight",
    ),
    rule(
        r"text_encoder\.(?:text_model\.)?embeddings\.position_embedding\.weight",
        "text_encoder.backend.tower.positional_embedding",
    ),
    rule(
        r"text_encoder\.(?:text_model\.)?encoder\.layers\.(\d+)\.self_attn\.([qkv])_proj\.(weight|bias)",
        r"text_encoder.backend.tower.transformer.resblocks.\1.attn.in_proj_\3[\2]",
    ),
    rule(
        r"text_encoder\.(?:text_model\.)?encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.+)",
        r"text_encoder.backend.tower.transformer.resblocks.\1.attn.out_proj.\2",
    ),
    rule(
        r"text_encoder\.(?:text_model\.)?encoder\.layers\.(\d+)\.layer_norm(\d)\.(.+)",
        r"text_encoder.backend.tower.transformer.resblocks.\1.ln_\2.\3",
    ),
    rule(
        r"text_encoder\.(?:text_model\.)?encoder\.layers\.(\d+)\.mlp\.fc1\.(.+)",
        r"text_encoder.backend.tower.transformer.resblocks.\1.mlp.c_fc.\2",
    ),
    rule(
        r"text_encoder\.(?:text_model\.)?encoder\.layers\.(\d+)\.mlp\.fc2\.(.+)",
        r"text_encoder.backend.tower.transformer.resblocks.\1.mlp.c_proj.\2",
    ),
    rule(r"text_encoder\.(?:text_model\.)?final_layer_norm\.(.+)", r"text_encoder.backend.tower.ln_final.\1"),
)

_FUSION = r"pixel_decoder\.transformer\.encoder\.vl_layers\.0\.b_attn\."
PIXEL_DECODER = (
    rule(r"pixel_decoder\.input_proj\.(\d)\.0\.(.+)", r"pixel_decoder.input_proj.\1.conv.\2"),
    rule(r"pixel_decoder\.input_proj\.(\d)\.1\.(.+)", r"pixel_decoder.input_proj.\1.norm.\2"),
    rule(r"pixel_decoder\.transformer\.level_embed", "pixel_decoder.level_embed"),
    rule(r"pixel_decoder\.transformer\.encoder\.layers\.(\d)\.self_attn\.(.+)", r"pixel_decoder.layers.\1.attn.\2"),
    rule(r"pixel_decoder\.transformer\.encoder\.layers\.(\d)\.norm1\.(.+)", r"pixel_decoder.layers.\1.attn_norm.\2"),
    rule(r"pixel_decoder\.transformer\.encoder\.layers\.(\d)\.norm2\.(.+)", r"pixel_decoder.layers.\1.ffn_norm.\2"),
    rule(r"pixel_decoder\.transformer\.encoder\.layers\.(\d)\.(linear\d\..+)", r"pixel_decoder.layers.\1.ffn.\2"),
    rule(_FUSION + r"layer_norm_v\.(.+)", r"pixel_decoder.fusion.image_norm.\1"),
    rule(_FUSION + r"layer_norm_l\.(.+)", r"pixel_decoder.fusion.text_norm.\1"),
    rule(_FUSION + r"attn\.v_proj\.(.+)", r"pixel_decoder.fusion.image_proj.\1"),
    rule(_FUSION + r"attn\.l_proj\.(.+)", r"pixel_decoder.fusion.text_proj.\1"),
    rule(_FUSION + r"attn\.values_v_proj\.(.+)", r"pixel_decoder.fusion.image_value.\1"),
    rule(_FUSION + r"attn\.values_l_proj\.(.+)", r"pixel_decoder.fusion.text_value.\1"),
    rule(_FUSION + r"attn\.out_v_proj\.(.+)", r"pixel_decoder.fusion.image_out.\1"),
    rule(_FUSION + r"attn\.out_l_proj\.(.+)", r"pixel_decoder.fusion.text_out.\1"),
    rule(_FUSION + r"gamma_v", "pixel_decoder.fusion.image_scale"),
    rule(_FUSION + r"gamma_l", "pixel_decoder.fusion.text_scale"),
    rule(r"pixel_decoder\.mask_features\.(.+)", r"pixel_decoder.mask_features.\1"),
    rule(r"pixel_decoder\.adapter_1\.norm\.(.+)", r"pixel_decoder.lateral.norm.\1"),
    rule(r"pixel_decoder\.adapter_1\.weight", "pixel_decoder.lateral.conv.weight"),
    rule(r"pixel_decoder\.layer_1\.norm\.(.+)", r"pixel_decoder.output.norm.\1"),
    rule(r"pixel_decoder\.layer_1\.weight", "pixel_decoder.output.conv.weight"),
)

QFORMER = (
    rule(r"part_queries_feat\.weight", "qformer.content"),
    rule(r"part_queries_pos\.weight", "qformer.position"),
    rule(r"qformer\.layers\.(\d)\.self_attn\.(.+)", r"qformer.layers.\1.self_attn.\2"),
    rule(r"qformer\.layers\.(\d)\.multihead_attn\.(.+)", r"qformer.layers.\1.object_attn.\2"),
    rule(r"qformer\.layers\.(\d)\.norm1\.(.+)", r"qformer.layers.\1.self_norm.\2"),
    rule(r"qformer\.layers\.(\d)\.norm2\.(.+)", r"qformer.layers.\1.object_norm.\2"),
    rule(r"qformer\.layers\.(\d)\.norm3\.(.+)", r"qformer.layers.\1.ffn_norm.\2"),
    rule(r"qformer\.layers\.(\d)\.(linear\d\..+)", r"qformer.layers.\1.ffn.\2"),
    rule(r"qformer\.norm\.(.+)", r"qformer.norm.\1"),
)


def predictor_rules(source: str, *targets: str) -> tuple[Rule, ...]:
    """Rules for one upstream predictor, written to `object_decoder`, `part_decoder` or both."""
    p = rf"{source}\."

    def to(pattern: str, name: str, part_name: str | None = None) -> Rule:
        names = [(part_name or name) if t == "part_decoder" else name for t in targets]
        return rule(p + pattern, *(f"{t}.{n}" for t, n in zip(targets, names, strict=True)))

    layer = r"decoder\.layers\.(\d)\."
    return (
        to(r"enc_output\.(.+)", r"selection.proj.\1", r"proj.\1"),
        to(r"enc_output_norm\.(.+)", r"selection.norm.\1", r"norm.\1"),
        to(r"category_embed", "heads.class_proj"),
        to(r"(?:decoder_norm|decoder\.norm)\.(.+)", r"heads.norm.\1"),
        to(r"mask_embed\.(.+)", r"heads.mask_mlp.\1"),
        to(r"(?:_bbox_embed|bbox_embed\.\d|decoder\.bbox_embed\.\d)\.(.+)", r"heads.box_mlp.\1"),
        to(r"decoder\.ref_point_head\.(.+)", r"decoder.position_mlp.\1"),
        to(layer + r"self_attn\.(.+)", r"decoder.layers.\1.self_attn.\2"),
        to(layer + r"cross_attn\.(.+)", r"decoder.layers.\1.cross_attn.\2"),
        to(layer + r"norm2\.(.+)", r"decoder.layers.\1.self_norm.\2"),
        to(layer + r"norm1\.(.+)", r"decoder.layers.\1.cross_norm.\2"),
        to(layer + r"norm3\.(.+)", r"decoder.layers.\1.ffn_norm.\2"),
        to(layer + r"(linear\d\..+)", r"decoder.layers.\1.ffn.\2"),
    )


_COMMON = (*DROPPED, *RESNET, *SWIN, *TEXT, *PIXEL_DECODER, *QFORMER)
BOTH = ("object_decoder", "part_decoder")

RULES: dict[str, tuple[Rule, ...]] = {
    "partglee": (
        *_COMMON,
        *predictor_rules("object_predictor", "object_decoder"),
        *predictor_rules("part_predictor", "part_decoder"),
    ),
    "glee": (*_COMMON, *predictor_rules("predictor", *BOTH)),
    "maskdino": (
        *_COMMON,
        drop(r"predictor\.(?:class_embed|label_enc|query_feat|query_embed)\..*", "closed-vocabulary classifier"),
        *predictor_rules("predictor", *BOTH),
    ),
}
_NO_PARTS = (r"qformer\.",)
_NO_TEXT = (r"text_encoder\.", r"pixel_decoder\.fusion\.", r"(?:object|part)_decoder\.heads\.class_proj")
ABSENT: dict[str, tuple[str, ...]] = {"partglee": (), "glee": _NO_PARTS, "maskdino": (*_NO_PARTS, *_NO_TEXT)}
PREFIXES = {
    "partglee": ("module.", "partglee."),
    "glee": ("module.", "glee."),
    "maskdino": ("module.", "sem_seg_head."),
}
