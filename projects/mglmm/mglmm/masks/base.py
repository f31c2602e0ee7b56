"""What every mask decoder is to the model: an image encoded once, and a mask for each prompt.

B images, N prompts of any of them, D prompt width, h x w the decoder's map, H x W the canvas, (H0, W0) an image as it
is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from partglee.engine.image_input import ImageInput
from partglee.modeling.frame import Frame
from partglee.modeling.photo_model import PhotoModel
from partglee.ops.masks import masks_to_image


class Hierarchy(NamedTuple):
    """Where masks stand among the objects and parts of their images, for decoders that know."""

    level: Tensor  # (N,) long, 0 = object, 1 = part
    query: Tensor  # (N,) long, the image's query that a mask is foremost; objects first, then parts
    parent: Tensor  # (N,) long, of a part: the object query it belongs to; -1 for objects
    boxes: Tensor  # (N, 4) cxcywh in [0, 1] of the canvas


class DecodedMasks(NamedTuple):
    """One mask for each prompt."""

    logits: Tensor  # (N, h, w)
    confidence: Tensor  # (N,) in [0, 1], the decoder's own word on how good a mask is
    hierarchy: Hierarchy | None = None
    loss: Tensor | None = None  # () a term of the decoder's own, where it was given the true masks


class MaskDecoder(PhotoModel):
    """A module that is given photos and prompts. Where it is frozen, `encode` may be run ahead and its features kept
    (`mglmm.feature_cache`).

    Attributes:
        prompt_dim: D.
        image_input: how photos are resized.
        canvas: sides of the input, for decoders that see one size alone; None = as the image.
    """

    prompt_dim: int
    image_input: ImageInput
    canvas: tuple[int, int] | None = None
    frozen: bool = True  # nothing in `encode` learns
    feature_kind: Any = None  # the named tuple that features are, where they are one

    def encode(self, pixels: Tensor) -> Any:
        """(B, 3, H, W) from `batch` -> features: a tensor, or tuples of them, each (B, ...)."""
        raise NotImplementedError

    def decode(self, features: Any, prompts: Tensor, image_of: Tensor, targets: Tensor | None = None) -> DecodedMasks:
        """Features, (N, D) prompts and (N,) the image of each -> masks.

        Args:
            targets: (N, H, W) bool on the canvas, for decoders that learn more from them than a mask loss says.
        """
        raise NotImplementedError

    def learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Names and weights that are meant to train: all but the image's side."""
        raise NotImplementedError

    def shard_units(self) -> Iterator[nn.Module]:
        """Large parts that are called as modules, for sharded training; the rest goes with the root."""
        return iter(())

    def see(self, pixels: Tensor) -> Any:
        """Features for a training step: with gradients where the encoder learns."""
        return self.features(pixels) if self.frozen else self.encode(pixels)

    @torch.no_grad()
    def features(self, pixels: Tensor) -> Any:
        """`encode` without gradients, in evaluation mode, whatever the mode of the rest."""
        was = self.training
        self.eval()
        try:
            return self.encode(pixels)
        finally:
            self.train(was)

    def to_image(self, logits: Tensor, frame: Frame) -> Tensor:
        """(N, h, w) -> (N, H0, W0) logits of the image as it is."""
        if not len(logits):
            return logits.new_zeros(0, *frame.original)
        return masks_to_image(logits.float(), canvas=frame.canvas, padded_from=frame.resized, image_size=frame.original)


def map_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The same tuples with every tensor changed; what is no tensor stays."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(entry, change) for entry in value))
    if isinstance(value, (tuple, list)):
        return tuple(map_tensors(entry, change) for entry in value)
    return value


def stack_features(entries: Sequence[Any]) -> Any:
    """Features of single images, each (1, ...) -> of a batch.

    Raises:
        ValueError: for images on canvases of different sizes.
    """
    first = entries[0]
    if isinstance(first, Tensor):
        if len({tuple(entry.shape[1:]) for entry in entries}) > 1:
            raise ValueError(
                f"features of shapes {sorted({tuple(e.shape) for e in entries})} are of different canvases"
            )
        return torch.cat(list(entries))
    if isinstance(first, (tuple, list)):
        columns = [stack_features(column) for column in zip(*entries, strict=True)]
        return type(first)(*columns) if hasattr(first, "_fields") else tuple(columns)
    if any(entry != first for entry in entries):
        raise ValueError("features are of different canvases")
    return first
