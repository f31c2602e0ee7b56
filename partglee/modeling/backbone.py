"""Image backbones from timm.

B images, C_i channels of the map at stride 2^i.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from partglee.modeling.swin import pad_before_roll

STRIDES = (4, 8, 16, 32)
_log = logging.getLogger(__name__)


class Backbone(nn.Module):
    """A timm feature extractor that returns maps at strides 4, 8, 16 and 32.

    Args:
        body: from `timm.create_model(..., features_only=True)`.
        channels: of the four maps.
        output_norms: layer norm on each map, which the released Swin has and timm's extractor lacks.
    """

    def __init__(self, *, body: nn.Module, channels: Sequence[int], output_norms: bool = False) -> None:
        super().__init__()
        self.body = body
        self.channels = tuple(channels)
        self.nhwc = getattr(body, "output_fmt", None) == "NHWC"
        self.norms = nn.ModuleList(nn.LayerNorm(c) for c in channels) if output_norms else None

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> four maps (B, C_i, H / 2^i, W / 2^i), i = 2..5."""
        maps = self.body(images)
        if not self.nhwc:
            if self.norms is None:
                return list(maps)
            maps = [m.permute(0, 2, 3, 1) for m in maps]
        if self.norms is not None:
            maps = [norm(m) for norm, m in zip(self.norms, maps, strict=True)]
        return [m.permute(0, 3, 1, 2).contiguous() for m in maps]


def build_timm_backbone(
    name: str,
    *,
    frozen_norm: bool = False,
    output_norms: bool = False,
    drop_path: float = 0.0,
    checkpoint_stages: bool = False,
    freeze_at: int = 0,
    options: dict[str, Any] | None = None,
) -> Backbone:
    """Build any timm feature extractor that has maps at strides 4, 8, 16 and 32.

    Args:
        name: timm's model name; pretrained weights are loaded by the checkpoint code, never from here.
        frozen_norm: turn batch norms into constants.
        drop_path: stochastic depth, where the architecture has it (0 = leave timm's default).
        freeze_at: 2 to 5: all up to the map at stride 2^freeze_at stays as it is loaded (as detectron2's FREEZE_AT
            counts); 0 = all learns.
        options: more keyword arguments for timm.

    Raises:
        ValueError: for a name that timm does not know, an architecture without those strides, or another `freeze_at`.
    """
    if not timm.is_model(name):
        raise ValueError(
            f"timm has no model {name!r}; nearest: {', '.join(_nearest_models(name))}. See timm.list_models()"
        )
    kwargs: dict[str, Any] = dict(options or {})
    if drop_path:
        kwargs["drop_path_rate"] = drop_path
    shapes, kwargs = _shapes(name, kwargs)
    reductions = shapes.feature_info.reduction()
    missing = [s for s in STRIDES if s not in reductions]
    if missing:
        raise ValueError(
            f"backbone {name!r} has maps at strides {reductions}, but {list(STRIDES)} are needed; "
            "choose a hierarchical backbone such as resnet50, convnext_tiny or mobilenetv2_100"
        )
    # Where several maps share a stride the last is the richest.
    of_map = dict(zip(reductions, shapes.feature_info.out_indices, strict=True))
    chosen = tuple(of_map[stride] for stride in STRIDES)
    body: Any = timm.create_model(name, features_only=True, out_indices=chosen, **kwargs)
    if frozen_norm:
        body = freeze_batch_norm_2d(body)
    for module in body.modules():
        if isinstance(module, SwinTransformerBlock):
            pad_before_roll(module)
    if freeze_at:
        _freeze(body, freeze_at)
    if checkpoint_stages:
        body.set_grad_checkpointing(True)
    return Backbone(body=body, channels=body.feature_info.channels(), output_norms=output_norms)


_ALSO = {  # names of other libraries
    "build_resnet_backbone": "resnet50", "build_resnet_fpn_backbone": "resnet50", "R-50": "resnet50",
    "R-101": "resnet101", "D2SwinTransformer": "swin_large_patch4_window12_384",
    "swin_t": "swin_tiny_patch4_window7_224", "swin_s": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224", "swin_l": "swin_large_patch4_window12_384",
    "convnext_t": "convnext_tiny", "convnext_s": "convnext_small", "convnext_b": "convnext_base",
    "convnext_l": "convnext_large",
}  # fmt: skip


def _nearest_models(name: str) -> list[str]:
    """Models of timm whose names are close, the closest first."""
    folded = name.lower().replace("-", "_")
    also = [model for other, model in _ALSO.items() if other.lower().replace("-", "_") == folded]
    known = timm.list_models()
    begins = sorted((model for model in known if model.startswith(folded)), key=len)
    close = difflib.get_close_matches(folded, known, n=5, cutoff=0.5)
    return list(dict.fromkeys([*also, *begins[:5], *close, *(() if also or begins or close else ["resnet50"])]))[:5]


def _freeze(body: Any, freeze_at: int) -> None:
    """Nothing up to the map at stride 2^freeze_at learns. timm registers layers in the order of the forward."""
    last = dict(zip(STRIDES, body.feature_info.module_name(), strict=True)).get(1 << freeze_at)
    if last is None:
        raise ValueError(
            f"MODEL.BACKBONE.FREEZE_AT must be 0, or 2 to 5 for the maps at strides {list(STRIDES)}, got {freeze_at}"
        )
    inside = (f"{last}.", f"{last.replace('.', '_')}.")  # timm's list of layers spells "layers.0" as "layers_0"
    parameters = list(body.named_parameters())
    end = max(place for place, (name, _) in enumerate(parameters) if name.startswith(inside))
    for _, parameter in parameters[: end + 1]:
        parameter.requires_grad_(False)


# Options of the zoo's configurations that other architectures do not have.
_OF_SOME = ("pad_type", "always_partition", "strict_img_size", "drop_path_rate")
_ANY_SIZE = {"strict_img_size": False, "always_partition": True}  # Swin takes images of one size alone otherwise


def _without_weights(name: str, kwargs: dict[str, Any]) -> Any:
    """An extractor whose shapes can be asked; with weights where an older torch or timm cannot do without."""
    try:
        with torch.device("meta"):
            return timm.create_model(name, features_only=True, **kwargs)
    except NotImplementedError:
        with torch.device("cpu"):
            return timm.create_model(name, features_only=True, **kwargs)


def _shapes(name: str, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The extractor without weights, and the arguments it was made with: an architecture that has a fixed image size
    is told to take any, with whole windows on small maps too."""
    told = bool(_ANY_SIZE.keys() & kwargs.keys())
    spared = {key: value for key, value in kwargs.items() if key not in _OF_SOME}
    attempts = [kwargs] if told else [{**further, **kwargs} for further in (_ANY_SIZE, {"strict_img_size": False}, {})]
    if spared != kwargs:  # another architecture was put in place of the one that they are for
        attempts += [{**further, **spared} for further in (_ANY_SIZE, {"strict_img_size": False}, {})]
    for tried in attempts:
        try:
            made = _without_weights(name, tried)
            if lost := sorted(kwargs.keys() - tried.keys()):
                _log.warning("MODEL.BACKBONE.OPTIONS: %s does not take %s, left out", name, ", ".join(lost))
            return made, tried
        except TypeError as error:  # an argument that it does not have
            reason: Exception = error
        except (RuntimeError, AttributeError) as error:
            reason = error
            break
    raise ValueError(f"timm's {name!r} cannot be built as a feature extractor: {reason}") from reason
