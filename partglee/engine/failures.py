"""What is said and kept when a loss is not a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from partglee.basics.files import whole_file
from partglee.structures import TrainingBatch

_SHOWN = 8


class NonFiniteLoss(ValueError):
    """A loss or gradient was NaN or infinite; the message names the images."""

    @classmethod
    def of(
        cls, batches: Sequence[TrainingBatch], losses: Mapping[str, float], *, iteration: int, file: Path
    ) -> NonFiniteLoss:
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


def write_dump(file: Path, batches: Sequence[TrainingBatch], *, losses: Mapping[str, float], iteration: int) -> None:
    """Images, targets and losses as plain tensors and numbers, readable with `torch.load(weights_only=True)`."""
    content = {
        "iteration": iteration,
        "losses": dict(losses),
        "batches": [
            {
                "source": batch.source,
                "files": list(batch.files),
                "canvas": tuple(batch.canvas),
                "images": [image.cpu() for image in batch.images],
                "objects": None if batch.names is None else list(batch.names.object_prompts),
                "parts": None if batch.names is None else list(batch.names.part_prompts),
                "expressions": None if batch.expressions is None else list(batch.expressions),
                "targets": [
                    {
                        "objects": [t.objects.labels, t.objects.boxes, t.objects.masks],
                        "parts": [t.parts.labels, t.parts.boxes, t.parts.masks],
                        "part_parent": t.part_parent,
                    }
                    for t in batch.targets
                ],
            }
            for batch in batches
        ],
    }  # fmt: skip
    with whole_file(file) as beside:
        torch.save(content, beside)
