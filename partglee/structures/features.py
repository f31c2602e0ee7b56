"""What the stages of the image side exchange.

B images, S memory tokens of all levels, E width, K objects kept, L parsing queries, M denoising
queries, Q matching queries.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class PixelFeatures(NamedTuple):
    """Output of the pixel decoder. Levels run coarse to fine, the order the decoders expect."""

    memory: Tensor  # (B, S, E)
    level_sizes: tuple[tuple[int, int], ...]  # (h, w) of each level; plain ints, so no host-device copy per layer
    mask_features: Tensor  # (B, E, H/4, W/4)

    def maps(self) -> list[Tensor]:
        """The memory as one (B, E, h, w) map for each level, coarse to fine, for decoders that attend to one level at
        a time (Mask2Former, arXiv 2112.01527, section 3.2)."""
        levels = self.memory.split([h * w for h, w in self.level_sizes], dim=1)
        return [level.transpose(1, 2).unflatten(2, size) for level, size in zip(levels, self.level_sizes, strict=True)]

    def expand(self, num_rows: int) -> PixelFeatures:
        """The features of one image for several rows that ask about it; unchanged where there are as many already."""
        memory, mask_features = self.memory, self.mask_features
        return PixelFeatures(
            memory.expand(num_rows, -1, -1), self.level_sizes, mask_features.expand(num_rows, -1, -1, -1)
        )


class PartQueries(NamedTuple):
    """L part queries parsed from each of K selected object queries, object by object."""

    content: Tensor  # (B, K * L, E)
    parent: Tensor  # (B, K * L) long, row of the object query each came from


class DenoisingQueries(NamedTuple):
    """M noised copies of targets; the Q matching queries follow them in the decoder."""

    content: Tensor  # (B, M, E)
    boxes: Tensor  # (B, M, 4) noised cxcywh in [0, 1]
    group: Tensor  # (M,) long; groups must not see each other, and no matching query sees any of them
    source: Tensor  # (B, M) long, target row copied, -1 = padding, -2 = negative: should be predicted as nothing
