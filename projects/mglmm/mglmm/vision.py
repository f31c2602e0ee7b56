"""The library's backbone and pixel decoder as an image encoder of transformers, for small models that start from them.

B images, N tokens, E width, h x w the map at one stride.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from fvcore.common.config import CfgNode as CN
from torch import Tensor, nn

from mglmm.extras import library
from partglee.layers import sine_position_map
from partglee.modeling import build_backbone, build_pixel_decoder

MODEL_TYPE = "partglee_vision"
STRIDES = (32, 16, 8)  # of the memory's levels, coarse to fine


class LibraryTower(nn.Module):
    """Backbone and pixel decoder -> tokens of one level, each with where it is.

    Args:
        cfg: whose MODEL says both.
        stride: 8, 16 or 32.
    """

    def __init__(self, cfg: CN, *, stride: int) -> None:
        super().__init__()
        if stride not in STRIDES:
            raise ValueError(f"stride must be one of {', '.join(map(str, sorted(STRIDES)))}, got {stride}")
        self.backbone = build_backbone(cfg)
        self.pixel_decoder = build_pixel_decoder(cfg.MODEL, self.backbone.channels)
        self.level = STRIDES.index(stride)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, N, E), row by row."""
        seen = self.pixel_decoder(self.backbone(pixels))
        sizes = seen.level_sizes
        tokens = seen.memory.split([h * w for h, w in sizes], dim=1)[self.level - len(STRIDES) + len(sizes)]
        h, w = sizes[self.level - len(STRIDES) + len(sizes)]
        place = sine_position_map(h, w, tokens.shape[-1], device=tokens.device).to(tokens.dtype)
        return tokens + place


@cache
def tower_classes() -> tuple[Any, Any]:
    """The configuration and the model that transformers builds from it, registered there."""
    t = library("transformers")
    outputs = library("transformers").modeling_outputs

    class PartGLEEVisionConfig(t.PreTrainedConfig):  # type: ignore[misc, name-defined]
        model_type = MODEL_TYPE

        def __init__(self, *, settings: str = "", stride: int = 16, hidden_size: int = 128, **more: Any) -> None:
            self.settings = settings  # YAML of the library's configuration
            self.stride = stride
            self.hidden_size = hidden_size
            super().__init__(**more)

    class PartGLEEVisionModel(t.PreTrainedModel):  # type: ignore[misc, name-defined]
        config_class = PartGLEEVisionConfig
        base_model_prefix = "tower"
        main_input_name = "pixel_values"

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.tower = LibraryTower(CN.load_cfg(config.settings), stride=config.stride)
            self.post_init()

        def _init_weights(self, module: nn.Module) -> None:
            """They have their own."""

        def forward(self, pixel_values: Tensor, **unused: Any) -> Any:
            tokens = self.tower(pixel_values)
            return outputs.BaseModelOutput(last_hidden_state=tokens, hidden_states=(tokens,))

    t.AutoConfig.register(MODEL_TYPE, PartGLEEVisionConfig)
    t.AutoModel.register(PartGLEEVisionConfig, PartGLEEVisionModel)
    return PartGLEEVisionConfig, PartGLEEVisionModel


@torch.no_grad()
def load_library_weights(module: nn.Module, state: dict[str, Tensor]) -> int:
    """Fill `backbone.*` and `pixel_decoder.*` of a module from weights of PartGLEE. Returns how many tensors.

    Raises:
        ValueError: when a tensor has no counterpart, or one of another shape.
    """
    own = {
        name: value for name, value in module.state_dict().items() if name.startswith(("backbone.", "pixel_decoder."))
    }
    lacking = [name for name, value in own.items() if name not in state or state[name].shape != value.shape]
    if lacking:
        raise ValueError(
            f"the weights do not fit {len(lacking)} of {len(own)} tensors of backbone and pixel decoder, such as "
            f"{lacking[0]!r}; MODEL must describe the model that they are of"
        )
    for name, value in own.items():
        value.copy_(state[name])
    return len(own)
