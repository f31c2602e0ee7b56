"""The smallest model that reads sentences, photos for it, and how its answers are compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from partglee.config import load_config
from partglee.engine import Predictor
from partglee.modeling import build_model
from partglee.structures import Prediction
from partglee.testing import fill_weights
from partglee.text import TextBackend, TextEncoder

EXPRESSIONS = ["the dog on the left", "both cats", "a person"]


class Letters(TextBackend):
    """The smallest tower there can be: a vector for each letter."""

    context_length = 24

    def __init__(self) -> None:
        super().__init__()
        self.width = 8
        self.letters = nn.Embedding(128, 8)

    def tokenize(self, texts: Sequence[str], *, context_length: int | None = None) -> tuple[Tensor, Tensor]:
        length = context_length or max(map(len, texts))
        ids = torch.tensor([[ord(c) for c in text.ljust(length, "\0")] for text in texts])
        return ids, ids > 0

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.letters(ids)

    def fingerprint(self) -> str:
        return "letters"


def photo(height: int = 60, width: int = 90, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def same(a: Prediction, b: Prediction, **tolerance: float) -> None:
    assert a.names == b.names and a.parent.tolist() == b.parent.tolist() and a.file_name == b.file_name
    assert a.masks is not None and b.masks is not None
    for ours, theirs in ((a.boxes, b.boxes), (a.scores, b.scores)):
        torch.testing.assert_close(ours, theirs, **(tolerance or {"atol": 0, "rtol": 0}))
    assert (a.masks != b.masks).float().mean() < 1e-3


def reading_predictor() -> Predictor:
    """A tiny model that reads sentences."""
    torch.manual_seed(0)
    encoder = TextEncoder(backend=Letters(), embed_dim=load_config("tiny").MODEL.EMBED_DIM)
    model = fill_weights(build_model(load_config("tiny"), text_encoder=encoder))
    return Predictor(model=model, short_side=64, max_side=96)
