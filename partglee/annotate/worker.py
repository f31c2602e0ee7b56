"""A process that works on shards, one after the other, until its pipe closes."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from partglee.annotate.extras import of_tables
from partglee.annotate.job import open_job
from partglee.annotate.shard import READ, WRITE, JobError, Work, finish, run_items
from partglee.annotate.stage import Stage
from partglee.basics.disk import DiskFull

BEAT = 6  # numbers that a worker shares with the driver: see `Pulse`


class Pulse(NamedTuple):
    """What a worker is doing, as the driver sees it without asking."""

    stage: int  # 0 = nothing that may hang, 1 = reading, 2 = writing, 3 + n = stage n
    first: int  # position in the input list
    last: int
    images: int  # of `first` to `last`
    since: float  # time.monotonic
    rows: int  # images of the current shard that are through


def work_on_shards(folder: str, stages: Sequence[Stage], pipe: Connection, beat: Any) -> None:
    """Main function of the process. Receives `Work`, answers ("done", Finished) or ("broken", why); first "ready".

    Args:
        beat: `BEAT` shared numbers, a `Pulse`.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    name = WRITE
    try:
        job = open_job(folder)
        of_tables(job.recipe.tables)  # seconds, which the first shard would seem to take
        for stage in stages:
            name = stage.name
            stage.open()
    except Exception as error:
        pipe.send(("broken", f"{name} does not start: {type(error).__name__}: {error}"))
        return
    pipe.send(("ready", None))
    names = {READ: 1, WRITE: 2, **{stage.name: 3 + place for place, stage in enumerate(stages)}}

    def tell(stage: str, positions: Sequence[int]) -> None:
        beat[0] = 0  # a driver that looks in between sees nothing that may hang
        beat[1], beat[2], beat[3], beat[4] = positions[0], positions[-1], len(positions), time.monotonic()
        beat[0] = names[stage]

    def tell_rows(rows: int) -> None:
        beat[0], beat[5] = 0, rows

    with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
        while True:
            work: Work = pipe.recv()
            try:
                items = [entry for entry in job.items(work.shard) if work.only is None or entry[0] in work.only]
                rows = run_items(
                    items, stages, seed=job.recipe.seed, work=work, keep_content=job.recipe.webdataset, beat=tell,
                    finished=tell_rows,
                )  # fmt: skip
                beat[0] = 0
                finished = finish(job, work, rows)
            except (JobError, DiskFull, MemoryError, OSError) as error:
                pipe.send(("broken", str(error) or type(error).__name__))
                return
            beat[5] = 0
            pipe.send(("done", finished))


def _end_with_parent() -> None:
    """A driver that is killed takes its workers along: the folder may be another driver's a moment later."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
