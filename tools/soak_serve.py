"""A hundred clients on a server of its own, on loopback: good requests, bad ones, hang-ups. What came back is counted.

Right: the predictor's own rows (names, parents, boxes within half a pixel, scores within 0.01), or the refusal that a
bad request must get. Busy: 503, to be tried again. Wrong: anything else that was answered. Crashed: no answer.
"""

from __future__ import annotations

import asyncio
import io
import json
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from PIL import Image

from partglee import Prediction, Predictor
from partglee.basics.arguments import ArgumentParser

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ("astronaut", "officer", "photographer")
QUESTIONS = ("person: hair, eye, nose, mouth; car: wheel", "person; dog; tie", "person: head, arm, hand")
BAD: tuple[tuple[str, dict[str, Any], tuple[str, ...]], ...] = (
    ("no image", {"files": {"image": b"this is no image"}}, ("no_image",)),
    ("cut off", {"files": {"image": b""}}, ("image_unreadable",)),  # half a photo is put in
    ("25 MB", {"files": {"image": bytes(25_000_000)}}, ("too_large",)),
    ("bomb", {"files": {"image": b""}}, ("too_many_pixels",)),  # 400 megapixels in a few bytes are put in
    ("1000 names", {"data": {"vocabulary": ";".join(f"name {n}" for n in range(1000))}}, ("too_many_names",)),
    ("unknown names", {"data": {"vocabulary": "qzxv wkqj", "strict": "true"}}, ("names_unknown",)),
    ("a path", {"data": {"vocabulary": "/etc/names.yaml"}}, ("vocabulary_unreadable",)),
)


class Good(NamedTuple):
    """A request and what the predictor says."""

    photo: bytes
    vocabulary: str
    expected: Prediction


