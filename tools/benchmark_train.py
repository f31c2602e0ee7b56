"""Images per second and memory of a training step by part, on toy scenes; with and without the native op.

The candidates take turns in one process. Absolute times of a shared machine mean little; compare ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from benchmark_model import commit_here, processor

from partglee.basics.arguments import ArgumentParser
from partglee.config import load_config
from partglee.criterion.matcher import Matcher, PendingMatches
from partglee.data.build import build_train_loader
from partglee.engine.build import build_accelerator, build_trainer
from partglee.engine.trainer import Trainer
from partglee.ops import status, use_ops
from partglee.structures import TrainingBatch
from partglee.testing import TOY_VOCABULARY, register_toy, write_name_table
from partglee.text import backend_kind

PARTS = ("data", "forward", "matching", "losses", "backward", "optimiser", "other")


class Clock:
    """Seconds by part of a step, by wrapping what the trainer calls. Waits for the device at every border."""

    def __init__(self, trainer: Trainer, *, processor_time: bool = False) -> None:
        self._now = time.process_time if processor_time else time.perf_counter
        self.device = trainer.accelerator.device
        self.times: dict[str, float] = defaultdict(float)
        step = trainer.accelerator.unwrap_model(trainer.step)
        self._wrap(step.model, "forward", "forward")
        self._wrap(step, "criterion", "criterion")
        self._wrap(trainer.accelerator, "backward", "backward")
        self._wrap(trainer.optimizer, "step", "optimiser")
        self._wrap(Matcher, "start", "matching")
        self._wrap(PendingMatches, "result", "matching")

    def _wrap(self, owner: Any, name: str, part: str) -> None:
        original = getattr(owner, name)

        def timed(*arguments: Any, **options: Any) -> Any:
            start = self.now()
            result = original(*arguments, **options)
            self.times[part] += self.now() - start
            return result

        setattr(owner, name, timed)

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return self._now()

    def step(self, trainer: Trainer, stream: Iterator[TrainingBatch]) -> dict[str, float]:
        """Milliseconds of one step."""
        self.times.clear()
        start = self.now()
        record = trainer.run_step(stream)
        total = self.now() - start
        trainer.iteration += 1
        if record.skipped:
            raise ValueError(f"a step was skipped ({record.skipped}); times would mean nothing")
        times = {**self.times, "data": record.data_seconds}
        times["losses"] = times.pop("criterion") - times["matching"]
        times["other"] = total - sum(times.values())
        return {part: 1000 * times.get(part, 0.0) for part in PARTS}


def configure(arguments: argparse.Namespace, folder: Path) -> Any:
    """The configuration with toy scenes of the size that it trains at, or with its own data sets."""
    cfg = load_config(arguments.config, arguments.overrides)
    height, width = arguments.size or cfg.INPUT.TRAIN.SIZE
    cfg.DATASETS.TEST = []
    cfg.INPUT.TRAIN.SIZE, cfg.INPUT.TRAIN.MODE = [height, width], "jitter"
    cfg.SOLVER.BATCH_SIZE, cfg.SOLVER.PRECISION = arguments.batch, arguments.precision
    cfg.OUTPUT_DIR = str(folder / "run")
    if arguments.own_data:
        return cfg
    register_toy("toy_benchmark", size=(height, width))
    cfg.DATASETS.TRAIN, cfg.DATASETS.RATIOS, cfg.DATASETS.REPEAT_THRESHOLDS = ["toy_benchmark"], [], []
    if backend_kind(cfg).reads_table:
        names = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts]
        cfg.MODEL.TEXT.TABLE.FILE = str(write_name_table(folder / "names.npz", names, width=cfg.MODEL.TEXT.TABLE.WIDTH))
    return cfg


def main() -> None:
    """Print the table and write JSON beside it."""
    parser = ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--size", type=lambda text: [int(v) for v in text.split("x")], help="height x width")
    parser.add_argument("--batch", type=int, default=2, help="images of a step")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="no", choices=("no", "bf16", "fp16"))
    parser.add_argument("--ops", default="reference,auto", help="comma list; the first is the baseline")
    parser.add_argument("--own-data", action="store_true", help="DATASETS.TRAIN of the config in place of toy scenes")
    parser.add_argument("--processor-time", action="store_true", help="of the process, where others run beside it")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", default="benchmark_train.json")
    parser.add_argument("overrides", nargs="*", metavar="KEY VALUE")
    arguments = parser.parse_args()
    ops = arguments.ops.split(",")
    samples: dict[str, list[dict[str, float]]] = defaultdict(list)
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        cfg = configure(arguments, Path(folder))
        alone = loading(cfg, arguments.rounds)
        accelerator = build_accelerator(cfg, cpu=arguments.device == "cpu")
        trainer = build_trainer(cfg, accelerator, lambda step: build_train_loader(cfg, start_step=step))
        clock = Clock(trainer, processor_time=arguments.processor_time)
        stream = iter(build_train_loader(cfg))
        for round_ in range(arguments.rounds + 1):  # the first warms up
            for choice in ops:
                if arguments.device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                with use_ops(choice):
                    sample = clock.step(trainer, stream)
                if round_:
                    samples[choice].append(sample)
                if arguments.device == "cuda":
                    memory[choice] = torch.cuda.max_memory_allocated() / 2**20
    report(arguments, ops, samples, memory, alone)


def loading(cfg: Any, rounds: int) -> float:
    """Images per second of the loader alone, on the configured workers, after they have started."""
    stream = iter(build_train_loader(cfg))
    for _ in range(2 * max(1, cfg.DATALOADER.NUM_WORKERS) + 2):  # also what was made ahead of time
        next(stream)
    start = time.perf_counter()
    for _ in range(4 * rounds):
        next(stream)
    return float(4 * rounds * cfg.SOLVER.BATCH_SIZE / (time.perf_counter() - start))


def report(
    arguments: argparse.Namespace,
    ops: list[str],
    samples: dict[str, list[dict[str, float]]],
    memory: dict[str, float],
    alone: float,
) -> None:
    """Table on the screen, everything in the file."""
    hardware = torch.cuda.get_device_name() if arguments.device == "cuda" else processor()
    print(f"{arguments.config} {arguments.size or ''}, {arguments.batch} images, {arguments.precision}: {hardware}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {torch.get_num_threads()} threads, "
          f"commit {commit_here()}, load {os.getloadavg()[0]:.1f}; ops: {status()}")  # fmt: skip
    print(f"{'ms, median':<14}" + "".join(f"{choice:>24}" for choice in ops))
    for part in PARTS:
        middle = [statistics.median(s[part] for s in samples[choice]) for choice in ops]
        print(f"{part:<14}" + "".join(f"{value:>24.1f}" for value in middle))
    totals = {choice: [sum(s.values()) for s in samples[choice]] for choice in ops}
    middle = [statistics.median(totals[choice]) for choice in ops]
    print(f"{'step':<14}" + "".join(f"{value:>16.1f} ({middle[0] / value:.2f}x)" for value in middle))
    print(f"{'spread':<14}" + "".join(f"{min(totals[c]):>15.0f} to {max(totals[c]):<5.0f}" for c in ops))
    print(f"{'images/s':<14}" + "".join(f"{1000 * arguments.batch / value:>24.2f}" for value in middle))
    ratio = alone / (1000 * arguments.batch / min(middle))
    print(f"data loading alone: {alone:.1f} images/s, {ratio:.1f} times the fastest step")
    if memory:
        print(f"{'peak MB':<14}" + "".join(f"{memory[choice]:>24.0f}" for choice in ops))
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"peak resident memory of the process: {peak:.0f} MB")
    content = {"candidates": samples, "hardware": hardware, "commit": commit_here(), "loading": alone, "memory": memory}
    Path(arguments.output).write_text(json.dumps(content))


if __name__ == "__main__":
    main()
