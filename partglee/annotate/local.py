"""The engine of one machine: worker processes, each with all stages, that take shard after shard.

The driver keeps what is in flight and a few sums, nothing for each row. A worker that hangs past its time limit is
ended and its shard begun again with the suspect images by themselves, so that the one at fault is named; a worker that
dies costs its shard's work, and an image that it died of three times by itself is given up.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

from partglee.annotate.job import Finished, Job, unfinished
from partglee.annotate.shard import READ, WRITE, Work
from partglee.annotate.stage import Stage
from partglee.annotate.worker import BEAT, Pulse, work_on_shards
from partglee.basics.locks import locked_folder

_LOOK = 0.2  # seconds between looks at the workers
_DEATHS = 3  # of workers with one image by itself, until it is given up
_STARTS = 5  # deaths one after the other with nothing finished in between, of as many workers as there are
_READ_LIMIT = 120.0  # seconds to read one image

Progress = Callable[[int, int], None]
"""Told (images through, images failed), of the whole job, now and then."""


class JobStopped(ValueError):
    """The job ends before its end: too many failures, or something that no image is to blame for."""


@dataclass(slots=True)
class Summary:
    """What a run did, and what the job holds now."""

    rows: int = 0  # images in the tables
    regions: int = 0
    failed: int = 0
    ran: int = 0  # images that this run worked on
    seconds: Counter[str] = field(default_factory=Counter)  # of this run, in each stage, over all workers
    restarts: int = 0  # workers that died or hung

    def add(self, finished: Finished, *, sign: int = 1) -> None:
        """Count a finished shard; `sign` -1 takes it out again."""
        self.rows += sign * finished.rows
        self.regions += sign * finished.regions
        self.failed += sign * len(finished.failures)


def run_local(
    job: Job,
    *,
    workers: int = 1,
    threads: int = 1,
    retry_failed: bool = False,
    max_errors: float = 0.1,
    progress: Progress = lambda rows, failed: None,
) -> Summary:
    """Run what is left of a job that is prepared.

    Args:
        workers: processes; each loads all models.
        threads: of each process in numerical libraries; another number may round differently.
        retry_failed: also run images again that failed.
        max_errors: the job stops beyond so many failures; below 1 a share of the images, from 1 on a number.

    Raises:
        JobStopped: with the reason in one line; what is finished stays, and the next run goes on.
        ValueError: for a folder that another run has, or GPUs that are not there.
    """
    devices = _devices(job.recipe.stages, workers)
    with locked_folder(job.folder, "the output folder"):
        job.tidy()
        summary = Summary()
        todo = unfinished(job, retry_failed=retry_failed)
        left, again = set(todo), {}
        for finished in job.markers():
            summary.add(finished)
            if finished.shard in left:
                again[finished.shard] = finished
        limit = max_errors if max_errors >= 1 else max_errors * job.num_images
        driver = _Driver(job, summary, deque(todo), again, limit, threads, progress)
        try:
            driver.run(min(workers, len(todo)), devices)
        finally:
            driver.end()
            job.tidy()  # of workers that were ended while they wrote: where the disk is full, that is room
            job.conclude()
        return summary


class _Member:
    """A worker process, seen from the driver."""

    def __init__(self, job: Job, threads: int, device: str | None) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.beat = context.RawArray("d", BEAT)
        self.device = device
        self.work: Work | None = None
        self.process = context.Process(
            target=work_on_shards, args=(str(job.folder), job.recipe.stages, theirs, self.beat), daemon=True
        )
        numbers = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        with _environment(numbers if device is None else {**numbers, "CUDA_VISIBLE_DEVICES": device}):
            self.process.start()
        theirs.close()

    def pulse(self) -> Pulse:
        """What it is doing."""
        stage, first, last, count, since, rows = self.beat
        return Pulse(int(stage), int(first), int(last), int(count), since, int(rows))

    def end(self) -> None:
        """At once."""
        self.process.kill()
        self.process.join()
        self.pipe.close()


class _Driver:
    def __init__(
        self,
        job: Job,
        summary: Summary,
        todo: deque[int],
        again: dict[int, Finished],
        limit: float,
        threads: int,
        progress: Progress,
    ) -> None:
        self.job, self.summary, self.todo = job, summary, todo
        self.again = again  # shards whose failures run again, as they were
        self.limit, self.threads, self.progress = limit, threads, progress
        self.members: list[_Member] = []
        self.returned: deque[Work] = deque()  # shards of workers that ended, with what was learned
        self.deaths: Counter[int] = Counter()  # of single images in flight
        self.bad_starts = 0

    def run(self, workers: int, devices: Sequence[str]) -> None:
        if not self.todo:
            return
        for number in range(workers):
            self.members.append(_Member(self.job, self.threads, devices[number % len(devices)] if devices else None))
        while self.todo or self.returned or any(member.work is not None for member in self.members):
            ready = wait([member.pipe for member in self.members], timeout=_LOOK)
            for member in [member for member in self.members if member.pipe in ready]:
                self._hear(member)
            for member in list(self.members):
                self._look_at(member)
            running = sum(member.pulse().rows for member in self.members if member.work is not None)
            self.progress(self.summary.rows + running, self.summary.failed)

    def end(self) -> None:
        for member in self.members:
            member.end()
        self.members.clear()

    def _hear(self, member: _Member) -> None:
        try:
            kind, value = member.pipe.recv()
        except Exception:  # it was cut off, perhaps within a message
            self._died(member)
            return
        if kind == "broken":
            raise JobStopped(f"{value} (what is finished stays; the next run goes on)")
        if kind == "done":
            self._done(member, value)
        self._give(member)

    def _done(self, member: _Member, finished: Finished) -> None:
        self.bad_starts = 0
        member.work = None
        earlier = self.again.pop(finished.shard, None)
        if earlier is not None:
            self.summary.add(earlier, sign=-1)
        self.summary.add(finished)
        self.summary.ran += self.job.size(finished.shard) if earlier is None else len(earlier.failures)
        self.summary.seconds.update(finished.seconds)
        if self.summary.failed > self.limit:
            raise JobStopped(
                f"{self.summary.failed} images failed, more than the limit of {self.limit:g}; "
                f"{self.job.folder / 'errors.jsonl'} says why. Mend it and run again with --retry-failed, or raise "
                "--max-errors"
            )

    def _give(self, member: _Member) -> None:
        if self.returned:
            member.work = self.returned.popleft()
        elif self.todo:
            shard = self.todo.popleft()
            failed = self.again[shard].failures if shard in self.again else None
            member.work = Work(shard, only=None if failed is None else {one.position for one in failed})
        else:
            return
        with suppress(OSError):  # of one that has just died, which the next look tells
            member.pipe.send(member.work)

    def _look_at(self, member: _Member) -> None:
        """End a worker that hangs."""
        pulse = member.pulse()
        if member.work is None or pulse.stage == 0:
            return
        allowed = self._limit(pulse.stage) * pulse.images
        if time.monotonic() - pulse.since <= allowed or member.pulse() != pulse:
            return
        positions = list(range(pulse.first, pulse.last + 1))
        if len(positions) == 1:
            reason = f"TimeoutError: not done after {allowed:g} s"
            member.work.given_up[positions[0]] = (self._name(pulse.stage), reason)
        member.work.alone.update(positions)
        self._replace(member)

    def _died(self, member: _Member) -> None:
        pulse = member.pulse()
        if member.work is None or pulse.stage == 0:
            self.bad_starts += 1
            if self.bad_starts >= _STARTS * len(self.members):
                member.process.join()
                status = member.process.exitcode
                raise JobStopped(f"workers end before they finish anything (status {status}); is there enough memory?")
        else:
            positions = list(range(pulse.first, pulse.last + 1))
            if len(positions) == 1:
                self.deaths[positions[0]] += 1
                if self.deaths[positions[0]] >= _DEATHS:
                    del self.deaths[positions[0]]
                    member.process.join()
                    reason = f"its worker died {_DEATHS} times (status {member.process.exitcode})"
                    member.work.given_up[positions[0]] = (self._name(pulse.stage), reason)
            member.work.alone.update(positions)
        self._replace(member)

    def _replace(self, member: _Member) -> None:
        member.end()
        self.summary.restarts += 1
        if member.work is not None:
            self.returned.append(member.work)
        self.members[self.members.index(member)] = _Member(self.job, self.threads, member.device)

    def _limit(self, stage: int) -> float:
        if stage <= 2:
            return _READ_LIMIT
        own = self.job.recipe.stages[stage - 3].time_limit
        return self.job.recipe.time_limit if own is None else own

    def _name(self, stage: int) -> str:
        return (READ, WRITE)[stage - 1] if stage <= 2 else self.job.recipe.stages[stage - 3].name


def _devices(stages: Sequence[Stage], workers: int) -> list[str]:
    """GPUs to hand out to workers one after the other; none where no stage asks for any."""
    needed = max((stage.resources.gpus for stage in stages), default=0.0)
    if needed == 0:
        return []
    import torch

    count = torch.cuda.device_count()
    if needed * workers > count:
        names = ", ".join(stage.name for stage in stages if stage.resources.gpus)
        raise ValueError(
            f"{workers} workers with {needed:g} GPU each ({names}) need {needed * workers:g}, there are {count}; set "
            "gpus: 0 in the recipe, a fraction, or fewer --workers"
        )
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(count)]


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Inside, the environment has these values: for processes that are started there."""
    before: dict[str, Any] = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
