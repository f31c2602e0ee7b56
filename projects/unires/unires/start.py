"""Weights of other models to start from: of a CLIP model, or of a PartGLEE."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

_CLIP_TEXT = ("transformer.", "token_embedding.", "positional_embedding", "ln_final.")


def our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of another model under the names that they have here; what is ours already stays.

    An open_clip model gives both towers (`visual.` and its text transformer), PartGLEE its backbone and pixel decoder.
    """
    if any(key.startswith("visual.") for key in state):
        renamed = {}
        for key, value in state.items():
            if key.startswith("visual."):
                renamed[f"image_side.tower.{key.removeprefix('visual.')}"] = value
            elif key.startswith(_CLIP_TEXT):
                renamed[f"text_encoder.tower.{key}"] = value
        renamed.pop("image_side.tower.proj", None)  # to CLIP's common space, which nobody reads here
        return renamed
    return {
        f"image_side.{key}" if key.startswith(("backbone.", "pixel_decoder.")) else key: value
        for key, value in state.items()
    }
