"""The network as one CUDA graph for each size of images: thousands of kernels are launched by one call.

B images, H x W the canvas.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from partglee.engine.precision import autocast
from partglee.modeling import PartGLEE
from partglee.ops.level_shapes import cached_tensors
from partglee.structures import ModelOutput, TextEmbeddings

Network = Callable[[Tensor], ModelOutput]

_WARM_UP = 3  # passes before a capture: libraries choose their kernels and take their memory


class Recording(NamedTuple):
    """A captured pass. Its tensors keep their addresses, so a replay reads and writes them in place."""

    images: Tensor
    output: ModelOutput
    replay: Callable[[], None]
    held: object = None  # what it reads beside them and its own memory


class GraphedNetwork:
    """What a model says of images and one text, replayed where images of a size come again.

    The first images of a size cost a few passes. Each size has a graph with memory of its own, so few sizes should
    come: images resized to one canvas, or batches of it.

    >>> network = GraphedNetwork(model=model, text=model.embed(vocabulary), precision="bfloat16")  # doctest: +SKIP
    >>> output = network(model.batch(images).tensor)  # doctest: +SKIP

    Args:
        model: in evaluation mode, on a GPU. Its weights may be changed in place; of a model that is moved or cast after
            a capture the graphs know nothing.
        text: that the images are asked about.
        precision: as of `predict_resized`.
        kept: sizes whose graphs are kept; the one that was not asked for longest goes first.
        record: makes a recording of a function and its first images.

    Raises:
        ValueError: for a model in training mode or not on a GPU, for no size, and in the call for images that are
            elsewhere than the model.
    """

    def __init__(
        self,
        *,
        model: PartGLEE,
        text: TextEmbeddings,
        precision: str = "float32",
        kept: int = 4,
        record: Callable[[Network, Tensor], Recording] | None = None,
    ) -> None:
        if model.training:
            raise ValueError("a graph repeats one pass of inference, and the model is in training mode; call eval()")
        if record is None and model.device.type != "cuda":
            raise ValueError(f"CUDA graphs need a model on a GPU, got one on {model.device}; call the model itself")
        if kept < 1:
            raise ValueError(f"kept must be at least 1, the number of sizes with a graph, got {kept}")
        self.model, self.text, self.precision, self.kept = model, text, precision, kept
        self._record = record or capture
        self._recordings: OrderedDict[tuple[object, ...], Recording] = OrderedDict()

    @torch.no_grad()
    def __call__(self, images: Tensor) -> ModelOutput:
        """Normalised (B, 3, H, W) images, as `model.batch` makes them -> what `model(images, text)` gives.

        The output is the caller's: a later call does not change it.
        """
        if images.device != self.model.device:
            raise ValueError(f"expected images on the model's {self.model.device}, got some on {images.device}")
        key = (tuple(images.shape), images.dtype)
        if key not in self._recordings:
            if len(self._recordings) == self.kept:
                self._recordings.popitem(last=False)  # its memory is free before another's is taken
            with _without_cast_weights():
                self._recordings[key] = self._record(self._network, images)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        recording.images.copy_(images)
        recording.replay()
        objects, parts, parent, _, features = recording.output
        objects, parts, parent, features = tree_map(
            lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, (objects, parts, parent, features)
        )
        return ModelOutput(objects, parts, parent, self.text, features)

    def _network(self, images: Tensor) -> ModelOutput:
        with autocast(self.model.device, self.precision, backbone=True):
            maps = self.model.backbone(images)
        with autocast(self.model.device, self.precision):
            pixels = self.model.pixel_decoder(maps, self.text.tokens, self.text.token_mask)
            return self.model.decode(pixels, self.text)


def capture(network: Network, images: Tensor) -> Recording:
    """Warm a network up on a stream of its own, then capture a pass of it (PyTorch's notes on CUDA graphs)."""
    fixed = images.clone()
    with torch.cuda.device(images.device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP):
                network(fixed)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            output = network(fixed)
    return Recording(fixed, output, graph.replay, held=cached_tensors())


@contextmanager
def _without_cast_weights() -> Iterator[None]:
    """Autocast keeps no cast weights: a graph that found one would read it after whoever entered autocast freed it."""
    torch.clear_autocast_cache()
    enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(enabled)
