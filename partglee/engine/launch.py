"""The processes of a run: one for each GPU of this machine, unless torchrun or `accelerate launch` has started them."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.spawn import ProcessExitedException
from torch.multiprocessing.spawn import spawn as spawn_processes

from partglee.basics.signals import STATUS, Terminated, listening

Work = Callable[..., int]


def launch(work: Work, arguments: tuple[Any, ...], *, num_gpus: int | None = None) -> int:
    """Run `work(*arguments)` in one process for each GPU; returns the first status that is not 0.

    Args:
        num_gpus: None or 1 = this process; 0 = this process, on the CPU.

    Raises:
        ValueError: for more GPUs than there are, or a number of them under a launcher.
    """
    launched = "LOCAL_RANK" in os.environ and "WORLD_SIZE" in os.environ
    if num_gpus is None or num_gpus in (0, 1) or launched:
        if launched and num_gpus is not None and num_gpus > 1:
            raise ValueError("--num-gpus is for one machine without a launcher; torchrun and accelerate launch decide")
        return work(*arguments)
    there = torch.cuda.device_count()
    if not 0 <= num_gpus <= there:
        raise ValueError(
            f"--num-gpus {num_gpus}, but there are {there}; several processes on one CPU: "
            f"torchrun --nproc-per-node {max(num_gpus, 1)} tools/train_net.py ..."
        )
    return spawn(work, arguments, num_processes=num_gpus)


def spawn(work: Work, arguments: tuple[Any, ...], *, num_processes: int) -> int:
    """Run `work(*arguments)` in new processes that find each other by the usual environment variables."""
    started = spawn_processes(_child, (work, arguments, num_processes, _free_port()), nprocs=num_processes, join=False)
    try:
        while not started.join():
            pass
    except Terminated:  # sent to this process alone, perhaps
        for child in started.processes:
            child.terminate()
        for child in started.processes:
            child.join()
        raise
    except ProcessExitedException as error:
        return error.exit_code or 1
    return 0


def _child(rank: int, work: Work, arguments: tuple[Any, ...], world_size: int, port: int) -> None:
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE=str(world_size),
        MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
    )  # fmt: skip
    try:
        with listening():
            status = work(*arguments)
    except Terminated:
        status = STATUS
    except (ValueError, TypeError, OSError) as error:
        # The user's mistakes are told in one line, by the first process alone.
        if rank == 0:
            print(f"partglee: {error}", file=sys.stderr)
        status = 2
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    if status:
        sys.exit(status)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
