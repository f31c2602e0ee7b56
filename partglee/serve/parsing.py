"""A parse request from its form to its answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from fastapi import Request

from partglee.engine import Predictor
from partglee.serve.answers import Answerer
from partglee.serve.jobs import Batcher, Job, Question
from partglee.serve.limits import Limits
from partglee.serve.metrics import Metrics
from partglee.serve.names import KnownNames
from partglee.serve.photos import Photo, read_photo
from partglee.serve.refusals import Refusal
from partglee.serve.requests import FIELDS, Asked, read_form
from partglee.structures import Vocabulary
from partglee.text.words import Resolved

_log = logging.getLogger(__name__)
_TEXT_BYTES = 200_000  # of one field


class Parsing:
    """Everything around the model that a request passes.

    Args:
        predictor: the model.
        vocabulary: of requests that name none.
    """

    def __init__(self, predictor: Predictor, *, limits: Limits, vocabulary: Vocabulary | None) -> None:
        self.predictor = predictor
        self.limits = limits
        self.vocabulary = vocabulary
        self.names = KnownNames(predictor)
        answerer = Answerer(predictor)
        self.batcher = Batcher(
            answer=answerer,
            canvas=answerer.canvas,
            size=limits.queue,
            batch=limits.batch,
            on_batch=lambda count: self.metrics.batches.observe(count),
        )
        self.metrics = Metrics(waiting=lambda: len(self.batcher))
        self._reading = asyncio.Semaphore(limits.readers)

    def start(self) -> None:
        self.batcher.start()

    def close(self) -> None:
        self.batcher.close()

    @property
    def alive(self) -> bool:
        return self.batcher.alive

    async def __call__(self, request: Request) -> dict[str, Any]:
        """The answer: a line as `Prediction.to_json` writes it, with the vocabulary and notes; of several vocabularies
        `answers`, one for each.

        Raises:
            Refusal: for whatever is wrong with the request, or when the server has too much to do.
        """
        begun = time.monotonic()
        async with request.form(max_files=1, max_fields=len(FIELDS) + self.limits.vocabularies,
                                max_part_size=_TEXT_BYTES) as form:  # fmt: skip
            asked = read_form(form, limits=self.limits, defaults=self.predictor.defaults, vocabulary=self.vocabulary)
            if self.batcher.full:  # before anything is decoded
                raise self.batcher.busy()
            until = time.monotonic() + self.limits.seconds
            gone = asyncio.create_task(_hangs_up(request))
            try:
                answers, readings = await self._answers(asked, until, gone)
            finally:
                gone.cancel()
        self.metrics.seconds.observe(time.monotonic() - begun)
        lines = [
            {**answer, "vocabulary": vocabulary.to_dict(), "notes": list(reading.told())}
            for answer, vocabulary, reading in zip(answers, asked.vocabularies, readings, strict=True)
        ]
        return lines[0] if len(lines) == 1 else {"answers": lines}

    async def _answers(
        self, asked: Asked, until: float, gone: asyncio.Task[None]
    ) -> tuple[list[dict[str, Any]], list[Resolved]]:
        photo, readings = await self._wait(asyncio.create_task(self._read(asked)), until, gone)
        question = Question(tuple(reading.vocabulary for reading in readings), asked.options, asked.polygons)
        job = Job(photo, question, until)
        self.batcher.put(job)
        try:
            return await self._wait(asyncio.wrap_future(job.answers), until, gone), readings
        finally:
            self.batcher.drop(job)

    async def _read(self, asked: Asked) -> tuple[Photo, list[Resolved]]:
        async with self._reading:
            thread = asyncio.ensure_future(asyncio.to_thread(self._read_now, asked))
            try:
                return await asyncio.shield(thread)
            except asyncio.CancelledError:
                await asyncio.wait({thread})  # it cannot be stopped, and reads what the request holds open
                raise

    def _read_now(self, asked: Asked) -> tuple[Photo, list[Resolved]]:
        readings = [self.names.read(vocabulary, strict=asked.strict) for vocabulary in asked.vocabularies]
        image = asked.image
        return read_photo(image.file, name=image.filename, read=self.predictor.read, limits=self.limits), readings

    async def _wait(self, work: asyncio.Future[Any], until: float, gone: asyncio.Task[None]) -> Any:
        """What comes of it, unless the client hangs up or its time is over first."""
        left = max(0.0, until - time.monotonic())
        await asyncio.wait({work, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if work.done() and not work.cancelled():
            return work.result()
        late = work.cancelled() or not gone.done()
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await work
        self.metrics.dropped.labels("late" if late else "hung_up").inc()
        if late:
            raise Refusal(
                503, "late", f"no answer within {self.limits.seconds:g} seconds; try again later", retry_after=5
            )  # fmt: skip
        raise Refusal(499, "hung_up", "the client has hung up")


async def _hangs_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
