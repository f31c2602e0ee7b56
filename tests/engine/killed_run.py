"""A small training run in a process of its own, which dies without warning.

`killed_run.py FOLDER STEP`: SIGKILL when half of the optimiser's state of step STEP is on the disk. With STEP 0 it
trains, with a checkpoint at every step, until somebody else kills it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from training_samples import run_small, small_config

save = torch.save


def save_half(content: Any, file: Path) -> None:
    """Write half of a file and die, if this is the step."""
    save(content, file)
    if content["iteration"] == step:
        os.truncate(file, file.stat().st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    folder, step = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    torch.save = save_half
    run = ["SOLVER.MAX_ITER", 6] if step else ["SOLVER.MAX_ITER", 100_000, "SOLVER.CHECKPOINT_PERIOD", 1]
    run_small(small_config(folder, run))
