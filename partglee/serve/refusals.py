"""What a client is told when it does not get what it asked for."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """An answer other than 200.

    Args:
        status: of HTTP.
        code: one word for programs.
        message: a sentence for people: what was expected, what came, what to try.
        retry_after: seconds after which the same request may succeed; None = it will not.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}

    @property
    def content(self) -> dict[str, Any]:
        """The body: `{"error": {"code": ..., "message": ...}}`."""
        return {"error": {"code": self.code, "message": self.message}}


def shown(value: object, limit: int = 60) -> str:
    """What a client sent, short enough for a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
