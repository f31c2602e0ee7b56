"""What a run survives, counts and says: losses that are not a number, images that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from partglee.basics.files import whole_file
from partglee.engine.step import Batch

_SHOWN, _LISTED = 8, 20


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
    """Tensors, numbers, texts; lists, tuples and dicts of them; named fields as a dict, anything else as its `repr`."""
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
        entries = [plain(entry) for entry in value]
        return tuple(entries) if isinstance(value, tuple) else entries
    return repr(value)


class UnreadableImages:
    """Each image that others took the place of, once, whichever processes met it.

    All processes hold the same after `add`, so that all stop in the same step.

    Args:
        limit: so many do not stop a run.
    """

    def __init__(self, *, limit: int) -> None:
        self.limit = limit
        self.reasons: dict[str, str] = {}  # file -> why

    def __len__(self) -> int:
        return len(self.reasons)

    def new_in(self, batches: Iterable[Batch]) -> dict[str, str]:
        """Those of this process's batches that are not known yet."""
        pairs = (pair for batch in batches for pair in batch.unreadable)
        return {file: reason for file, reason in pairs if file not in self.reasons}

    def add(self, failed: Mapping[str, str], *, processes: int = 1) -> list[str]:
        """Count what any process has found; with several, all must call this in the same step.

        Returns:
            A sentence for each image that is new.

        Raises:
            ValueError: when there are more than `limit`, with their names.
        """
        pairs = list(failed.items())
        if processes > 1:
            pairs = gather_object(pairs)
        told = []
        for file, reason in pairs:
            if file not in self.reasons:
                self.reasons[file] = reason
                told.append(
                    f"image {len(self)} of at most {self.limit} that cannot be read: {_line(file, reason)}; another of "
                    "its data set took its place"
                )
        if len(self) > self.limit:
            listed = "; ".join(_line(file, reason) for file, reason in list(self.reasons.items())[-_LISTED:])
            raise ValueError(
                f"{len(self)} images cannot be read, more than DATALOADER.MAX_CORRUPT {self.limit}; mend or remove "
                f"them, or raise it: {listed}{f' and {len(self) - _LISTED} before' if len(self) > _LISTED else ''}"
            )
        return told


def _line(file: str, reason: str) -> str:
    return reason if file in reason else f"{file}: {reason}"
