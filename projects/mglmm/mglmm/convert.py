"""State dicts of GLaMM and MGLMM to ours. **Unverified**: no such file has been seen; names are those that these
projects and Segment Anything publish, and a test turns a model of ours into that form and back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_PREFIXES = ("base_model.model.", "module.")  # of adapters, of DeepSpeed
_RULES: tuple[tuple[str, str], ...] = (  # whole names; the first that fits counts
    (r"model\.(embed_tokens|layers|norm)\.(.+)", r"lmm.model.language_model.\1.\2"),
    (r"lm_head\.weight", "lmm.lm_head.weight"),
    (r"model\.mm_projector\.0\.(.+)", r"lmm.model.multi_modal_projector.linear_1.\1"),
    (r"model\.mm_projector\.2\.(.+)", r"lmm.model.multi_modal_projector.linear_2.\1"),
    (r"model\.text_hidden_fcs\.0\.0\.(.+)", r"prompt.layers.0.\1"),
    (r"model\.text_hidden_fcs\.0\.2\.(.+)", r"prompt.layers.2.\1"),
    (r"model\.(?:grounding_encoder|visual_model)\.mask_decoder\.(.+)", r"masks.sam.mask_decoder.\1"),
)
_DECODER: tuple[tuple[str, str], ...] = (  # inside of the mask decoder: Segment Anything's names to transformers'
    (r"iou_prediction_head\.layers\.0\.", "iou_prediction_head.proj_in."),
    (r"iou_prediction_head\.layers\.1\.", "iou_prediction_head.layers.0."),
    (r"iou_prediction_head\.layers\.2\.", "iou_prediction_head.proj_out."),
    (r"output_hypernetworks_mlps\.(\d+)\.layers\.0\.", r"output_hypernetworks_mlps.\1.proj_in."),
    (r"output_hypernetworks_mlps\.(\d+)\.layers\.1\.", r"output_hypernetworks_mlps.\1.layers.0."),
    (r"output_hypernetworks_mlps\.(\d+)\.layers\.2\.", r"output_hypernetworks_mlps.\1.proj_out."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"transformer\.norm_final_attn\.", "transformer.layer_norm_final_attn."),
    (r"(transformer\.layers\.\d+)\.norm(\d)\.", r"\1.layer_norm\2."),
)


@dataclass(frozen=True)
class Conversion:
    """What became of each tensor."""

    state: dict[str, Tensor]  # ours
    left_out: tuple[str, ...]  # of theirs: frozen towers, which come from their own models

    def __str__(self) -> str:
        return f"converted {len(self.state)} tensors, left out {len(self.left_out)} (UNVERIFIED form)"


def convert_state(state: Mapping[str, Tensor]) -> Conversion:
    """Names of GLaMM, MGLMM or LISA, adapters merged, to ours.

    Raises:
        ValueError: for adapters that are not merged, or a state dict of another form.
    """
    found: dict[str, Tensor] = {}
    left_out = []
    for key, value in state.items():
        name = key
        for prefix in _PREFIXES:
            name = name.removeprefix(prefix)
        if ".lora_" in name or ".base_layer." in name:
            raise ValueError(f"{key!r} is of an adapter; merge adapters into the model before converting")
        ours = _renamed(name)
        if ours is None:
            left_out.append(key)
        else:
            found[ours] = value
    if not any(name.startswith("prompt.") for name in found) or not any(".layers." in name for name in found):
        raise ValueError(
            f"none of {len(state)} tensors is of the projection to prompts (model.text_hidden_fcs.*) or of a language "
            "model's layers (model.layers.*); is this a state dict of GLaMM or MGLMM?"
        )
    return Conversion(found, tuple(left_out))


@torch.no_grad()
def load_converted(model: nn.Module, converted: Conversion) -> Sequence[str]:
    """Fill a model of ours (LLaVA's form with SAM, every weight in place before adapters are added). Token tables with
    fewer rows fill the first ones. Returns names of what stays as it was.

    Raises:
        ValueError: for a tensor that has no place, or another shape.
    """
    own = dict(model.named_parameters())
    for name, value in converted.state.items():
        if name not in own:
            raise ValueError(f"the model has no {name!r}; it must be of LLaVA's form with SAM as its mask decoder")
        place = own[name]
        rows = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        if rows and place.shape[1:] == value.shape[1:] and len(value) <= len(place):
            place[: len(value)] = value
        elif place.shape == value.shape:
            place.copy_(value)
        else:
            raise ValueError(f"{name!r} is {tuple(place.shape)} here and {tuple(value.shape)} in the file")
    return [name for name in own if name not in converted.state]


def _renamed(name: str) -> str | None:
    for pattern, ours in _RULES:
        if match := re.fullmatch(pattern, name):
            made = match.expand(ours)
            if made.startswith("masks.sam.mask_decoder."):
                inside = made.removeprefix("masks.sam.mask_decoder.")
                for old, new in _DECODER:
                    inside = re.sub(rf"^{old}", new, inside)
                made = f"masks.sam.mask_decoder.{inside}"
            return made
    return None
