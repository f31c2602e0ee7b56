#!/usr/bin/env python
"""What might make the model faster on a processor, each idea alone against what the library does now.

    OMP_NUM_THREADS=1 python tools/benchmark_ideas.py --size 800x1333 --rounds 5

Pieces of `joint_r50` with filled weights: its backbone, a feed-forward and the projections of an encoder layer with the
rows of such an image. Each idea takes turns with the plain piece; prints the machine, versions, the commit, and by idea
the ratio that was predicted before it was measured, what was found with its spread, and how far answers are apart.
Ideas whose package is not installed are left out by name.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from benchmark_model import commit_here, processor
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.basics.arguments import ArgumentParser
from partglee.config import load_config
from partglee.layers import FeedForward
from partglee.modeling import build_model, fold_norms
from partglee.ops import use_ops
from partglee.ops.sampling_points import sampling_points
from partglee.testing import fill_weights

Piece = Callable[[Tensor], Any]
WIDTH, INNER, HEADS, POINTS = 256, 2048, 8, 4


class Idea(NamedTuple):
    """A way to do what a piece does."""

    name: str
    predicted: str
    make: Callable[[], Piece]


def compiled(module: nn.Module, *, frozen: bool = False) -> Piece:
    """By TorchInductor; frozen: weights are constants, which it may pack and fold."""
    import torch._inductor.config as inductor

    piece = torch.compile(copy.deepcopy(module), dynamic=False)

    def call(x: Tensor) -> Any:
        with inductor.patch(freezing=frozen), torch.no_grad():
            return piece(x)

    return call


def by_openvino(module: nn.Module, example: Tensor) -> Piece:
    """One output, or the last of several."""
    import openvino

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, x: Tensor) -> Tensor:
            found = self.inner(x)
            return found if isinstance(found, Tensor) else found[-1]

    graph = openvino.convert_model(Last(), example_input=example, input=[tuple(example.shape)])
    hints = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "INFERENCE_PRECISION_HINT": "f32"}
    network = openvino.compile_model(graph, "CPU", hints)
    return lambda x: torch.from_numpy(network(x.numpy())[0])


def packed_feed_forward(module: FeedForward) -> Piece:
    """oneDNN's linear layers with weights packed once, ReLU inside the first."""
    # Not public in torch: what its compiler calls.
    pack, linear = (getattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise"))
    first, second = (pack(layer.weight.detach(), 1024) for layer in (module.linear1, module.linear2))

    def call(x: Tensor) -> Tensor:
        pieces = []
        for rows in x.split(1024):
            inner = linear(rows, first, module.linear1.bias, "relu", [], "")
            pieces.append(linear(inner, second, module.linear2.bias, "none", [], ""))
        return torch.cat(pieces)

    return call


def int8_feed_forward(module: FeedForward) -> Piece:
    """torchao: weights and, by their own range, activations in eight bits."""
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    made = copy.deepcopy(module)
    quantize_(made, Int8DynamicActivationInt8WeightConfig())
    return made


def fbgemm_feed_forward(module: FeedForward) -> Piece:
    """PyTorch's own dynamic quantization."""
    return torch.ao.quantization.quantize_dynamic(copy.deepcopy(module), {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-any-return]


def whole_feed_forward(module: FeedForward) -> Piece:
    """All rows at once, as with gradients."""
    return lambda x: module.linear2(F.relu(module.linear1(x)))


def pieces(size: tuple[int, int]) -> Iterator[tuple[str, Tensor, Piece, list[Idea]]]:
    """Name, input, the plain piece, and ideas for it."""
    model = fill_weights(build_model(load_config("joint_r50"))).eval()
    whole, backbone, image = (
        model.backbone,
        model.backbone.body,
        torch.randn(1, 3, *(-(-side // 32) * 32 for side in size)),
    )
    yield "backbone", image, backbone, [
        Idea("the same again", "1.00x", lambda: copy.deepcopy(backbone)),
        Idea("channels last", "1.00x", lambda: copy.deepcopy(backbone).to(memory_format=torch.channels_last)),
        Idea("frozen norms folded into convolutions", "1.12x", lambda: fold_norms(whole).body),
        Idea(
            "folded, channels last", "1.12x", lambda: fold_norms(whole).body.to(memory_format=torch.channels_last)
        ),
        Idea("torch.compile", "1.10x", lambda: compiled(backbone)),
        Idea("torch.compile, weights frozen", "1.2x", lambda: compiled(backbone, frozen=True)),
        Idea("OpenVINO", "1.2x", lambda: by_openvino(backbone, image)),
    ]  # fmt: skip
    rows = sum((image.shape[2] // stride) * (image.shape[3] // stride) for stride in (8, 16, 32, 64))
    memory, layer = torch.randn(rows, WIDTH), fill_weights(FeedForward(embed_dim=WIDTH, ffn_dim=INNER)).eval()
    yield "feed-forward", memory, layer, [
        Idea("the same again", "1.00x", lambda: copy.deepcopy(layer)),
        Idea("all rows at once", "0.8x", lambda: whole_feed_forward(layer)),
        Idea("oneDNN, weights packed", "1.05x", lambda: packed_feed_forward(layer)),
        Idea("torch.compile", "0.8x", lambda: compiled(layer)),
        Idea("torch.compile, weights frozen", "1.05x", lambda: compiled(layer, frozen=True)),
        Idea("OpenVINO", "1.0x", lambda: by_openvino(layer, memory)),
        Idea("int8, torchao", "AVX2 0.5x, VNNI 2x", lambda: int8_feed_forward(layer)),
        Idea("int8, PyTorch's FBGEMM", "AVX2 1.2x, VNNI 3x", lambda: fbgemm_feed_forward(layer)),
    ]  # fmt: skip
    offsets, weights = fill_weights(nn.Linear(WIDTH, 256)), fill_weights(nn.Linear(WIDTH, 128))
    both = torch.cat((offsets.weight, weights.weight)).detach(), torch.cat((offsets.bias, weights.bias)).detach()

    def one_product() -> Piece:
        return lambda x: F.linear(x, *both).split((256, 128), -1)[-1].contiguous()

    yield "offsets and weights", memory, lambda x: (offsets(x), weights(x))[-1].contiguous(), [
        Idea("one product for both", "1.05x", one_product)
    ]  # fmt: skip
    shapes = torch.tensor([[image.shape[2] // stride, image.shape[3] // stride] for stride in (8, 16, 32, 64)])
    centres, logits = torch.rand(1, rows, 1, 2), torch.randn(1, rows, HEADS, 4 * POINTS)

    def places(ops: str) -> Piece:
        def piece(x: Tensor) -> Any:
            with use_ops(ops):
                return sampling_points(x, logits, centres, shapes)

        return piece

    yield "places and weights of samples", torch.randn(1, rows, HEADS, 4, POINTS, 2), places("reference"), [
        Idea("one compiled pass", "9x", lambda: places("auto"))
    ]  # fmt: skip


def last(answer: Any) -> Tensor:
    return answer if isinstance(answer, Tensor) else answer[-1]


def measured(piece: Piece, x: Tensor) -> float:
    """Milliseconds of processor time."""
    begun = time.process_time()
    piece(x)
    return 1000 * (time.process_time() - begun)


def main() -> None:
    """Print a table for each piece."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="800x1333", help="height x width of the image")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    print(f"joint_r50, {height} x {width}, float32: {processor()}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads, "
          f"commit {commit_here()}, load {os.getloadavg()[0]:.1f}; processor time, ms")  # fmt: skip
    with torch.no_grad():
        for name, x, plain, ideas in pieces((height, width)):
            wanted = last(plain(x))
            print(f"{name:<42}{'predicted':>20}{'plain':>9}{'idea':>9}{'found':>8}  {'spread':<13}{'apart':>9}")
            for idea in ideas:
                try:
                    piece = idea.make()
                    apart = float((last(piece(x)) - wanted).abs().max() / wanted.abs().max())
                    piece(x)
                except ImportError as error:
                    print(f"{idea.name:<42}{idea.predicted:>20}  not installed: {error.name}")
                    continue
                times = [(measured(plain, x), measured(piece, x)) for _ in range(arguments.rounds)]
                ratios = sorted(before / after for before, after in times)
                before, after = (statistics.median(column) for column in zip(*times, strict=True))
                print(f"{idea.name:<42}{idea.predicted:>20}{before:>9.0f}{after:>9.0f}"
                      f"{statistics.median(ratios):>7.2f}x  {ratios[0]:.2f} to {ratios[-1]:.2f} {apart:>9.1e}",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
