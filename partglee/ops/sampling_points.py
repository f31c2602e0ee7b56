"""Where deformable attention samples, and how much of each sample it takes, from what a query predicts.

N images, Q queries, M heads, L levels, P points per level.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .dispatch import native_sampling_points
from .native import CPU, OPERATORS, PACKAGE


def sampling_points(
    offsets: Tensor, logits: Tensor, reference_points: Tensor, spatial_shapes: Tensor
) -> tuple[Tensor, Tensor]:
    """Sampling locations and attention weights ("Deformable DETR", arXiv 2010.04159, section 4.1 and appendix A.4).

    A location is the reference point plus the offset in pixels of its level, or the centre of the reference box plus
    the offset in units of half its size over P. Weights are a softmax over the L * P samples of a head. One compiled
    pass does both for float32 on a processor; PyTorch takes six, four of them over rows too short for its vectors.

    Args:
        offsets: (N, Q, M, L, P, 2), (x, y).
        logits: (N, Q, M, L * P), dtype as ``offsets``.
        reference_points: (N, Q, L or 1, 2) centres (x, y) or (N, Q, L or 1, 4) boxes cxcywh, in [0, 1] of each level.
        spatial_shapes: (L, 2) int64 (h, w), on the same device.

    Returns:
        locations (N, Q, M, L, P, 2) in [0, 1] of each level, weights (N, Q, M, L, P).

    Raises:
        ValueError: reference points that are neither centres nor boxes.
    """
    if reference_points.shape[-1] not in (2, 4):
        raise ValueError(
            "reference_points must end in 2 (x, y) or 4 (cx, cy, w, h), "
            f"got shape {tuple(reference_points.shape)}; pass boxes as cxcywh in [0, 1]"
        )
    reference = reference_points.to(offsets.dtype)
    if native_sampling_points(offsets, logits, reference):
        locations, weights = OPERATORS.sampling_points(
            offsets.contiguous(),
            logits.contiguous(),
            reference.expand(*offsets.shape[:2], -1, -1).contiguous(),
            spatial_shapes.contiguous(),
        )
    else:
        locations, weights = _locations(offsets, reference, spatial_shapes), logits.softmax(dim=-1)
    return locations, weights.view(offsets.shape[:-1])


def _locations(offsets: Tensor, reference: Tensor, shapes: Tensor) -> Tensor:
    reference = reference[:, :, None, :, None]  # (N, Q, 1, L or 1, 1, 2 or 4)
    if reference.shape[-1] == 2:
        return reference + offsets / shapes.flip(-1).to(offsets.dtype)[:, None]  # (L, 1, 2)
    centre, size = reference[..., :2], reference[..., 2:]
    return centre + offsets * (size * (0.5 / offsets.shape[-2]))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    offsets, _, reference, shapes = inputs
    # Offsets matter to the sizes of boxes alone.
    ctx.of_boxes = ctx.needs_input_grad[2] and reference.shape[-1] == 4
    ctx.save_for_backward(output[1], reference, shapes, *([offsets] if ctx.of_boxes else []))


def _backward(ctx: Any, grad_locations: Tensor, grad_weights: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
    weights, reference, shapes, *offsets = ctx.saved_tensors
    grad_locations = grad_locations.contiguous()
    grads = OPERATORS.sampling_points_backward(grad_locations, grad_weights.contiguous(), weights, reference, shapes)
    grad_reference = None
    if ctx.needs_input_grad[2]:
        grad_reference = grad_locations.sum(dim=(2, 4))  # (N, Q, L, 2)
        if ctx.of_boxes:
            sizes = (grad_locations * offsets[0]).sum(dim=(2, 4)) * (0.5 / grad_locations.shape[4])
            grad_reference = torch.cat([grad_reference, sizes], dim=-1)
        if reference.shape[2] == 1:
            grad_reference = grad_reference.sum(dim=2, keepdim=True)
    return grads[0], grads[1], grad_reference, None


def _double_backward(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "sampling_points: double backward is not supported by the compiled operator; set PARTGLEE_OPS=reference "
        f"(or {PACKAGE}.ops.use_ops('reference')), whose second derivative PyTorch works out"
    )


def _fake(offsets: Tensor, logits: Tensor, *others: Tensor) -> tuple[Tensor, Tensor]:
    return offsets.new_empty(offsets.shape), logits.new_empty(logits.shape)


if CPU.loaded and hasattr(OPERATORS, "sampling_points"):  # a library that was built earlier lacks it
    torch.library.register_fake(f"{PACKAGE}::sampling_points", _fake)
    torch.library.register_fake(f"{PACKAGE}::sampling_points_backward", _fake)
    torch.library.register_autograd(f"{PACKAGE}::sampling_points", _backward, setup_context=_save)
    torch.library.register_autograd(f"{PACKAGE}::sampling_points_backward", _double_backward)
