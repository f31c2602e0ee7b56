"""Bad requests get one sentence, and the server lives on."""

from __future__ import annotations

import io
import json
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from partglee.cli import main
from partglee.engine import Predictor
from partglee.serve import Limits, create_app, serve

Post = Callable[..., tuple[int, str, str]]


@pytest.fixture
def post(client: TestClient, image: Callable[..., bytes]) -> Iterator[Post]:
    """Status, code and message of a request; a good one must still be answered afterwards."""

    def send(data: bytes | None = None, **fields: Any) -> tuple[int, str, str]:
        files = {"image": ("a.png", image() if data is None else data)}
        answer = client.post("/v1/parse", files=files, data={"vocabulary": "person: arm", **fields})
        error = answer.json()["error"]
        assert set(error) == {"code", "message"} and len(error["message"]) > 20
        return answer.status_code, error["code"], error["message"]

    yield send
    good = client.post("/v1/parse", files={"image": image()}, data={"vocabulary": "person: arm"})
    assert good.status_code == 200, "the server lives on"
    assert client.get("/health").status_code == 200


def png_of(width: int, height: int) -> bytes:
    """A PNG that claims a size, in a few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "status", "code", "told"),
    [
        (b"", 422, "image_empty", "0 bytes"),
        (b"this is no image at all", 422, "no_image", "convert it to JPEG or PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422, "no_image", "PS-Adobe"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 422, "no_image", "svg"),
        (png_of(1000, 1000), 413, "too_many_pixels", "1000 x 1000"),
        (png_of(60000, 60000), 413, "too_many_pixels", "make it smaller"),
        (png_of(100, 100), 422, "image_unreadable", "damaged or cut off"),
        (b"x" * 1_500_000, 413, "too_large", "1 MB"),
    ],
    ids=["empty", "text", "eps", "svg", "pixels", "bomb", "cut off", "too large"],
)  # fmt: skip
def test_uploads(post: Post, data: bytes, status: int, code: str, told: str) -> None:
    found = post(data)
    assert found[:2] == (status, code) and told in found[2]
    assert "/tmp" not in found[2] and "partglee-" not in found[2], "no path of the server is told"


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"vocabulary": ""}, "vocabulary_unreadable", "is empty"),
        ({"vocabulary": ", ".join(f"name {n}" for n in range(1000))}, "too_many_names", "50 objects, got 1000"),
        ({"vocabulary": "dog: " + ", ".join(f"p{n}" for n in range(99))}, "too_many_names", "60 parts, got 99"),
        ({"vocabulary": "x" * 500}, "name_too_long", "100 letters"),
        ({"vocabulary": "x" * 50_000}, "vocabulary_too_long", "got 50,000"),
        ({"vocabulary": "qzxv; wqkj"}, "names_unknown", "/v1/vocabulary"),
        ({"vocabulary": "puppy", "strict": "true"}, "names_unknown", "puppy"),
        ({"vocabulary": "car: wheel: door"}, "vocabulary_unreadable", "two ':'"),
        ({"vocabulary": "{nonsense"}, "vocabulary_unreadable", "brackets"),
        ({"vocabulary": '{"dog": "head"}'}, "vocabulary_unreadable", "list of names"),
        ({"vocabulary": "[" * 5000}, "vocabulary_unreadable", "JSON"),
        ({"vocabulary": "[1, 2]"}, "vocabulary_unreadable", "name"),
        ({"vocabulary": "lvis"}, "too_many_names", "got 1203"),
        ({"vocabulary": ["cat"] * 9}, "too_many_vocabularies", "8 vocabularies"),
        ({"score_threshold": "high"}, "number_wrong", "from 0.05 to 1"),
        ({"score_threshold": "0"}, "number_wrong", "from 0.05 to 1"),
        ({"score_threshold": "nan"}, "number_wrong", "from 0.05 to 1"),
        ({"max_objects": "9999"}, "number_wrong", "from 1 to 100"),
        ({"masks": "png"}, "masks_wrong", "rle, polygons, none"),
        ({"strict": "maybe"}, "switch_wrong", "true or false"),
        ({"threshold": "0.2"}, "field_unknown", "score_threshold"),
    ],
    ids=lambda value: str(value)[:24],
)  # fmt: skip
def test_fields(post: Post, fields: dict[str, Any], code: str, told: str) -> None:
    status, found, message = post(**fields)
    assert (status, found) == (413 if "long" in found and "vocab" in found else 422, code) and told in message


def test_no_path_or_address_of_a_client_is_opened(
    post: Post, client: TestClient, image: Callable[..., bytes], folder: Path
) -> None:
    secret = folder / "secret.yaml"
    secret.write_text("person: [arm]\n")
    for text in (str(secret), "names.yaml", "https://example.org/names", "file:///etc/hosts.json"):
        status, code, message = post(vocabulary=text)
        assert (status, code) == (422, "vocabulary_unreadable") and "opens no files" in message
    photo = folder / "photo.png"
    photo.write_bytes(image())
    for text in (str(photo), "https://example.org/a.jpg"):
        answer = client.post("/v1/parse", data={"image": text, "vocabulary": "cat"})
        assert answer.status_code == 422 and "not opened" in answer.json()["error"]["message"]
    answer = client.post("/v1/parse", files={"image": (str(photo), b"none")}, data={"vocabulary": "cat"})
    assert answer.json()["error"]["code"] == "no_image"
    good = client.post("/v1/parse", files={"image": ("../../etc/a.png", image())}, data={"vocabulary": "cat"})
    assert good.json()["file_name"] == "a.png"


def test_requests_that_are_no_forms(client: TestClient) -> None:
    for answer in (
        client.post("/v1/parse"),
        client.post("/v1/parse", json={"image": "x"}),
        client.post("/v1/parse", content=b"--x", headers={"content-type": "multipart/form-data; boundary=y"}),
        client.post("/v1/parse", content=b"x", headers={"content-type": "multipart/form-data"}),
        client.post("/v1/parse", files=[("image", b"a"), ("image", b"b")]),
        client.get("/v1/parse"),
        client.get("/no/such"),
        client.get("/v1/vocabulary", params={"limit": "many"}),
        client.get("/v1/vocabulary", params={"limit": 1000}),
        client.get("/v1/vocabulary", params={"prefix": "x" * 1000}),
    ):
        assert 400 <= answer.status_code < 500, answer.text
        assert len(answer.json()["error"]["message"]) > 10
    assert client.get("/health").status_code == 200


def test_two_hundred_megabytes_are_refused_without_being_kept(predictor: Predictor) -> None:
    """A body of unknown length: it is counted as it comes."""
    blocks = 0

    def body() -> Iterator[bytes]:
        nonlocal blocks
        yield b'--b\r\ncontent-disposition: form-data; name="image"; filename="a.jpg"\r\n\r\n'
        for _ in range(200):
            blocks += 1
            yield b"x" * 1_000_000

    with TestClient(create_app(predictor)) as client:
        told = {"content-type": "multipart/form-data; boundary=b"}
        answer = client.post("/v1/parse", content=body(), headers=told)
        assert answer.status_code == 413 and "20 MB" in answer.json()["error"]["message"]
        answer = client.post("/v1/parse", content=b"x" * 10, headers={**told, "content-length": "200000000"})
        assert answer.status_code == 413 and "200.0 MB came" in answer.json()["error"]["message"]
        assert client.get("/health").status_code == 200


def test_a_full_queue_and_a_late_answer(predictor: Predictor, image: Callable[..., bytes]) -> None:
    """The model is held while requests come in."""
    app = create_app(predictor, limits=Limits(queue=1, batch=1, seconds=1.0))
    held, begun, batcher = threading.Event(), threading.Event(), app.state.parsing.batcher
    whole = batcher._answer

    def slow(jobs: Any) -> Any:
        begun.set()
        held.wait(60)
        return whole(jobs)

    batcher._answer = slow
    answers: dict[str, Any] = {}

    def ask(client: TestClient, name: str) -> None:
        answers[name] = client.post("/v1/parse", files={"image": image()}, data={"vocabulary": "cat"})

    with TestClient(app) as client:
        first = threading.Thread(target=ask, args=(client, "first"))
        first.start()
        assert begun.wait(60)
        second = threading.Thread(target=ask, args=(client, "second"))
        second.start()
        while not batcher.full:
            assert second.is_alive()
        ask(client, "third")
        assert answers["third"].status_code == 503 and answers["third"].headers["retry-after"]
        assert answers["third"].json()["error"]["code"] == "busy"
        first.join(60)
        second.join(60)
        for name in ("first", "second"):
            assert answers[name].status_code == 503 and answers[name].json()["error"]["code"] == "late"
        assert len(batcher) == 0, "nobody waits for it any more"
        held.set()
        app.state.parsing.limits.__dict__["seconds"] = 60.0
        ask(client, "fourth")
        assert answers["fourth"].status_code == 200


def test_an_error_of_the_model_is_one_requests_own(predictor: Predictor, image: Callable[..., bytes]) -> None:
    app = create_app(predictor)
    batcher = app.state.parsing.batcher
    whole = batcher._answer
    poison = image(7)

    def fragile(jobs: Any) -> Any:
        if any(job.photo.file_name == "poison.png" for job in jobs):
            raise RuntimeError("out of memory")
        return whole(jobs)

    batcher._answer = fragile
    with TestClient(app, raise_server_exceptions=False) as client:
        bad = client.post("/v1/parse", files={"image": ("poison.png", poison)}, data={"vocabulary": "cat"})
        assert bad.status_code == 500 and bad.json()["error"]["code"] == "failed"
        assert "memory" not in bad.text, "what happens inside is for the log"
        good = client.post("/v1/parse", files={"image": poison}, data={"vocabulary": "cat"})
        assert good.status_code == 200 and client.get("/health").status_code == 200


def test_truncated_and_damaged_images(post: Post, image: Callable[..., bytes]) -> None:
    whole = image(kind="JPEG")
    status, code, _ = post(whole[: len(whole) // 2])
    assert (status, code) == (422, "image_unreadable")
    animated = io.BytesIO()
    Image.new("P", (9, 9)).save(animated, format="GIF")
    assert post(animated.getvalue()[:14])[0] == 422


def test_messages_are_json_of_one_form(client: TestClient) -> None:
    assert json.loads(client.get("/nothing").text)["error"]["code"] == "http"


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none(predictor: Predictor, port: int) -> None:
    with pytest.raises(ValueError, match="from 0 to 65535"):
        serve(predictor, port=port)


@pytest.mark.parametrize("limit", ["nan", "inf", "0", "-3"])
def test_an_upload_limit_that_is_none(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", f"--max-upload={limit}"]) == 2
    assert "--max-upload must be a number of megabytes above 0, got" in capsys.readouterr().err
