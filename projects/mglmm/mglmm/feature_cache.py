"""Features of frozen image encoders, kept on disk: an image is encoded once, however often it is drawn."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mglmm.masks.base import MaskDecoder, map_tensors
from partglee.basics.files import whole_file
from partglee.structures import Vocabulary


class FeatureCache:
    """One file for each image, named by its pixels; of an encoder with other weights, another size or other names that
    queries are selected by it is another.

    Args:
        folder: made when the first file is written.
        decoder: whose features they are.
        dtype: that floats are kept in, where they fit into it; None = as they are.

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
        """Features (1, ...) of an image, on the CPU; made where there are none, or none that can be read and have the
        form that they were written in."""
        name = hashlib.blake2b(np.ascontiguousarray(pixels).tobytes() + str(pixels.shape).encode(), digest_size=16)
        file = self.folder / name.hexdigest()[:2] / f"{name.hexdigest()}.pt"
        if file.is_file():
            try:
                return map_tensors(_read(file, self.kind), _float)
            except (OSError, RuntimeError, ValueError, TypeError, KeyError, pickle.UnpicklingError, EOFError):
                pass  # cut off, or not ours: it is written anew
        made = map_tensors(make(), lambda value: value.detach().cpu())
        small = map_tensors(made, self._shrink)
        with whole_file(file) as beside:
            torch.save({"form": form_of(small), "features": _plain(small)}, beside)
        return map_tensors(small, _float)

    def _shrink(self, value: Tensor) -> Tensor:
        if self.dtype is None or not value.is_floating_point():
            return value
        small = value.to(self.dtype)
        overflown = small.isinf() & value.isfinite()
        return value if bool(overflown.any()) else small


def fingerprint_of(decoder: MaskDecoder) -> str:
    """Of the weights of a decoder that do not learn, and of how it sees images."""
    digest = hashlib.blake2b(digest_size=8)
    seen = decoder.image_input
    sight = (decoder.pixel_mean, decoder.pixel_std, decoder.canvas, decoder.size_divisibility, seen.short_side)
    digest.update(repr((type(decoder).__name__, *sight, seen.max_side, seen.squash)).encode())
    if isinstance(names := getattr(decoder, "vocabulary", None), Vocabulary):  # that queries are selected by
        digest.update(repr(astuple(names)).encode())  # its own repr is short
    learns = {name for name, _ in decoder.learning()}
    for name, value in sorted(decoder.state_dict().items()):
        if name not in learns and value.is_floating_point():
            digest.update(f"{name} {tuple(value.shape)} {float(value.double().sum()):.6e}".encode())
    return digest.hexdigest()


def form_of(value: Any) -> Any:
    """Shapes of tensors, nested as the tensors are, as plain lists.

    Raises:
        TypeError: for anything but tensors and tuples of them.
    """
    if isinstance(value, Tensor):
        return list(value.shape)
    if not isinstance(value, (tuple, list)):
        raise TypeError(f"features are tensors or tuples of them, got {type(value).__name__}")
    return [form_of(entry) for entry in value]


def _read(file: Path, kind: Any) -> Any:
    """Features of a file; one of the errors that `get` knows for a file of another form."""
    kept = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(kept, dict) or kept.keys() != {"form", "features"}:
        raise ValueError(f"{file} holds no features")
    features = kept["features"]
    if kept["form"] != form_of(features) or isinstance(features, list):
        raise ValueError(f"{file} holds features of another form than it says")
    if kind is not None and isinstance(features, Tensor):
        raise ValueError(f"{file} holds a tensor, no {kind.__name__}")
    return _as(features, kind)


def _plain(value: Any) -> Any:
    """Named tuples as tuples, which can be loaded without code."""
    return value if isinstance(value, Tensor) else tuple(_plain(entry) for entry in value)


def _as(value: Any, kind: Any) -> Any:
    return value if kind is None or isinstance(value, Tensor) else kind(*value)


def _float(value: Tensor) -> Tensor:
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
