"""What is said and kept when a loss is not a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from partglee.basics.files import whole_file
from partglee.engine.step import Batch

_SHOWN = 8


class NonFiniteLoss(ValueError):
    """A loss or gradient was NaN or infinite; the message names the images."""

    @classmethod
    def of(cls, batches: Sequence[Batch], losses: Mapping[str, float], *, iteration: int, file: Path) -> NonFiniteLoss:
        """The error for these batches, of which `file` is the dump."""
        files = [name for batch in batches for name in batch.files]
        images = ", ".join(files[:_SHOWN]) + (f" and {len(files) - _SHOWN} more" if len(files) > _SHOWN else "")
        bad = [f"{name} {value}" for name, value in losses.items() if value - value != 0]
        sources = ", ".join(sorted({batch.source for batch in batches})) or "an unnamed source"
        what = f"terms: {', '.join(bad)}" if bad else "all losses are finite, the gradients are not"
        return cls(
            f"step {iteration}: non-finite loss on a batch of {sources} ({what}); images: {images or 'without names'}; "
            f"the batch is in {file} (torch.load). Lower SOLVER.BASE_LR, use SOLVER.PRECISION bf16 instead of fp16, or "
            "allow such steps to be skipped with SOLVER.MAX_NON_FINITE"
        )


def write_dump(file: Path, batches: Sequence[Batch], *, losses: Mapping[str, float], iteration: int) -> None:
    """Images, targets and losses as plain tensors and numbers, readable with `torch.load(weights_only=True)`.

    A batch is written as its method `plain()` gives it, else field by field, by their names.
    """
    content = {"iteration": iteration, "losses": dict(losses), "batches": [_dumped(batch) for batch in batches]}
    with whole_file(file) as beside:
        torch.save(content, beside)


def _dumped(batch: Batch) -> Any:
    own = getattr(batch, "plain", None)
    return plain(batch if own is None else own())


def plain(value: Any) -> Any:
    """Tensors, numbers, texts, and lists and dicts of them; named fields become a dict, anything else its `repr`."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: plain(entry) for name, entry in zip(value._fields, value, strict=True)}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return repr(value)
