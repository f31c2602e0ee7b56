"""Bounds on a request's body, before anything reads it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from partglee.serve.limits import Limits
from partglee.serve.refusals import Refusal

_THROWN_AWAY = (
    25  # times the limit: so much of a body that is too large is read on, so that its sender hears the answer
)


class BodyLimit:
    """Refuses bodies that are too large or too slow; what has been refused is not kept."""

    def __init__(self, app: ASGIApp, *, limits: Limits) -> None:
        self.app = app
        self.limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        told = dict(scope["headers"]).get(b"content-length", b"")
        if told.isdigit() and int(told) > self.limits.upload_bytes:
            return await self._refuse(receive, send, self._too_large(int(told)))
        body = _Body(receive, self.limits)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            return await self.app(scope, body.receive, watched)
        except _TooLarge:
            refusal = self._too_large(None)
        except _TooSlow:
            refusal = Refusal(
                408, "too_slow",
                f"the request was not complete after {self.limits.seconds:g} seconds; send a smaller image",
            )  # fmt: skip
        if not started:
            await self._refuse(receive, send, refusal)
        return None

    def _too_large(self, size: int | None) -> Refusal:
        limit = self.limits.upload_bytes / 1e6
        came = "more came" if size is None else f"{size / 1e6:.1f} MB came"
        return Refusal(
            413, "too_large",
            f"a request may have {limit:g} MB, {came}; make the image smaller: a long side of 2000 pixels is plenty",
        )  # fmt: skip

    async def _refuse(self, receive: Receive, send: Send, refusal: Refusal) -> None:
        """A sender that still writes would see a broken connection, not the answer: hear it out, within bounds."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._hear_out(receive), self.limits.seconds)
        content = json.dumps(refusal.content).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send(
            {"type": "http.response.start", "status": refusal.status, "headers": [*headers, (b"connection", b"close")]}
        )
        await send({"type": "http.response.body", "body": content})

    async def _hear_out(self, receive: Receive) -> None:
        left, more = _THROWN_AWAY * self.limits.upload_bytes, True
        while more and left > 0:
            message = await receive()
            left -= len(message.get("body", b""))
            more = bool(message.get("more_body", False))


class _TooLarge(Exception):
    pass


class _TooSlow(Exception):
    pass


class _Body:
    """`receive` that counts."""

    def __init__(self, receive: Receive, limits: Limits) -> None:
        self._receive = receive
        self._left = limits.upload_bytes
        self._seconds = limits.seconds
        self._until: float | None = None
        self._whole = False

    async def receive(self) -> Message:
        if self._whole:  # what comes now is that the client hangs up
            return await self._receive()
        loop = asyncio.get_running_loop()
        self._until = self._until or loop.time() + self._seconds
        try:
            message: dict[str, Any] = dict(await asyncio.wait_for(self._receive(), max(0.0, self._until - loop.time())))
        except asyncio.TimeoutError:
            raise _TooSlow from None
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLarge
        self._whole = not message.get("more_body", False)
        return message
