"""Text among tensors: what a state dict says of itself, in programs that keep nothing but tensors of a model."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

# The key says what the text is, by its checksum: a model of another text has no tensor of that name to compare with.
_KEY = re.compile(r"(?:.*\.)?about\.[0-9a-f]{8}")


def note(content: Mapping[str, Any]) -> tuple[str, Tensor]:
    """A key of a state dict and (n,) uint8 for what JSON can hold."""
    text = json.dumps(content, sort_keys=True).encode()
    return f"about.{zlib.crc32(text):08x}", torch.frombuffer(bytearray(text), dtype=torch.uint8).clone()


def is_note(key: str) -> bool:
    """Whether a key of a state dict is of a note."""
    return _KEY.fullmatch(key) is not None


def read_note(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """What `note` was given; empty where the state dict has none.

    Raises:
        ValueError: for one that is damaged.
    """
    for key, value in state.items():
        if is_note(key):
            text = bytes(value.cpu().numpy())
            if f"{zlib.crc32(text):08x}" != key[-8:]:
                raise ValueError(f"{key} is not as it was written; the file is damaged, or its weights were averaged")
            content: dict[str, Any] = json.loads(text)
            return content
    return {}
