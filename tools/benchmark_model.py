"""Milliseconds per image by stage, against the same model with the reference op, as ratios.

The candidates run interleaved in one process. Absolute times of a shared machine mean little; compare ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import json
import os
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from partglee.basics.arguments import ArgumentParser
from partglee.config import load_config
from partglee.modeling import PartGLEE, build_model, fold_norms, fuse_convolutions
from partglee.modeling.postprocess import PostprocessOptions, postprocess
from partglee.ops import status, use_ops
from partglee.structures import Vocabulary
from partglee.testing import fill_weights, use_cpu_instruction_set, write_name_table
from partglee.text import backend_kind

STAGES = ("text", "backbone", "fusion", "encoder", "object decoder", "qformer", "part decoder", "masks + post")


class StageClock:
    """Times stages by hooks on the model's parts. `encoder` is the pixel decoder without the fusion block."""

    def __init__(self, model: PartGLEE, device: torch.device) -> None:
        self.device = device
        self.times: dict[str, float] = defaultdict(float)
        self._started: dict[str, float] = {}
        for name, module in (
            ("backbone", model.backbone),
            ("pixel decoder", model.pixel_decoder),
            ("fusion", model.pixel_decoder.fusion),
            ("object decoder", model.object_decoder),
            ("qformer", model.qformer),
            ("part decoder", model.part_decoder),
        ):
            module.register_forward_pre_hook(lambda *_, n=name: self.start(n))
            module.register_forward_hook(lambda *_, n=name: self.stop(n))

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self, name: str) -> None:
        self._started[name] = self.now()

    def stop(self, name: str) -> None:
        self.times[name] += self.now() - self._started[name]

    def read(self) -> dict[str, float]:
        """Milliseconds by stage since the last call."""
        times = {k: 1000 * v for k, v in self.times.items()}
        times["encoder"] = times.pop("pixel decoder", 0.0) - times.get("fusion", 0.0)
        self.times.clear()
        return times


def one_batch(
    model: PartGLEE, clock: StageClock, vocabulary: Vocabulary, images: list[torch.Tensor], context: Any
) -> dict[str, float]:
    """Stages of some images together, the vocabulary cached as a predictor would have it."""
    with torch.inference_mode(), context:
        batch = model.batch(images)
        start = clock.now()
        text = model.embed(vocabulary)
        clock.times["text"] = clock.now() - start
        output = model(batch, text)
        start = clock.now()
        options = PostprocessOptions(score_threshold=0.0, max_objects=20, max_parts_per_object=5)
        postprocess(output, vocabulary, batch, [tuple(image.shape[1:]) for image in images], options)
        clock.times["masks + post"] = clock.now() - start
    return clock.read()


def make_model(arguments: argparse.Namespace, device: torch.device) -> tuple[PartGLEE, Vocabulary]:
    """A filled model, and a vocabulary of the size asked for."""
    if arguments.vocabulary:
        vocabulary = Vocabulary.parse(arguments.vocabulary)
    else:
        count = max(1, arguments.names // 4)
        vocabulary = Vocabulary({f"thing {i}": [f"piece {j}" for j in range(3)] for i in range(count)})
    cfg = load_config(arguments.config, arguments.overrides)
    with tempfile.TemporaryDirectory() as folder:
        if backend_kind(cfg).reads_table:
            names = [*vocabulary.object_prompts, *vocabulary.part_prompts]
            table = write_name_table(Path(folder) / "names.npz", names, width=cfg.MODEL.TEXT.TABLE.WIDTH)
            cfg.MODEL.TEXT.TABLE.FILE = str(table)
        model = fill_weights(build_model(cfg)).eval().to(device)
    if arguments.channels_last:
        model.backbone.to(memory_format=torch.channels_last)
    return model, vocabulary


PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}  # `mixed` has the bfloat16 times but for the backbone


@contextlib.contextmanager
def candidate(ops: str, precision: str, device: torch.device) -> Iterator[None]:
    """Run with one choice of op and precision."""
    dtype = PRECISIONS[precision]
    with use_ops(ops), torch.autocast(device.type, dtype=dtype) if dtype else contextlib.nullcontext():
        yield


