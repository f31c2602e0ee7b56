"""Images by address, from a server on this machine."""

from __future__ import annotations

import http.server
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partglee.data.web import fetched, is_url
from partglee.engine import Predictor


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


PNG = png()


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.partition("?")[0]
        if name == "/moved.png":
            self._head(302, Location="/photo.png")
        elif name == "/to-a-file":
            self._head(302, Location="file:///etc/hostname")
        elif name == "/to-ftp":
            self._head(302, Location="ftp://127.0.0.1/photo.png")
        elif name == "/round":
            self._head(302, Location="/round")
        elif name == "/photo.png":
            self._head(200, **{"Content-Length": str(len(PNG))})
            self.wfile.write(PNG)
        elif name == "/silent-about-its-length.png":
            self._head(200)
            self.wfile.write(PNG)
        elif name == "/cut.png":
            self._head(200, **{"Content-Length": str(len(PNG))})
            self.wfile.write(PNG[: len(PNG) // 2])
        elif name == "/page.html":
            self._head(200)
            self.wfile.write(b"<!DOCTYPE html><html></html>")
        elif name == "/hangs":
            self.server.released.wait(60)  # type: ignore[attr-defined]
        else:
            self._head(404)

    def _head(self, status: int, **fields: str) -> None:
        self.send_response(status)
        for name, value in fields.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Not on the console of the tests."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.released = threading.Event()  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.released.set()  # type: ignore[attr-defined]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["photo.png?size=large", "moved.png", "silent-about-its-length.png"])
def test_a_file_is_there_until_the_block_ends(site: str, name: str) -> None:
    with fetched(f"{site}/{name}") as file:
        assert file.read_bytes() == PNG
    assert not file.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", "the server answers 404"),
        ("cut.png", "cut off"),
        ("to-a-file", "is not allowed"),
        ("to-ftp", "neither http nor https"),
        ("round", "redirect"),
    ],
)
def test_what_is_no_file(site: str, name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as told, fetched(f"{site}/{name}"):
        pass
    assert f"cannot fetch '{site}/{name}'" in str(told.value)


@pytest.mark.parametrize("name", ["photo.png", "silent-about-its-length.png"])
def test_limits(site: str, name: str) -> None:
    with pytest.raises(ValueError, match="limit of 100"), fetched(f"{site}/{name}", max_bytes=100):
        pass
    with fetched(f"{site}/{name}", max_bytes=len(PNG)) as file:
        assert file.stat().st_size == len(PNG)
    with pytest.raises(ValueError, match="comes too slowly"), fetched(f"{site}/{name}", most_seconds=-1):
        pass


def test_a_server_that_says_nothing(site: str) -> None:
    with pytest.raises(ValueError, match=r"no answer within 0\.2 seconds"), fetched(f"{site}/hangs", timeout=0.2):
        pass


@pytest.mark.parametrize("url", ["ftp://host/a.png", "file:///etc/hostname", "s3://bucket/a.png", "data://x"])
def test_other_addresses(url: str) -> None:
    assert is_url(url) and not is_url("photos/a.png") and not is_url(Path("a.png"))
    with pytest.raises(ValueError, match="begin with http:// or https://"), fetched(url):
        pass


def test_a_host_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="cannot fetch"), fetched("http://127.0.0.1:1/a.png"):
        pass


def test_the_predictor_takes_addresses(site: str, predictor: Predictor) -> None:
    found = predictor(f"{site}/photo.png", "dog: head", score_threshold=0.0)
    assert found.image_size == (40, 60) and found.file_name == f"{site}/photo.png"
    with pytest.raises(ValueError, match=r"page\.html' is not an image") as told:
        predictor(f"{site}/page.html", "dog")
    assert f"'{site}/page.html'" in str(told.value)
