"""Features of frozen image encoders, kept on disk: an image is encoded once, however often it is drawn."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mglmm.masks.base import MaskDecoder, map_tensors
from partglee.basics.files import whole_file


class FeatureCache:
    """One file for each image, named by its pixels; of an encoder with other weights, or another size, it is another.

    Args:
        folder: made when the first file is written.
        decoder: whose features they are.
        dtype: that floats are kept in; None = as they are.

    Raises:
        ValueError: for a decoder whose encoder learns: what is kept would be out of date.
    """

    def __init__(self, folder: str | Path, decoder: MaskDecoder, *, dtype: torch.dtype | None = torch.float16) -> None:
        if not decoder.frozen:
            raise ValueError(
                f"the image encoder of {type(decoder).__name__} learns, so its features cannot be kept; set "
                "MODEL.FEATURE_CACHE to ''"
            )
        self.folder = Path(folder) / fingerprint_of(decoder)
        self.dtype = dtype
        self.kind = decoder.feature_kind

    def get(self, pixels: NDArray[np.uint8], make: Callable[[], Any]) -> Any:
        """Features (1, ...) of an image, on the CPU; made where there are none, or none that can be read."""
        name = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes() + str(pixels.shape).encode(), digest_size=16)
        file = self.folder / name.hexdigest()[:2] / f"{name.hexdigest()}.pt"
        if file.is_file():
            try:
                return map_tensors(_as(torch.load(file, map_location="cpu", weights_only=True), self.kind), _float)
            except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, EOFError):
                pass  # cut off, or not ours: it is written anew
        made = map_tensors(make(), lambda value: value.detach().cpu())
        small = map_tensors(made, self._shrink)
        with whole_file(file) as beside:
            torch.save(_plain(small), beside)
        return map_tensors(small, _float)

    def _shrink(self, value: Tensor) -> Tensor:
        return value.to(self.dtype) if self.dtype is not None and value.is_floating_point() else value


def fingerprint_of(decoder: MaskDecoder) -> str:
    """Of the weights of a decoder that do not learn, and of how it sees images."""
    digest = hashlib.blake2b(digest_size=8)
    sight = (decoder.pixel_mean, decoder.pixel_std, decoder.canvas, decoder.image_input.short_side)
    digest.update(repr((type(decoder).__name__, *sight, decoder.image_input.max_side)).encode())
    learns = {name for name, _ in decoder.learning()}
    for name, value in sorted(decoder.state_dict().items()):
        if name not in learns and value.is_floating_point():
            digest.update(f"{name} {tuple(value.shape)} {float(value.double().sum()):.6e}".encode())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    """Named tuples as tuples, which can be loaded without code."""
    return value if isinstance(value, Tensor) else tuple(_plain(entry) for entry in value)


def _as(value: Any, kind: Any) -> Any:
    return value if kind is None or isinstance(value, Tensor) else kind(*value)


def _float(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
