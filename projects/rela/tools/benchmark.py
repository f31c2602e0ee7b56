"""What ten expressions of one image cost, against one: `python tools/benchmark.py --config rela_swint rela_toy`.

Weights are random, which costs the same. Prints the machine, versions, the commit, and for each configuration and place
of words the median and the spread of one and of ten expressions, image included, and their ratio: wall time, and the
processor time of this process, which other work disturbs less. Both are measured in turns, so that a busy machine slows
both. The ratio is the median over the turns of each turn's own.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import rela
import torch

from partglee.ops import status

EXPRESSIONS = [
    "the two people on the left", "everyone but the blue shirt", "a zebra", "the red car", "both dogs", "all cups",
    "the largest boat", "the bicycle without a saddle", "the man in the middle", "the second bottle",
]  # fmt: skip


def main() -> int:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", nargs="+", default=["rela_swint"], help="names or files")
    parser.add_argument("--place", nargs="+", default=["backbone", "memory", "none"], help="MODEL.FUSION.PLACE")
    parser.add_argument("--repeat", type=int, default=7, help="runs of each, after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--at-once", type=int, default=16, help="expressions through the decoders together")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{platform.processor() or platform.machine()}, {arguments.threads} threads, {arguments.device}; "
          f"torch {torch.__version__}, python {platform.python_version()}, commit {_commit()}")  # fmt: skip
    print(f"deformable attention: {status()}")
    for config in arguments.config:
        for place in arguments.place:
            for clock, times in measure(config, place, arguments).items():
                one, ten = times
                ratio = statistics.median(b / a for a, b in zip(one, ten, strict=True))
                print(f"{config}, words in {place}, {clock}: one {_told(one)}, ten {_told(ten)}, ratio {ratio:.2f}",
                      flush=True)  # fmt: skip
    return 0


def measure(config: str, place: str, arguments: argparse.Namespace) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of one and of ten expressions, run by run, on each clock."""
    words = ["MODEL.TEXT.BERT.PRETRAINED", "", "MODEL.TEXT.BERT.VOCABULARY", "toy"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = rela.Predictor.from_config(
            config, device=arguments.device, overrides=[*words, "MODEL.FUSION.PLACE", place, "MODEL.WEIGHTS", ""]
        )
    predictor.expressions_at_once = arguments.at_once
    photo = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in clocks}
    for run in range(arguments.repeat + 1):
        for place_of, count in enumerate((1, 10)):
            start = {name: clock() for name, clock in clocks.items()}
            predictor(photo, EXPRESSIONS[:count])
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            if run:
                for name, clock in clocks.items():
                    times[name][place_of].append(clock() - start[name])
    return times


def _told(times: list[float]) -> str:
    return f"{1000 * statistics.median(times):.0f} ms ({1000 * min(times):.0f} to {1000 * max(times):.0f})"


def _commit() -> str:
    asked = ["git", "rev-parse", "--short", "HEAD"]
    try:
        return subprocess.run(
            asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


if __name__ == "__main__":
    sys.exit(main())
