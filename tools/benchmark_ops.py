"""Benchmark of multi-scale deformable attention: one table, ratios against plain grid_sample in the same run.

    python tools/benchmark_ops.py                          # every workload, forward and forward + backward
    python tools/benchmark_ops.py --workloads enc4-b1 --instruction-sets --json out.json

Every candidate is checked against float64 on its own inputs before it is timed. Candidates take turns, round by round;
a sample follows one call that is not counted, lasts at least 0.35 s and is taken again while other processes used more
than 5 % of the machine. Extra memory is the rise of the resident peak of a fresh process. Compare ratios over time, not
milliseconds.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from partglee.basics.arguments import ArgumentParser
from partglee.ops import ms_deform_attn, native, status, use_ops

ROOT = Path(__file__).resolve().parents[1]
HEADS, POINTS = 8, 4
FOUR = [(100, 167), (50, 84), (25, 42), (13, 21)]  # an image of 800 x 1333


class Workload(NamedTuple):
    """What is attended to, and by how many queries (None: the pixels themselves)."""

    images: int
    shapes: list[tuple[int, int]]
    queries: int | None
    channels: int = 32


WORKLOADS = {
    "enc4-b1": Workload(1, FOUR, None),
    "enc4-b2": Workload(2, FOUR, None),
    "enc5-b1": Workload(1, [(200, 334), *FOUR], None),
    "enc-512": Workload(2, [(64, 64), (32, 32), (16, 16), (8, 8)], None),
    "dec300-b1": Workload(1, FOUR, 300),
    "part500-b1": Workload(1, FOUR, 500),
    "dec400-b2": Workload(2, FOUR, 400),
    "tiny": Workload(1, [(32, 32), (16, 16), (8, 8)], None, 16),
}
# The workloads of the bars come first.
DEFAULT = ["enc4-b1", "enc4-b2", "dec300-b1", "part500-b1", "dec400-b2", "enc-512", "tiny"]
# forward, forward + backward of the native float32 path, at least
BARS = {"enc4-b1": (30, 20), "enc4-b2": (16, 16), "dec300-b1": (15, 9), "part500-b1": (15, 9)}


class Inputs(NamedTuple):
    value: Tensor
    shapes: list[tuple[int, int]]
    locations: Tensor
    weights: Tensor


def make_inputs(work: Workload, seed: int) -> Inputs:
    """Encoder: pixel centres, a ring of offsets and noise of one pixel. Decoder: boxes of 0.02 to 0.42."""
    generator = torch.Generator().manual_seed(seed)
    rows, levels = sum(h * w for h, w in work.shapes), len(work.shapes)
    value = torch.randn(work.images, rows, HEADS, work.channels, generator=generator)
    extent = torch.tensor([[w, h] for h, w in work.shapes], dtype=torch.float32)[:, None]
    queries = rows if work.queries is None else work.queries
    size = (work.images, queries, HEADS, levels, POINTS)
    noise = torch.randn(*size, 2, generator=generator)
    if work.queries is None:
        grids = [
            torch.stack(torch.meshgrid(_centres(h), _centres(w), indexing="ij"), -1).flatten(0, 1).flip(-1)
            for h, w in work.shapes
        ]
        angles = torch.arange(HEADS) * (2 * math.pi / HEADS)
        ring = torch.stack([angles.cos(), angles.sin()], -1)
        ring = ring / ring.abs().amax(-1, keepdim=True)
        pixels = ring[:, None, None] * torch.arange(1, POINTS + 1)[:, None] + noise
        locations = torch.cat(grids)[:, None, None, None] + pixels / extent
    else:
        centre = torch.rand(work.images, queries, 1, 1, 1, 2, generator=generator)
        box = 0.02 + 0.4 * torch.rand(work.images, queries, 1, 1, 1, 2, generator=generator)
        locations = centre + 0.5 * box * noise
    # 1e-3 pixels off the lattice, where the derivative in the location jumps.
    place = locations * extent - 0.5
    place = place.floor() + (place - place.floor()).clamp(1e-3, 1 - 1e-3)
    weights = torch.randn(*size[:3], levels * POINTS, generator=generator).softmax(-1).view(size)
    return Inputs(value, work.shapes, ((place + 0.5) / extent).contiguous(), weights)


def _centres(count: int) -> Tensor:
    return (torch.arange(count) + 0.5) / count


def plain_grid_sample(
    value: Tensor, shapes: list[tuple[int, int]], starts: None, locations: Tensor, weights: Tensor
) -> Tensor:
    """The yardstick: the operator as it is commonly written in PyTorch, without our care for NaN and infinity."""
    images, _, heads, channels = value.shape
    queries = locations.shape[1]
    grids = 2 * locations - 1
    parts = value.split([h * w for h, w in shapes], dim=1)
    samples = [
        F.grid_sample(
            part.flatten(2).transpose(1, 2).reshape(images * heads, channels, h, w),
            grids[:, :, :, level].transpose(1, 2).flatten(0, 1),
            align_corners=False,
        )
        for level, ((h, w), part) in enumerate(zip(shapes, parts, strict=True))
    ]
    shares = weights.transpose(1, 2).reshape(images * heads, 1, queries, -1)
    out = (torch.stack(samples, dim=-2).flatten(-2) * shares).sum(-1)
    return out.view(images, heads * channels, queries).transpose(1, 2).contiguous()


class Candidate(NamedTuple):
    """One way to compute: the mode of `use_ops`, the dtype of the value, and for CPU kernels their instructions."""

    name: str
    mode: str | None
    dtype: torch.dtype
    instructions: str | None = None


def candidates(instruction_sets: bool) -> list[Candidate]:
    candidates = [
        Candidate("grid_sample (yardstick)", None, torch.float32),
        Candidate("our grid_sample", "reference", torch.float32),
        Candidate("embedding_bag", "embedding_bag", torch.float32),
    ]
    if native.CPU.loaded:
        best = native.cpu_instruction_set()
        candidates += [
            Candidate("native float32", "native", torch.float32, best),
            Candidate("native bfloat16", "native", torch.bfloat16, best),
            Candidate("native float16", "native", torch.float16, best),
        ]
        if instruction_sets:
            others = [name for name in ("avx2", "baseline") if name != best]
            candidates += [Candidate(f"native float32 {name}", "native", torch.float32, name) for name in others]
    return candidates


def make_run(candidate: Candidate, inputs: Inputs, backward: bool) -> Callable[[], tuple[Tensor, ...]]:
    """A call that returns (out,) or (out, three gradients)."""
    value, locations, weights = inputs.value.to(candidate.dtype), inputs.locations, inputs.weights
    function = plain_grid_sample if candidate.mode is None else ms_deform_attn
    leaves = [t.clone().requires_grad_(backward) for t in (value, locations, weights)]
    generator = torch.Generator().manual_seed(99)
    shape = (value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])
    grad = torch.randn(shape, generator=generator).to(candidate.dtype)

    def call() -> tuple[Tensor, ...]:
        if candidate.instructions:
            native.use_cpu_instruction_set(candidate.instructions)
        with use_ops(candidate.mode or "reference"), torch.set_grad_enabled(backward):
            out = function(leaves[0], inputs.shapes, None, leaves[1], leaves[2])
            return (out, *torch.autograd.grad(out, leaves, grad)) if backward else (out,)

    return call


def check(candidate: Candidate, inputs: Inputs, expected: tuple[Tensor, ...], backward: bool) -> None:
    """Correct before fast: relative error against float64, or no timing."""
    outputs = make_run(candidate, inputs, backward)()
    for index, (f, e) in enumerate(zip(outputs, expected, strict=True)):
        error = float((f.detach().double() - e).norm() / e.norm())
        limit = 1e-5 if index == 0 else 1e-4
        if candidate.dtype != torch.float32:
            limit = 5e-3
        if error > limit:
            raise SystemExit(f"{candidate.name}: result {index} is off by {error:.1e}, allowed {limit:.0e}; not timed")


def busy_seconds() -> float:
    """CPU seconds all processes have used so far."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(word) for word in file.readline().split()[1:]]
    user, nice, system, _, _, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def sample(call: Callable[[], object], seconds: float, tries: int, clock: str) -> tuple[float, float]:
    """(seconds per call, share of the machine that others used meanwhile).

    With ``clock`` "cpu", seconds of this process on a processor: a busy machine changes them less than wall time.
    """
    # Not counted: the candidate before may have made the allocator give memory back, and whoever comes next would pay
    # for touching new pages, tens of milliseconds where a call takes three.
    call()
    best = (math.inf, math.inf)
    for _ in range(tries):
        start, own, busy = time.perf_counter(), time.process_time(), busy_seconds()
        calls = 0
        while time.perf_counter() - start < seconds:
            call()
            calls += 1
        wall = time.perf_counter() - start
        used = time.process_time() - own
        others = busy_seconds() - busy - used
        share = max(0.0, others / (wall * (os.cpu_count() or 1)))
        if share < best[1]:
            best = ((used if clock == "cpu" else wall) / calls, share)
        if share <= 0.05 or clock == "cpu":
            break
    return best


