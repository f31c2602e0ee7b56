"""Runs that are killed again and again, at random moments, and resumed: `kill_many.py FOLDER KILLS WORKERS SEED`.

Every run is a forked child of this one warm process. Half of the kills come from outside after a random time; half from
inside, at a random operation on files: in the middle of saves and removals of checkpoints. Prints JSON: kills, runs
that were finished, those that differ from the run that nobody killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from partglee.checkpoint import read_weights
from partglee.cli import main as partglee
from partglee.testing import TOY_VOCABULARY, write_name_table, write_toy_dataset

STEPS = 8
OPERATIONS = 25 * STEPS  # on files, about as many as a run has
_COUNTED = ("replace", "unlink", "rmdir", "fsync", "mkdir", "open")


def arguments(folder: Path, output: Path, workers: int) -> list[str]:
    """`partglee train` on eight toy scenes, a checkpoint at every step, two of them kept, averaged weights."""
    scenes = [{"NAME": "scenes", "ANNOTATIONS": str(folder / "toy/annotations.json"), "IMAGES": str(folder / "toy")}]
    values: list[Any] = [
        "MODEL.EMBED_DIM", 32, "MODEL.FFN_DIM", 32, "MODEL.NUM_HEADS", 4, "MODEL.EARLY_FUSION.INNER_DIM", 16,
        "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.PART_DECODER.NUM_LAYERS", 1,
        "MODEL.QFORMER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_QUERIES", 10, "MODEL.OBJECT_DECODER.NUM_PARSED", 4,
        "MODEL.QFORMER.NUM_QUERIES", 3, "MODEL.DENOISING.NUM_QUERIES", 6, "MODEL.TEXT.TABLE.WIDTH", 16,
        "MODEL.BACKBONE.NAME", "test_efficientnet", "MODEL.WEIGHTS", "", "MODEL.TEXT.TABLE.FILE", folder / "names.npz",
        "INPUT.TRAIN.SIZE", [64, 64], "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 96,
        "CRITERION.NUM_POINTS", 64, "DATALOADER.NUM_WORKERS", workers, "DATASETS.CUSTOM", scenes,
        "DATASETS.TRAIN", ["scenes"], "DATASETS.TEST", [], "TEST.BEST", "",
        "SOLVER.MAX_ITER", STEPS, "SOLVER.BATCH_SIZE", 2,
        "SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 1, "SOLVER.KEEP_CHECKPOINTS", 2, "SOLVER.EMA_DECAY", 0.9,
        "OUTPUT_DIR", output,
    ]  # fmt: skip
    return ["train", "--config-file", "finetune_example", "--num-gpus", "0", "--resume", *map(str, values)]


def kill_at(operation: int) -> None:
    """Count what this process does with files, and die at one of them: before it, or when half is written."""
    count = 0

    def counted(do: Callable[..., Any], *given: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == operation:
            os.kill(os.getpid(), signal.SIGKILL)
        return do(*given, **options)

    def save_half(content: Any, file: Path) -> None:
        nonlocal count
        count += 5
        save(content, file)
        if count - 5 < operation <= count:
            os.truncate(file, file.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    for name in _COUNTED:
        setattr(os, name, partial(counted, getattr(os, name)))
    save, torch.save = torch.save, save_half


def run(given: list[str], log: Path, *, operation: int = 0, seconds: float = 0.0) -> int:
    """The run in a child; its status, negative for a signal."""
    child = os.fork()
    if not child:
        status = 99
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1), os.dup2(handle, 2)
            if operation:
                kill_at(operation)
            status = partglee(given)
        finally:
            os._exit(status)
    end = time.monotonic() + seconds
    while seconds and time.monotonic() < end:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break
        time.sleep(0.002)
    else:
        if seconds:
            os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def result(output: Path) -> Any:
    """Losses and gradient norms by step, and the final weights, raw and averaged."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    losses = [
        {k: v for k, v in line.items() if k.startswith(("loss/", "gradient_norm", "iteration"))} for line in lines
    ]
    return losses, *(read_weights(output / f"model_final{name}.safetensors") for name in ("", "_ema"))


def same(a: Any, b: Any) -> bool:
    """Bit for bit."""
    weights = zip(a[1:], b[1:], strict=True)
    return a[0] == b[0] and all(x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x) for x, y in weights)


def main(folder: Path, kills: int, workers: int, seed: int) -> dict[str, Any]:
    """Kill, resume, compare."""
    write_toy_dataset(folder / "toy", 8, 3, (64, 96))
    write_name_table(folder / "names.npz", [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts], width=16)
    log, whole = folder / "log.txt", folder / "whole"
    start = time.monotonic()
    assert run(arguments(folder, whole, workers), log) == 0, log.read_text()[-3000:]
    longest = time.monotonic() - start
    expected, rng = result(whole), random.Random(seed)
    made = {"outside": 0, "inside": 0}
    finished, different = 0, []
    while sum(made.values()) < kills or finished == 0:
        output = folder / f"killed_{finished}"
        while True:
            plan: dict[str, Any] = {}
            if sum(made.values()) < kills:
                inside = bool(rng.getrandbits(1))
                plan = {"operation": rng.randrange(1, OPERATIONS)} if inside else {"seconds": rng.random() * longest}
            status = run(arguments(folder, output, workers), log, **plan)
            if status == 0:
                break
            assert status == -signal.SIGKILL, f"status {status} after {made}: {log.read_text()[-3000:]}"
            made["inside" if "operation" in plan else "outside"] += 1
        finished += 1
        if not same(result(output), expected):
            different.append(output.name)
    return {"kills": made, "finished": finished, "different": different, "seconds of a run": round(longest, 1)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    place, *numbers = sys.argv[1:]
    print(json.dumps(main(Path(place), *map(int, numbers))))
