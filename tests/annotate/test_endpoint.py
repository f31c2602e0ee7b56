"""A language model that is busy, talks nonsense or is not there."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from partglee.annotate import Item, Region, Sample, read_recipe
from partglee.annotate.endpoint import Endpoint, read_names
from partglee.annotate.shard import run_items


class Server:
    """Gives what is in `script`, one entry after the other, the last one again and again: a status, or a text."""

    def __init__(self) -> None:
        self.script: list[int | str] = []
        self.retry_after = "0"
        self.let_go = threading.Event()  # what hangs waits for it
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                outer.keys.append(self.headers.get("Authorization"))
                entry = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                if entry == "HANG":
                    outer.let_go.wait(60)
                    return
                if entry == "NO HTTP":
                    self.wfile.write(b"220 smtp ready\r\n")
                    return
                self.send_response(entry if isinstance(entry, int) else 200)
                self.send_header("Retry-After", outer.retry_after)
                self.end_headers()
                if isinstance(entry, str):
                    raw = entry.startswith("RAW")
                    reply = {"choices": [{"message": {"content": entry}}]}
                    self.wfile.write(entry[3:].encode() if raw else json.dumps(reply).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.let_go.set()
    made.http.shutdown()
    made.http.server_close()


def endpoint(server: Server, **values: Any) -> Endpoint:
    return Endpoint(url=server.url, model="m", wait=0.0, **values)


def test_busy_then_nonsense_then_an_answer(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    server.script = [429, 503, "RAW<html>", "I cannot.", 'Sure: ["Wheel", "side_door", "wheel", "car"]']
    names = endpoint(server).ask("parts?", lambda text: read_names(text, besides=["Car"]))
    assert names == ("wheel", "side door")
    assert len(server.asked) == 5 and set(server.keys) == {"Bearer secret"}
    assert "could not be used: expected a JSON list" in server.asked[-1]["messages"][0]["content"]
    assert server.asked[0] == {"model": "m", "temperature": 0, "seed": 0,
                               "messages": [{"role": "user", "content": "parts?"}]}  # fmt: skip


@pytest.mark.parametrize(
    ("script", "told"),
    [([429], "in 3 tries: status 429"), (["no"], "in 3 tries: expected a JSON list"), ([401], "answers 401")],
)
def test_what_never_comes_is_told(server: Server, script: list[int | str], told: str) -> None:
    server.script = script
    with pytest.raises(ValueError, match=told):
        endpoint(server, tries=3).ask("parts?", read_names)


def test_what_hangs_or_is_no_http_is_asked_again(server: Server) -> None:
    server.script = ["HANG", "NO HTTP", 429, '["wheel"]']
    server.retry_after = "nan"
    assert endpoint(server, timeout=5.0, tries=20).ask("parts?", read_names) == ("wheel",)
    assert len(server.asked) >= 4
    server.script = ["HANG"]
    with pytest.raises(ValueError, match=r"in 1 tries: not reachable \(TimeoutError: timed out"):
        endpoint(server, timeout=1.0, tries=1).ask("parts?", read_names)
    server.script = ["NO HTTP"]
    with pytest.raises(ValueError, match=r"not reachable \(BadStatusLine"):
        endpoint(server, tries=1).ask("parts?", read_names)


def test_nobody_there() -> None:
    with pytest.raises(ValueError, match="in 2 tries: not reachable"):
        Endpoint(url="http://127.0.0.1:1/v1", model="m", wait=0.0, tries=2).ask("?", str)
    with pytest.raises(ValueError, match="must begin with http"):
        Endpoint(url="localhost", model="m")


@pytest.mark.parametrize(
    ("text", "told"),
    [("", "JSON list"), ("[1, 2]", "expected names"), ('["a part of the car that turns"]', "is a sentence"),
     ('[["a"]]', "expected names"), (json.dumps([f"part {n}" for n in range(50)]), "at most 40"),
     ('{"a": [}', "JSON list"), ('["..."]', "expected names")],
)  # fmt: skip
def test_nonsense_is_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_names(text)


def test_vocabulary_asks_once_for_each_name(server: Server, tmp_path: Path) -> None:
    server.script = [429, '["wheel", "door"]']
    values = {"parts": "endpoint", "endpoint": {"url": server.url, "model": "m", "wait": 0.0},
              "answers": str(tmp_path / "parts.jsonl")}  # fmt: skip
    for _ in range(2):  # the second time from the file
        stage = read_recipe({"stages": [{"stage": "vocabulary", **values}]}).stages[0]
        stage.open()
        samples = [Sample(image_id=n, file=n, regions=[Region(name="car")]) for n in "ab"]
        stage.run(samples)
        assert [sample.vocabulary for sample in samples] == [{"car": ("wheel", "door")}] * 2
    assert len(server.asked) == 2


def test_an_image_without_an_answer_is_named(server: Server) -> None:
    values = {
        "parts": "endpoint",
        "objects": ["car"],
        "endpoint": {"url": server.url, "model": "m", "wait": 0.0, "tries": 2},
    }
    stage = read_recipe({"stages": [{"stage": "vocabulary", "batch_size": 2, **values}]}).stages[0]
    stage.open()
    server.script = [429, "no", 429, "no", 429, '["wheel"]']  # the batch, then each of its images by itself
    rows = run_items([(n, Item(name, name, {"nothing": 1})) for n, name in enumerate("ab")], [stage], seed=0)
    assert [row["image_id"] for row in rows.images] == ["b"]
    assert [(f.image_id, f.position, f.stage) for f in rows.failures] == [("a", 0, "vocabulary")]
    assert "gave no usable answer in 2 tries: expected a JSON list" in rows.failures[0].reason


def test_captions_and_descriptions(server: Server) -> None:
    image = np.zeros((20, 20, 3), np.uint8)
    sample = Sample(
        image_id="a", file="a", image=image, size=(20, 20), regions=[Region(name="car", box=(0.0, 0.0, 10.0, 20.0))]
    )
    options = {"url": server.url, "model": "m", "wait": 0.0}
    content = {"stages": [{"stage": "caption", "captioner": "endpoint", "options": options},
                          {"stage": "describe", "endpoint": options}]}  # fmt: skip
    caption, describe = read_recipe(content).stages
    caption.open()
    server.script = [" ".join(["word"] * 30), '"The red car."']
    caption.run([sample])
    assert sample.regions[0].caption == "The red car"
    shown = server.asked[0]["messages"][0]["content"]
    assert "[0, 0, 500, 999]" in shown[0]["text"] and shown[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    server.script = ["A <p> car </p> [SEG].", "Here is <p> The red car </p> [SEG],\nparked."]
    describe.run([sample])
    assert sample.descriptions[0].text == "Here is <p> The red car </p> [SEG], parked."
    assert len(server.asked) == 4
