"""Images by address: fetched within limits of size and time, over http and https alone."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO
from urllib.parse import urlsplit

from partglee import __version__

MAX_BYTES = 64 * 2**20
TIMEOUT = 20.0  # seconds without an answer
MOST_SECONDS = 120.0  # for the whole file
_BLOCK = 1 << 16


def is_url(source: object) -> bool:
    """Whether a source is an address, of whatever kind: "https://host/photo.jpg"."""
    return isinstance(source, str) and "://" in source


@contextmanager
def fetched(
    url: str, *, max_bytes: int = MAX_BYTES, timeout: float = TIMEOUT, most_seconds: float = MOST_SECONDS
) -> Iterator[Path]:
    """The file at an address, as a file that is there until the block ends.

    >>> with fetched("https://host/photo.jpg") as file:  # doctest: +SKIP
    ...     pixels = read_image(file)

    Args:
        max_bytes: larger files are refused, by what the server says of them or when that much has come.
        timeout: seconds to wait for an answer, and for each piece of it.
        most_seconds: for all of it.

    Raises:
        ValueError: for an address that is neither http nor https, an answer other than the file, a file that is too
            large or comes too slowly, and a host that cannot be reached.
    """
    if urlsplit(url).scheme.lower() not in ("http", "https"):
        raise ValueError(f"cannot fetch '{url}': addresses begin with http:// or https://; download it first")
    with TemporaryDirectory(prefix="partglee_") as folder:
        file = Path(folder) / (Path(urlsplit(url).path).name[-80:] or "image")
        try:
            with _OPENER.open(_request(url), timeout=timeout) as answer, file.open("wb") as stream:
                _copy(answer, stream, max_bytes=max_bytes, until=time.monotonic() + most_seconds)
        except urllib.error.HTTPError as error:
            raise ValueError(f"cannot fetch '{url}': the server answers {error.code} {error.reason}") from error
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            slow = isinstance(reason, TimeoutError)
            said = f"no answer within {timeout:g} seconds" if slow else str(reason) or type(reason).__name__
            raise ValueError(f"cannot fetch '{url}': {said}; check the address, or download it first") from error
        yield file


def _request(url: str) -> urllib.request.Request:
    return urllib.request.Request(url, headers={"User-Agent": f"partglee/{__version__}", "Accept": "image/*,*/*;q=0.5"})


def _copy(answer: IO[bytes], stream: IO[bytes], *, max_bytes: int, until: float) -> None:
    said = getattr(answer, "length", None)  # by the server; None where it does not say
    if said is not None and said > max_bytes:
        raise ValueError(f"it has {said:,} bytes, more than the limit of {max_bytes:,}")
    came = 0
    while block := answer.read(_BLOCK):
        came += len(block)
        if came > max_bytes:
            raise ValueError(f"it has more than the limit of {max_bytes:,} bytes")
        if time.monotonic() > until:
            raise ValueError(f"it comes too slowly: {came:,} bytes when time was up")
        stream.write(block)
    if said is not None and came < said:
        raise ValueError(f"it was cut off: {came:,} of {said:,} bytes came")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """urllib's own also follows to ftp."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        if urlsplit(newurl).scheme.lower() not in ("http", "https"):
            raise ValueError(f"it leads to '{newurl}', which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """Without the handlers of files, ftp and data addresses."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(), _SafeRedirects(),
        urllib.request.UnknownHandler(),
    ):  # fmt: skip
        opener.add_handler(handler)
    return opener


_OPENER = _opener()