class Server(NamedTuple):
    """A server of our own."""

    process: subprocess.Popen[str]
    address: str

    def memory(self) -> float:
        """MiB that it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


def start(weights: str) -> Server:
    command = [sys.executable, "-m", "partglee", "serve", weights, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    for line in process.stdout:
        if " at http" in line:
            return Server(process, line.split(" at ")[1].split(";")[0])
    raise SystemExit("the server did not start")


def good_requests(weights: str) -> list[Good]:
    predictor = Predictor.from_pretrained(weights)
    found = []
    for name in PHOTOS:
        file = ROOT / "docs" / "photos" / f"{name}.jpg"
        for names in QUESTIONS:
            found.append(Good(file.read_bytes(), names, predictor(file, names)))
    return found


def with_bytes(good: Good) -> dict[str, bytes]:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((20000, 20000), dtype=bool)).save(stream, format="PNG")
    return {"cut off": good.photo[: len(good.photo) // 2], "bomb": stream.getvalue()}


def is_right(answer: dict[str, Any], expected: Prediction) -> bool:
    found = Prediction.from_json(json.dumps(answer))
    if found.names != expected.names or found.parent.tolist() != expected.parent.tolist():
        order = [sorted(zip(one.names, one.boxes.round().tolist(), strict=True)) for one in (found, expected)]
        return order[0] == order[1]  # rows of nearly one score may change places
    near = (found.boxes - expected.boxes).abs().max() < 0.5 if len(found) else True
    return bool(near and (not len(found) or (found.scores - expected.scores).abs().max() < 0.01))


class Clients:
    """All of them, with what they have seen."""

    def __init__(self, server: Server, good: list[Good], *, until: float) -> None:
        self.server = server
        self.good = good
        self.bytes = with_bytes(good[0])
        self.until = until
        self.seen: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.seconds: list[float] = []

    async def run(self, number: int) -> None:
        dice = random.Random(number)
        async with httpx.AsyncClient(base_url=self.server.address, timeout=120) as client:
            while time.monotonic() < self.until:
                chance, begun = dice.random(), time.monotonic()
                try:
                    if chance < 0.7:
                        result, kind = await self._good(client, dice.choice(self.good)), "good"
                    elif chance < 0.9:
                        result, kind = await self._bad(client, dice)
                    else:
                        result, kind = await self._hang_up(dice.choice(self.good), dice), "hung up"
                except httpx.HTTPError as error:
                    asked = "good" if chance < 0.7 else "bad" if chance < 0.9 else "hung up"
                    result, kind = "crashed", f"{asked}, {error!r} after {time.monotonic() - begun:.1f} s"
                self.seen[result] += 1
                self.kinds[f"{kind}: {result}"] += 1
                if result == "busy":
                    await asyncio.sleep(1 + dice.random())

    async def _good(self, client: httpx.AsyncClient, asked: Good) -> str:
        begun = time.monotonic()
        files, data = {"image": ("a.jpg", asked.photo)}, {"vocabulary": asked.vocabulary}
        answer = await client.post("/v1/parse", files=files, data=data)
        if answer.status_code == 503:
            return "busy"
        self.seconds.append(time.monotonic() - begun)
        return "right" if answer.status_code == 200 and is_right(answer.json(), asked.expected) else "wrong"

    async def _bad(self, client: httpx.AsyncClient, dice: random.Random) -> tuple[str, str]:
        kind, request, codes = dice.choice(BAD)
        good = dice.choice(self.good)
        files = {"image": self.bytes[kind]} if kind in self.bytes else request.get("files", {"image": good.photo})
        answer = await client.post("/v1/parse", files=files, data=request.get("data", {"vocabulary": good.vocabulary}))
        if answer.status_code == 503:
            return "busy", kind
        return "right" if answer.is_client_error and answer.json()["error"]["code"] in codes else "wrong", kind

    async def _hang_up(self, asked: Good, dice: random.Random) -> str:
        """A client that leaves while it waits."""
        files, data = {"image": asked.photo}, {"vocabulary": asked.vocabulary}
        async with httpx.AsyncClient(base_url=self.server.address, timeout=0.1 + dice.random()) as client:
            try:
                answer = await client.post("/v1/parse", files=files, data=data)
            except httpx.TimeoutException:
                return "left"
        return "busy" if answer.status_code == 503 else "right" if answer.status_code == 200 else "wrong"


async def soak(server: Server, good: list[Good], *, clients: int, seconds: float) -> tuple[Clients, list[float]]:
    everyone = Clients(server, good, until=time.monotonic() + seconds)
    memory: list[float] = []

    async def watch() -> None:
        while True:
            memory.append(server.memory())
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(everyone.run(number) for number in range(clients)))
    watching.cancel()
    return everyone, memory


def main() -> int:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="partglee-tiny")
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--warm-up", type=float, default=15, help="seconds before memory and answers are looked at")
    arguments = parser.parse_args()
    good = good_requests(arguments.weights)
    server = start(arguments.weights)
    try:
        asyncio.run(soak(server, good, clients=arguments.clients, seconds=arguments.warm_up))
        everyone, memory = asyncio.run(soak(server, good, clients=arguments.clients, seconds=arguments.seconds))
        alive = httpx.get(f"{server.address}/health", timeout=60).status_code == 200
        metrics = httpx.get(f"{server.address}/metrics", timeout=60).text
    finally:
        server.process.terminate()
        server.process.wait(60)
    report(everyone, memory, metrics, alive=alive)
    return 0 if alive and not everyone.seen["wrong"] and not everyone.seen["crashed"] else 1


def report(everyone: Clients, memory: list[float], metrics: str, *, alive: bool) -> None:
    seen, seconds = everyone.seen, sorted(everyone.seconds)
    print(", ".join(f"{seen[name]} {name}" for name in ("right", "busy", "left", "wrong", "crashed")))
    for kind, count in sorted(everyone.kinds.items()):
        print(f"  {count:5d}  {kind}")
    if len(seconds) > 2:
        cuts = statistics.quantiles(seconds, n=20)
        middle = statistics.median(seconds)
        print(f"answers: {len(seconds)}, median {middle:.1f} s, 5-95 % {cuts[0]:.1f}-{cuts[-1]:.1f} s")
    third = max(1, len(memory) // 3)
    first, last = statistics.median(memory[:third]), statistics.median(memory[-third:])
    print(f"memory: {first:.0f} MiB in the first third, {last:.0f} in the last, {max(memory):.0f} at most")
    for line in metrics.splitlines():
        if line.startswith(("partglee_batch_images_sum", "partglee_batch_images_count", "partglee_dropped_total")):
            print(f"  {line}")
    print("the server is alive" if alive else "the server is gone")


if __name__ == "__main__":
    raise SystemExit(main())
