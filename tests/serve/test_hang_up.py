"""A client that hangs up: over a real socket, as TestClient cannot."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn

from partglee.engine import Predictor
from partglee.serve import create_app


@pytest.fixture
def served(predictor: Predictor) -> Iterator[tuple[Any, int]]:
    """An application and its port on loopback."""
    app = create_app(predictor)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield app, listener.getsockname()[1]
    server.should_exit = True
    thread.join(60)
    listener.close()


def request(data: bytes) -> bytes:
    body = (
        b'--b\r\ncontent-disposition: form-data; name="vocabulary"\r\n\r\ncat\r\n'
        b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + data + b"\r\n--b--\r\n"
    )
    head = f"POST /v1/parse HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
    return head.encode() + b"content-type: multipart/form-data; boundary=b\r\nconnection: close\r\n\r\n" + body


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 100
    while not true():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.01)


def test_who_hangs_up_is_dropped_from_the_queue(served: tuple[Any, int], image: Callable[..., bytes]) -> None:
    app, port = served
    batcher, metrics = app.state.parsing.batcher, app.state.parsing.metrics
    held, begun, done = threading.Event(), threading.Event(), []
    whole = batcher._answer

    def slow(jobs: Any) -> Any:
        begun.set()
        held.wait(100)
        done.append(len(jobs))
        return whole(jobs)

    batcher._answer = slow
    stays = socket.create_connection(("127.0.0.1", port))
    stays.sendall(request(image()))
    assert begun.wait(100)
    leaves = [socket.create_connection(("127.0.0.1", port)) for _ in range(3)]
    for one in leaves:
        one.sendall(request(image()))
    until(lambda: len(batcher) == 3)
    for one in leaves:
        one.close()
    until(lambda: len(batcher) == 0)
    assert metrics.registry.get_sample_value("partglee_dropped_total", {"why": "hung_up"}) == 3
    held.set()
    answer = b""
    while block := stays.recv(65536):
        answer += block
    assert answer.startswith(b"HTTP/1.1 200") and done == [1], "what nobody waits for is not computed"
    stays.close()


def test_half_a_request(served: tuple[Any, int], image: Callable[..., bytes]) -> None:
    app, port = served
    half = socket.create_connection(("127.0.0.1", port))
    half.sendall(request(image())[:2000])
    half.close()
    whole = socket.create_connection(("127.0.0.1", port))
    whole.sendall(request(image()))
    assert whole.recv(20).startswith(b"HTTP/1.1 200")
    whole.close()
    assert app.state.parsing.alive
