"""Annotations of one image as the model and the criterion see them: labels are positions in the batch vocabulary.

N instances of one level, H x W the padded canvas.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LevelTargets:
    """N annotated instances of one level in one image."""

    labels: Tensor  # (N,) long, positions in the batch vocabulary of this level
    boxes: Tensor  # (N, 4) cxcywh in [0, 1] of the padded canvas
    masks: Tensor | None = None  # (N, H, W) bool
    with_mask: Tensor | None = None  # (N,) bool, False: the instance has a box alone, its mask says nothing; None = all

    def __post_init__(self) -> None:
        if self.labels.ndim != 1 or self.labels.dtype != torch.long:
            raise ValueError(f"labels must be (N,) long, got {tuple(self.labels.shape)} {self.labels.dtype}")
        if self.boxes.shape != (len(self.labels), 4):
            raise ValueError(
                f"boxes must be ({len(self.labels)}, 4) cxcywh, got {tuple(self.boxes.shape)}; one row for each label"
            )
        if self.masks is not None and (self.masks.ndim != 3 or len(self.masks) != len(self.labels)):
            raise ValueError(f"masks must be ({len(self.labels)}, H, W), got {tuple(self.masks.shape)}")
        if self.with_mask is not None and (
            self.masks is None or self.with_mask.shape != self.labels.shape or self.with_mask.dtype != torch.bool
        ):
            raise ValueError(
                f"with_mask must be ({len(self.labels)},) bool and goes with masks, got {tuple(self.with_mask.shape)} "
                f"{self.with_mask.dtype}{'' if self.masks is not None else ' without masks'}"
            )

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def to(self, device: torch.device | str) -> LevelTargets:
        masks = None if self.masks is None else self.masks.to(device)
        with_mask = None if self.with_mask is None else self.with_mask.to(device)
        return LevelTargets(self.labels.to(device), self.boxes.to(device), masks, with_mask)

    @staticmethod
    def empty(*, device: torch.device | str = "cpu") -> LevelTargets:
        return LevelTargets(torch.zeros(0, dtype=torch.long, device=device), torch.zeros(0, 4, device=device))


@dataclass(frozen=True, slots=True)
class HierarchicalTargets:
    """Objects and parts of one image, with the true parent of each part where the data knows it."""

    objects: LevelTargets
    parts: LevelTargets = field(default_factory=LevelTargets.empty)
    part_parent: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))  # (Np,) row, -1 unknown

    def __post_init__(self) -> None:
        if self.part_parent.shape != (len(self.parts),):
            raise ValueError(
                f"part_parent must be ({len(self.parts)},), one row for each part, got {tuple(self.part_parent.shape)}"
            )
        if len(self.parts) and int(self.part_parent.max()) >= len(self.objects):
            raise ValueError(
                f"part_parent names object row {int(self.part_parent.max())}, but there are {len(self.objects)} "
                "objects; use -1 for a part without a known parent"
            )

    def to(self, device: torch.device | str) -> HierarchicalTargets:
        return HierarchicalTargets(self.objects.to(device), self.parts.to(device), self.part_parent.to(device))