def time_all(
    calls: dict[str, Callable[[], object]], rounds: int, seconds: float, tries: int, clock: str
) -> dict[str, dict[str, float]]:
    for call in calls.values():
        call()
        call()
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            taken[name].append(sample(call, seconds, tries, clock))
    result = {}
    for name, samples in taken.items():
        times = [seconds for seconds, _ in samples]
        result[name] = {
            "median_ms": statistics.median(times) * 1e3,
            "min_ms": min(times) * 1e3,
            "spread": (max(times) - min(times)) / statistics.median(times),
            "others": max(share for _, share in samples),
        }
    return result


def extra_memory(candidate: Candidate, workload: str, backward: bool) -> float:
    """MB that one call adds to the resident peak of a fresh process."""
    command = [sys.executable, __file__, "--memory-of", candidate.name, workload, str(int(backward))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.strip().splitlines()[-1])


def print_extra_memory(name: str, workload: str, backward: bool) -> None:
    candidate = next(c for c in candidates(True) if c.name == name)
    inputs = make_inputs(WORKLOADS[workload], 0)
    call = make_run(candidate, inputs, backward)
    make_run(candidate, make_inputs(WORKLOADS["tiny"], 0), backward)()  # threads, code, small buffers
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = _status_kb("VmRSS")
    call()
    print((_status_kb("VmHWM") - before) / 1024)


