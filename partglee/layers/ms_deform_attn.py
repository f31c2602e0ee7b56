"""Multi-scale deformable attention as a module ("Deformable DETR", arXiv 2010.04159, section 4.1).

B images, Q queries, S memory rows, E embedding width, M heads, L levels, P points per level and head.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from partglee.layers.position import at_least_float32
from partglee.ops import ms_deform_attn
from partglee.ops.level_shapes import SpatialShapes, level_tensors
from partglee.ops.sampling_points import sampling_points


class MSDeformAttn(nn.Module):
    """Each query reads P points per level and head around its reference, at places it predicts itself.

    Offsets, softmax and location arithmetic run in at least float32, also under autocast: in half precision a location
    is off by pixels. The values stay in autocast's dtype.
    """

    def __init__(self, *, embed_dim: int, num_heads: int, num_levels: int, num_points: int) -> None:
        super().__init__()
        if embed_dim % num_heads:
            raise ValueError(
                f"embed_dim must be a multiple of num_heads, got {embed_dim} and {num_heads}; "
                "choose num_heads that divides embed_dim"
            )
        self.embed_dim = embed_dim
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        self.sampling_offsets = nn.Linear(embed_dim, num_heads * num_levels * num_points * 2)
        self.attention_weights = nn.Linear(embed_dim, num_heads * num_levels * num_points)
        self.value_proj = nn.Linear(embed_dim, embed_dim)
        self.output_proj = nn.Linear(embed_dim, embed_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Head m looks in direction 2 pi m / M, its points 1 to P pixels away on every level, equally weighted."""
        angles = torch.arange(self.num_heads, dtype=torch.float32) * (2 * math.pi / self.num_heads)
        ring = torch.stack([angles.cos(), angles.sin()], dim=-1)
        # On the square of side 2, so that the diagonal neighbours are reached too.
        ring = ring / ring.abs().amax(dim=-1, keepdim=True)  # (M, 2)
        distance = torch.arange(1, self.num_points + 1, dtype=torch.float32)[:, None]  # (P, 1) pixels
        bias = (ring[:, None, None] * distance).expand(-1, self.num_levels, -1, -1)  # (M, L, P, 2)
        with torch.no_grad():
            self.sampling_offsets.weight.zero_()
            self.sampling_offsets.bias.copy_(bias.reshape(-1))
            self.attention_weights.weight.zero_()
            self.attention_weights.bias.zero_()
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)

    def forward(
        self,
        query: Tensor,
        reference_points: Tensor,
        memory: Tensor,
        spatial_shapes: SpatialShapes,
        level_start_index: Tensor | None = None,
    ) -> Tensor:
        """Attend from ``query`` to ``memory``.

        Args:
            query: (B, Q, E); the caller has added the position, if any.
            reference_points: (B, Q, L, 2) centres (x, y) or (B, Q, L, 4) boxes cxcywh, in [0, 1] of each level; the
                level axis may be 1 where all levels share the reference.
            memory: (B, S, E) the levels' pixels, row by row, one level after another; (1, S, E) serves all B rows of
                queries, and is projected once.
            spatial_shapes: L pairs (h, w), or an (L, 2) int64 tensor on the device of ``memory``.
            level_start_index: (L,) int64, or None where the levels lie one after the other.

        Returns:
            (B, Q, E).

        Raises:
            ValueError: reference points that are neither centres nor boxes, or a number of levels that does not fit.
        """
        if len(spatial_shapes) != self.num_levels:
            raise ValueError(
                f"spatial_shapes must have {self.num_levels} levels, got {len(spatial_shapes)}; "
                "build the module with num_levels equal to the number of feature maps"
            )
        batch, num_queries, _ = query.shape
        value = self.value_proj(memory).unflatten(
            -1, (self.num_heads, self.embed_dim // self.num_heads)
        )  # (B, S, M, D)
        per_point = (batch, num_queries, self.num_heads, self.num_levels, self.num_points)
        offsets = at_least_float32(self.sampling_offsets(query)).view(*per_point, 2)
        logits = at_least_float32(self.attention_weights(query)).view(*per_point[:3], self.num_levels * self.num_points)
        shapes, _ = level_tensors(spatial_shapes, level_start_index, memory)
        locations, weights = sampling_points(offsets, logits, reference_points, shapes)
        if len(memory) == 1 < batch:  # then all are queries of one image
            locations, weights = locations.flatten(0, 1)[None], weights.flatten(0, 1)[None]
        # Integers go on as they are: the reference path needs them, and their tensors are cached.
        out = ms_deform_attn(value, spatial_shapes, level_start_index, locations, weights)
        return self.output_proj(out.view(batch, num_queries, self.embed_dim))