def main() -> None:
    """Print the table and write JSON beside it."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="joint_r50")
    parser.add_argument("--size", default="800x1333", help="height x width of the image")
    parser.add_argument("--batch", type=int, default=1, help="images that go through the network together")
    parser.add_argument("--names", type=int, default=80, help="names in the vocabulary, three parts for each object")
    parser.add_argument("--vocabulary", help="a real one instead: a built-in name, a file, or text")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--ops", default="reference,auto", help="comma list; the first is the baseline")
    parser.add_argument("--precision", default="float32", help="comma list of float32, bfloat16")
    parser.add_argument("--compile", action="store_true", help="add candidates with a compiled backbone and decoders")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--folded", action="store_true", help="but for the baseline: convolutions as in a predictor")
    parser.add_argument(
        "--instruction-set",
        help="hold our operators to avx2 or baseline; ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 hold PyTorch's",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", default="benchmark_model.json")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    arguments = parser.parse_args()
    for precision in arguments.precision.split(","):
        if precision not in PRECISIONS:
            parser.error(f"--precision takes a comma list of {', '.join(PRECISIONS)}, got {precision!r}")
    if arguments.instruction_set and not use_cpu_instruction_set(arguments.instruction_set):
        parser.error(
            f"--instruction-set {arguments.instruction_set}: neither known to the operators nor to this processor"
        )
    device = torch.device(arguments.device)
    height, width = (int(v) for v in arguments.size.split("x"))
    generator = torch.Generator().manual_seed(0)
    images = list(torch.randint(0, 256, (arguments.batch, 3, height, width), generator=generator, dtype=torch.uint8))
    model, vocabulary = make_model(arguments, device)
    quick = fold_norms(model.backbone) if arguments.folded else model.backbone
    if arguments.channels_last:
        quick = quick.to(memory_format=torch.channels_last)
    fused = model.pixel_decoder
    if arguments.folded and device.type == "cpu":  # as a predictor does it
        fused = fuse_convolutions(copy.deepcopy(model.pixel_decoder))
    clock = StageClock(model, device)
    with torch.inference_mode():
        start = clock.now()
        model.embed(vocabulary)
        cold = 1000 * (clock.now() - start)
    names = [(o, p, c) for c in ([False, True] if arguments.compile else [False])
             for p in arguments.precision.split(",") for o in arguments.ops.split(",")]  # fmt: skip
    samples: dict[Any, list[dict[str, float]]] = defaultdict(list)
    memory: dict[Any, float] = {}
    stages = (model.backbone, model.pixel_decoder, model.object_decoder.decoder, model.part_decoder.decoder)
    # Once for all rounds; the clock's hooks stay outside. The warm-up round compiles, which can take minutes.
    forwards = {stage: (stage.forward, torch.compile(stage.forward, dynamic=False)) for stage in stages}
    whole = (model.backbone.forward, model.pixel_decoder.forward), (quick.forward, fused.forward)
    for round_ in range(arguments.rounds + 1):  # the first warms up
        for key in names:
            ops, precision, compiled = key
            for stage, (plain, fast) in forwards.items():
                stage.forward = fast if compiled else plain
            if not compiled:
                model.backbone.forward, model.pixel_decoder.forward = whole[key != names[0]]
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(device)
            sample = one_batch(model, clock, vocabulary, images, candidate(ops, precision, device))
            if round_:
                samples[key].append(sample)
            if device.type == "cuda":
                memory[key] = torch.cuda.max_memory_allocated(device) / 2**20
    report(arguments, device, cold, names, samples, memory)


def report(
    arguments: argparse.Namespace,
    device: torch.device,
    cold: float,
    names: list[Any],
    samples: dict[Any, list[dict[str, float]]],
    memory: dict[Any, float],
) -> None:
    """Table on the screen, everything in the file."""
    title = {k: f"{k[0]} {k[1]}{' compiled' if k[2] else ''}" for k in names}
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    names_of = arguments.vocabulary or arguments.names
    print(f"{arguments.config}, {arguments.batch} of {arguments.size}, {names_of}, {device}: {hardware}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads, "
          f"commit {commit_here()}, load {os.getloadavg()[0]:.1f}; ops: {status()}")  # fmt: skip
    median = {k: {s: statistics.median(r.get(s, 0.0) for r in samples[k]) for s in STAGES} for k in names}
    total = {k: [sum(r.get(s, 0.0) for s in STAGES) for r in samples[k]] for k in names}
    print(f"{'stage, ms':<16}" + "".join(f"{title[k]:>26}" for k in names))
    base = names[0]
    for stage in STAGES:
        cells = "".join(f"{median[k][stage]:>17.1f} {_ratio(median[base][stage], median[k][stage]):>8}" for k in names)
        print(f"{stage:<16}{cells}")
    middle = {k: statistics.median(total[k]) for k in names}
    print(f"{'sum':<16}" + "".join(f"{middle[k]:>17.1f} {_ratio(middle[base], middle[k]):>8}" for k in names))
    print(f"{'spread':<16}" + "".join(f"{min(total[k]):>17.1f} to {max(total[k]):<5.0f}" for k in names))
    print(f"text, first time: {cold:.0f} ms")
    if memory:
        print("peak MB         " + "".join(f"{memory[k]:>26.0f}" for k in names))
    else:
        print(
            f"peak resident memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB"
        )
    Path(arguments.output).write_text(
        json.dumps({"candidates": {title[k]: samples[k] for k in names}, "hardware": hardware, "commit": commit_here()})
    )


def _ratio(base: float, value: float) -> str:
    return f"({base / value:.2f}x)" if value > 0.05 else ""


def processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []:
        if line.startswith("model name"):
            return f"{line.split(':')[1].strip()}, {os.cpu_count()} cores"
    return platform.processor()


def commit_here() -> str:
    found = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
