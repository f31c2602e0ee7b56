"""Small models with fixed weights, for tests and demonstrations without a download."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from partglee.config import load_config
from partglee.engine import Predictor
from partglee.modeling import PartGLEE, build_model


def write_name_table(file: str | Path, names: Sequence[str], *, width: int = 1024) -> Path:
    """Write an `.npz` name table whose vectors follow from the names alone."""
    rows = [np.random.default_rng(zlib.crc32(name.encode())).standard_normal(width) for name in names]
    embeddings = np.asarray(rows, dtype=np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    path = Path(file)
    np.savez(path, names=np.array(list(names)), embeddings=embeddings)
    return path


@torch.no_grad()
def fill_weights(model: nn.Module) -> nn.Module:
    """Give every weight a value that follows from its name and shape alone. Biases of sampling offsets keep theirs."""
    for name, value in model.state_dict().items():
        if not value.is_floating_point() or name.endswith("sampling_offsets.bias"):
            continue
        noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
        if name.endswith("running_var"):
            filled = 1 + 0.1 * noise.abs()
        elif value.ndim >= 2:
            filled = noise / noise[0].numel() ** 0.5
        elif name.endswith("weight"):
            filled = 1 + 0.1 * noise  # norms, frozen ones among them
        else:
            filled = 0.1 * noise
        value.copy_(filled)
    return model


def tiny_model(*, table: str | Path | None = None, overrides: Sequence[Any] = ()) -> PartGLEE:
    """`configs/tiny.yaml` with filled weights, in evaluation mode."""
    values = [*overrides] if table is None else ["MODEL.TEXT.TABLE.FILE", str(table), *overrides]
    model = build_model(load_config("tiny", values))
    fill_weights(model)
    return model.eval()


def tiny_predictor(table: str | Path, *, short_side: int = 96, max_side: int = 160) -> Predictor:
    """A predictor around `tiny_model` on small images. Its predictions mean nothing, but are always the same."""
    return Predictor(model=tiny_model(table=table), short_side=short_side, max_side=max_side)
