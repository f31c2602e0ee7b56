"""A small model for tests: a few thousand weights, random but always the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import rela
import torch
from fvcore.common.config import CfgNode as CN
from rela.region_decoder import RegionDecoder

from partglee.modeling.photo_model import Words
from partglee.structures import PixelFeatures

TINY = [
    "MODEL.WEIGHTS", "", "MODEL.EMBED_DIM", 32, "MODEL.NUM_HEADS", 4, "MODEL.FFN_DIM", 32,
    "MODEL.ENCODER.NUM_LAYERS", 1,
    "MODEL.BACKBONE.NAME", "test_resnet", "MODEL.BACKBONE.FROZEN_NORM", True, "MODEL.BACKBONE.OPTIONS", {},
    "MODEL.TEXT.BERT.WIDTH", 24, "MODEL.TEXT.BERT.NUM_LAYERS", 2, "MODEL.TEXT.BERT.FFN_DIM", 24,
    "MODEL.REGIONS.NUM", 4, "MODEL.REGIONS.FFN_DIM", 32, "INPUT.TEST.SIZE", [64, 64], "INPUT.TRAIN.SIZE", [64, 64],
    "INPUT.TRAIN.EXPRESSIONS", 3, "SOLVER.BATCH_SIZE", 2, "DATALOADER.NUM_WORKERS", 0,
]  # fmt: skip
DIM, WORD_DIM = 32, 24


def tiny_config(overrides: Sequence[Any] = ()) -> CN:
    """`rela_toy` on a backbone of a few thousand weights."""
    cfg = rela.load_config("rela_toy")
    values = [*TINY, *overrides]
    for key, value in zip(values[::2], values[1::2], strict=True):
        node, (*path, last) = cfg, key.split(".")
        for name in path:
            node = node[name]
        node[last] = CN(value, new_allowed=True) if isinstance(value, dict) else value
    return cfg


def tiny_rela(overrides: Sequence[Any] = (), *, seed: int = 0) -> rela.ReLA:
    """In evaluation mode; nothing in it is zero, so that every part shows."""
    torch.manual_seed(seed)
    model = rela.build_model(tiny_config(overrides))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 0 or not parameter.any():
                parameter.normal_(std=0.2)
    return model.eval()


def save_tiny(file: Path, overrides: Sequence[Any] = ()) -> Path:
    """The tiny model as a weights file that knows its configuration."""
    from partglee.checkpoint import write_weights
    from partglee.engine.weight_files import CONFIG_TEXT

    write_weights(tiny_rela(overrides).state_dict(), file, {CONFIG_TEXT: tiny_config(overrides).dump()})
    return file


def some_words(expressions: int = 2, *, length: int = 5, seed: int = 1, dtype: torch.dtype = torch.float32) -> Words:
    """Word states with padding at the end of all expressions but the first."""
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(expressions, length, WORD_DIM, generator=generator, dtype=dtype)
    valid = torch.tensor([length, *[max(2, length - 1 - i) for i in range(expressions - 1)]])
    return Words(states, torch.arange(length)[None] < valid[:, None])


def some_pixels(images: int = 2, *, seed: int = 2, dtype: torch.dtype = torch.float32) -> PixelFeatures:
    """Three levels of a 48 x 64 canvas."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((2, 2), (3, 4), (6, 8))
    count = sum(h * w for h, w in sizes)
    memory = torch.randn(images, count, DIM, generator=generator, dtype=dtype)
    features = torch.randn(images, DIM, 12, 16, generator=generator, dtype=dtype)
    return PixelFeatures(memory, sizes, features)


def decoder(*, seed: int = 3, **options: Any) -> RegionDecoder:
    """A region decoder whose zero-initialised weights are not zero."""
    torch.manual_seed(seed)
    sizes = {"num_heads": 4, "num_layers": 4, "num_levels": 3, "ffn_dim": 48, "num_regions": 3}
    made = RegionDecoder(embed_dim=DIM, word_dim=WORD_DIM, **{**sizes, **options})
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim == 0 or not parameter.any():
                parameter.normal_(std=0.3)
    return made.eval()