def _status_kb(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise SystemExit(f"/proc/self/status has no {field}")


def _first_line(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "-"
    return (done.stdout.strip().splitlines() or ["-"])[0]


def record() -> dict[str, str]:
    """What the numbers depend on."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "cpu family"))]
        cpu = ", family ".join(names[1::-1]) if len(names) > 1 else cpu
    allocator = {k: v for k, v in os.environ.items() if k.startswith(("MALLOC_", "THP_", "LD_PRELOAD"))}
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "cpu": f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none (CUDA kernels compiled only)",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "compiler": _first_line(["c++", "--version"]),
        "instruction set": status()["cpu instruction set"],
        "commit": _first_line(["git", "rev-parse", "--short", "HEAD"])
        + (" with changes" if _first_line(["git", "status", "--porcelain", "-uno"]) != "-" else ""),
        "allocator variables": str(allocator or "none"),
        "load average": " ".join(f"{x:.2f}" for x in os.getloadavg()),
    }


def benchmark(name: str, args: argparse.Namespace) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    everyone = candidates(args.instruction_sets)
    inputs = make_inputs(WORKLOADS[name], args.seed)
    exact = Inputs(inputs.value.double(), inputs.shapes, inputs.locations.double(), inputs.weights.double())
    for backward in (False, True):
        yardstick = Candidate("float64", None, torch.float64)
        expected = tuple(t.detach() for t in make_run(yardstick, exact, backward)())
        for candidate in everyone:
            check(candidate, inputs, expected, backward)
        del expected
        calls: dict[str, Callable[[], object]] = {c.name: make_run(c, inputs, backward) for c in everyone}
        times = time_all(calls, args.rounds, args.seconds, args.tries, args.clock)
        base = times[everyone[0].name]["median_ms"]
        for candidate in everyone:
            found = times[candidate.name]
            row: dict[str, object] = {"workload": name, "pass": "fwd+bwd" if backward else "fwd"}
            row |= {"candidate": candidate.name, **found, "ratio": base / found["median_ms"]}
            if args.memory and (name == "enc4-b1" or args.memory_everywhere):
                row["extra_mb"] = extra_memory(candidate, name, backward)
            rows.append(row)
            print(as_line(row), flush=True)
    return rows


def as_line(row: dict[str, object]) -> str:
    memory = f"{row['extra_mb']:.0f}" if "extra_mb" in row else ""
    return (
        f"| {row['workload']} | {row['pass']} | {row['candidate']} | {row['median_ms']:.2f} | {row['min_ms']:.2f} "
        f"| {row['spread']:.0%} | {row['ratio']:.1f}x | {memory} | {row['others']:.0%} |"
    )


def judge(rows: list[dict[str, object]], threads: int) -> None:
    """Say for each bar whether it is met; the bars are for two threads."""
    if threads != 2:
        print(f"the bars are for --threads 2; of {threads} they say nothing")
        return
    ratio = {(r["workload"], r["pass"], r["candidate"]): float(str(r["ratio"])) for r in rows}
    for workload, bars in BARS.items():
        for step, bar in zip(("fwd", "fwd+bwd"), bars, strict=True):
            found = ratio.get((workload, step, "native float32"))
            if found is not None:
                verdict = "met" if found >= bar else "NOT met"
                print(f"bar {workload} {step}: at least {bar}x, found {found:.1f}x: {verdict}")
    for step, bar in (("fwd", 5), ("fwd+bwd", 1)):
        both = [ratio.get(("enc4-b1", step, name)) for name in ("embedding_bag", "our grid_sample")]
        found = max((x for x in both if x is not None), default=None)
        if found is not None:
            verdict = "met" if found >= bar else "NOT met"
            print(f"bar without compiler enc4-b1 {step}: at least {bar}x, found {found:.2f}x: {verdict}")


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", choices=list(WORKLOADS), default=DEFAULT)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.35, help="length of a sample")
    parser.add_argument("--tries", type=int, default=8, help="samples taken again at most while others are busy")
    parser.add_argument(
        "--clock",
        choices=("wall", "cpu"),
        default="wall",
        help="cpu: time of this process only, for a busy machine; use it with --threads 1",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--instruction-sets", action="store_true", help="also the slower instruction sets")
    parser.add_argument("--no-memory", dest="memory", action="store_false", help="skip the memory measurement")
    parser.add_argument("--memory-everywhere", action="store_true", help="measure memory for every workload")
    parser.add_argument("--json", type=Path, help="write everything here too")
    parser.add_argument("--memory-of", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.memory_of:
        name, workload, backward = args.memory_of
        print_extra_memory(name, workload, backward == "1")
        return
    facts = record()
    facts["clock"] = f"{args.clock}, {args.rounds} rounds"
    for key, text in facts.items():
        print(f"- {key}: {text}")
    print("\n| workload | pass | candidate | median ms | min ms | spread | ratio | extra MB | others |")
    print("|---|---|---|---|---|---|---|---|---|")
    rows = [row for name in args.workloads for row in benchmark(name, args)]
    print()
    judge(rows, args.threads)
    if args.json:
        args.json.write_text(json.dumps({"record": facts, "rows": rows}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
