"""What waits for the model, and the one thread that works it off."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from partglee.modeling.postprocess import PostprocessOptions
from partglee.serve.photos import Photo
from partglee.serve.refusals import Refusal
from partglee.structures import Vocabulary

Answers = list[Any]  # one for each vocabulary of a job


@dataclass(frozen=True)
class Question:
    """What is asked about one image; equal questions are answered together."""

    vocabularies: tuple[Vocabulary, ...]
    options: PostprocessOptions
    polygons: bool = False


@dataclass(eq=False)
class Job:
    """One image with its question.

    Attributes:
        until: `time.monotonic` after which nobody waits any more.
    """

    photo: Photo
    question: Question
    until: float
    answers: Future[Answers] = field(default_factory=Future)
    came: float = field(default_factory=time.monotonic)


class Batcher:
    """A bounded queue before a model that answers several jobs at a time.

    Args:
        answer: jobs of one canvas -> the answers of each.
        canvas: what must be equal for jobs to go together.
        size: jobs that wait.
        batch: jobs that go together.
        on_batch: told the number of jobs of each batch.
    """

    def __init__(
        self,
        *,
        answer: Callable[[Sequence[Job]], Sequence[Answers]],
        canvas: Callable[[Photo], object],
        size: int,
        batch: int,
        on_batch: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._answer = answer
        self._canvas = canvas
        self._size = size
        self._batch = batch
        self._on_batch = on_batch
        self._waiting: deque[Job] = deque()
        self._change = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="partglee-model", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._size

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def put(self, job: Job) -> None:
        """Let a job wait.

        Raises:
            Refusal: when the queue is full, or nothing works it off any more.
        """
        with self._change:
            if self._closed:
                raise Refusal(
                    503, "closing", "the server is closing; ask another one, or this one again", retry_after=5
                )
            if self.full:
                raise self.busy()
            self._waiting.append(job)
            self._change.notify()

    def busy(self) -> Refusal:
        return Refusal(
            503, "busy", f"{self._size} requests wait already; try again in a few seconds", retry_after=2
        )  # fmt: skip

    def drop(self, job: Job) -> None:
        """Nobody waits for it any more; what has begun is finished for nothing."""
        job.answers.cancel()
        with self._change:
            if job in self._waiting:
                self._waiting.remove(job)

    def close(self) -> None:
        """End after the batch that has begun; what waits is refused."""
        with self._change:
            self._closed = True
            self._change.notify()
        if self.alive:
            self._thread.join(timeout=60)

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        while jobs := self._next():
            self._on_batch(len(jobs))
            self._settle(jobs)
        while self._waiting:
            _fail(self._waiting.popleft(), Refusal(503, "closing", "the server is closing; ask again", retry_after=5))

    def _next(self) -> list[Job]:
        """The job that has waited longest, with others of its canvas; none when the server closes."""
        with self._change:
            while True:
                while not self._waiting and not self._closed:
                    self._change.wait()
                if self._closed:
                    return []
                self._leave_out_late()
                if self._waiting:
                    canvas = self._canvas(self._waiting[0].photo)
                    same = [job for job in self._waiting if self._canvas(job.photo) == canvas][: self._batch]
                    for job in same:
                        self._waiting.remove(job)
                    begun = [job for job in same if job.answers.set_running_or_notify_cancel()]
                    if begun:
                        return begun

    def _leave_out_late(self) -> None:
        now = time.monotonic()
        for job in [job for job in self._waiting if job.until < now]:
            self._waiting.remove(job)
            job.answers.cancel()

    def _settle(self, jobs: Sequence[Job]) -> None:
        """A batch that fails is tried one by one: what is wrong with one job is not the others' fault."""
        try:
            for job, answers in zip(jobs, self._answer(jobs), strict=True):
                job.answers.set_result(answers)
        except Exception as error:
            if len(jobs) == 1:
                return _fail(jobs[0], error)
            for job in jobs:
                if not job.answers.done():
                    self._settle([job])


def _fail(job: Job, error: Exception) -> None:
    if not job.answers.done():
        job.answers.set_exception(error)
