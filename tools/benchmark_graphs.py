"""Milliseconds of the network on a GPU, kernel by kernel and as one CUDA graph, in turns."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from benchmark_model import commit_here, make_model

from partglee.basics.arguments import ArgumentParser
from partglee.engine.cuda_graphs import GraphedNetwork
from partglee.engine.precision import PRECISIONS, autocast
from partglee.structures import ModelOutput


def main() -> None:
    """Print medians, spreads and the ratio."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="joint_r50")
    parser.add_argument("--size", default="800x1333", help="height x width of the images")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--names", type=int, default=80, help="names in the vocabulary, three parts for each object")
    parser.add_argument("--vocabulary", help="a real one instead: a built-in name, a file, or text")
    parser.add_argument("--precision", choices=sorted(PRECISIONS), default="bfloat16")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", default="benchmark_graphs.json", help="a name table is put beside it")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("CUDA graphs need a GPU, and torch.cuda.is_available() is False")
    arguments.channels_last = False
    device = torch.device("cuda")
    model, vocabulary = make_model(arguments, device)
    height, width = (int(side) for side in arguments.size.split("x"))
    images = model.batch([torch.rand(3, height, width) * 255 for _ in range(arguments.batch)]).tensor
    text = model.embed(vocabulary)
    network = GraphedNetwork(model=model, text=text, precision=arguments.precision)

    @torch.no_grad()
    def eager() -> ModelOutput:
        with autocast(device, arguments.precision):
            output: ModelOutput = model(images, text)
        return output

    apart = (network(images).objects.layers[-1].logits - eager().objects.layers[-1].logits).abs().max()
    times: dict[str, list[float]] = {"eager": [], "graph": []}
    for number in range(arguments.rounds + 3):
        for name, of in times.items():
            start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            network(images) if name == "graph" else eager()
            stop.record()
            torch.cuda.synchronize()
            if number >= 3:
                of.append(start.elapsed_time(stop))
    print(f"{arguments.config}, {arguments.batch} of {arguments.size}, {arguments.precision}; "
          f"{torch.cuda.get_device_name()}, torch {torch.__version__}, commit {commit_here()}")  # fmt: skip
    for name, of in times.items():
        print(f"{name:6} {statistics.median(of):8.2f} ms ({min(of):.2f} to {max(of):.2f})")
    print(f"ratio  {statistics.median(a / b for a, b in zip(times['eager'], times['graph'], strict=True)):8.2f}")
    print(f"logits are at most {float(apart):.1e} apart")
    Path(arguments.output).with_suffix(".names.npz").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
