"""What a server answers is what the predictor says; several at once too."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from partglee.engine import Predictor
from partglee.serve import Limits, create_app
from partglee.structures import Prediction

ASKED = "person: arm, lower leg; dog: head, tail; cat"
LOW = 0.05


def parse(client: TestClient, data: bytes, vocabulary: Any = ASKED, **fields: Any) -> dict[str, Any]:
    answer = client.post(
        "/v1/parse",
        files={"image": ("a.png", data)},
        data={"vocabulary": vocabulary, "score_threshold": LOW, **fields},
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def same(answer: dict[str, Any], expected: Prediction, *, scores: float = 1e-5) -> None:
    """In a batch sums have another order: a pixel of a mask may flip, and move its score by a little."""
    found = Prediction.from_json(json.dumps(answer))
    assert found.names == expected.names and found.image_size == expected.image_size
    assert torch.equal(found.parent, expected.parent) and torch.equal(found.level, expected.level)
    torch.testing.assert_close(found.boxes, expected.boxes, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.scores, expected.scores, atol=scores, rtol=0)
    assert found.masks is not None and expected.masks is not None
    assert (found.masks != expected.masks).float().mean() < 1e-4


def pixels(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_the_answer_is_the_predictors(client: TestClient, predictor: Predictor, image: Callable[..., bytes]) -> None:
    data = image(3)
    answer = parse(client, data)
    expected = predictor(pixels(data), ASKED, score_threshold=LOW)
    assert len(expected) > 3 and expected.parts_of(expected.objects()[0]) is not None
    same(answer, expected)
    assert answer["file_name"] == "a.png" and answer["notes"] == []
    assert answer["vocabulary"] == {"person": ["arm", "lower leg"], "dog": ["head", "tail"], "cat": []}


def test_many_clients_at_once_get_their_own_answers(
    client: TestClient, predictor: Predictor, image: Callable[..., bytes]
) -> None:
    sizes = [(90, 120), (120, 90), (64, 64)]
    questions = [ASKED, "person: arm", "cat, dog"]
    asked = [(image(n, size=sizes[n % 3]), questions[n % 2 + n % 3 // 2]) for n in range(18)]
    with ThreadPoolExecutor(18) as pool:
        answers = list(pool.map(lambda pair: parse(client, *pair), asked))
    for (data, names), answer in zip(asked, answers, strict=True):
        same(answer, predictor(pixels(data), names, score_threshold=LOW), scores=1e-3)
    told = client.get("/metrics").text
    batches = float(told.split("partglee_batch_images_count ")[1].split("\n")[0])
    assert 3 <= batches < 18, "some went together"


def test_several_vocabularies_cost_one_encoding(
    client: TestClient, predictor: Predictor, image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    from partglee.serve import answers as module

    calls: list[int] = []
    whole = module.encode_images

    def counted(model: Any, images: Any, **options: Any) -> Any:
        calls.append(len(images))
        return whole(model, images, **options)

    monkeypatch.setattr(module, "encode_images", counted)
    data = image(4)
    answer = parse(client, data, ["person: arm", "cat", ASKED])
    assert calls == [1] and len(answer["answers"]) == 3
    for one, names in zip(answer["answers"], ("person: arm", "cat", ASKED), strict=True):
        same(one, predictor(pixels(data), names, score_threshold=LOW))


def test_json_vocabularies_defaults_and_thresholds(client: TestClient, image: Callable[..., bytes]) -> None:
    assert parse(client, image(), json.dumps({"dog": ["head"], "cat": None}))["vocabulary"] == {
        "dog": ["head"],
        "cat": [],
    }
    assert parse(client, image(), '["cat", "dog"]')["vocabulary"] == {"cat": [], "dog": []}
    assert parse(client, image(), [])["vocabulary"] == {"person": ["arm"], "dog": []}
    rows = parse(client, image())["results"]
    middle = sorted(row["score"] for row in rows)[len(rows) // 2]
    best = parse(client, image(), score_threshold=middle)["results"]
    assert 0 < len(best) < len(rows) and all(row["score"] >= middle for row in best)
    assert len([row for row in parse(client, image(), max_objects=1)["results"] if row["level"] == "object"]) == 1


def test_masks_as_polygons_or_not_at_all(client: TestClient, image: Callable[..., bytes]) -> None:
    assert all("segmentation" not in row for row in parse(client, image(), masks="none")["results"])
    rows = parse(client, image(), masks="polygons")["results"]
    outlines = [outline for row in rows for outline in row["segmentation"]]
    assert outlines and all(len(outline) % 2 == 0 and len(outline) >= 6 for outline in outlines)


def test_a_word_that_is_read_as_another_is_told(client: TestClient, image: Callable[..., bytes]) -> None:
    answer = parse(client, image(), "puppy; cat")
    assert answer["notes"] and "'puppy' as 'dog'" in answer["notes"][0]


def test_large_images_have_boxes_and_masks_of_their_own_size(predictor: Predictor, image: Callable[..., bytes]) -> None:
    limits = Limits(mask_pixels=5000)
    data = image(5, size=(180, 240))
    with TestClient(create_app(predictor, limits=limits)) as small, TestClient(create_app(predictor)) as full:
        found, expected = (Prediction.from_json(json.dumps(parse(one, data))) for one in (small, full))
    assert found.image_size == expected.image_size == (180, 240)
    assert len(found) > 0 and abs(len(found) - len(expected)) <= 2
    best = int(expected.scores.argmax())
    twin = int((found.boxes - expected.boxes[best]).abs().sum(1).argmin())
    assert (found.boxes[twin] - expected.boxes[best]).abs().max() < 2
    assert found.masks is not None and expected.masks is not None
    assert (found.masks[twin] == expected.masks[best]).float().mean() > 0.95


def test_jpeg_turned_upright(client: TestClient) -> None:
    stream = io.BytesIO()
    picture = Image.new("RGB", (120, 80), "red")
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(stream, format="JPEG", exif=exif)
    answer = parse(client, stream.getvalue())
    assert (answer["height"], answer["width"]) == (120, 80)


def test_names_are_completed(client: TestClient) -> None:
    def names(**asked: Any) -> list[str]:
        return list(client.get("/v1/vocabulary", params=asked).json()["names"])

    assert names(prefix="p") == ["person"]
    assert names(prefix="LEG") == ["lower leg"]
    assert names(object="dog")[:2] == ["head", "tail"]
    assert names(prefix="h", object="Dog") == ["head"]
    assert names(prefix="zebra") == [] and len(names(limit=2)) == 2


def test_health_info_and_metrics(client: TestClient, image: Callable[..., bytes]) -> None:
    assert client.get("/health").json() == {"status": "ok"}
    info = client.get("/v1/info").json()
    assert info["model"] == "tiny" and info["closed_vocabulary"] and info["vocabulary"]["person"] == ["arm"]
    assert info["limits"]["upload_bytes"] == 1_000_000
    parse(client, image())
    told = client.get("/metrics").text
    assert 'partglee_requests_total{route="/v1/parse",status="200"} 1.0' in told
    assert "partglee_parse_seconds_count 1.0" in told and "partglee_waiting 0.0" in told
