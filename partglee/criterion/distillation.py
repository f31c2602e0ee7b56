"""Text distillation: a text tower in training stays near the tower it started from (spec section 2.2).

M valid tokens, W text width.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def distillation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of two times (M, W) token states -> scalar; no gradient reaches the teacher."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"student and teacher states must have one shape, got {tuple(student.shape)} and {tuple(teacher.shape)}"
        )
    return F.mse_loss(student, teacher.detach().to(student.dtype))
