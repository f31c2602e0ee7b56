"""Language models behind an OpenAI-compatible address: asked again when they are busy or answer nonsense."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from partglee.annotate.sample import Pixels

Answer = TypeVar("Answer")
_BUSY = (408, 425, 429, 500, 502, 503, 504)


class Endpoint:
    """Chat completions at an address, such as vLLM, Ollama or a provider gives them.

    Args:
        url: up to `/v1`; `/chat/completions` is added.
        model: the name that the server knows.
        key: environment variable with the key, sent as a bearer token; a variable that is not set sends none.
        tries: of one question, over a busy server and nonsense together.
        wait: seconds before the second try, doubled with each further one; a server's `Retry-After` comes first.
        timeout: seconds for one answer.
    """

    def __init__(
        self,
        *,
        url: str,
        model: str,
        key: str = "OPENAI_API_KEY",
        tries: int = 5,
        wait: float = 1.0,
        timeout: float = 60.0,
        seed: int = 0,
    ) -> None:
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, got {url!r}")
        if tries < 1 or wait < 0 or timeout <= 0:
            raise ValueError(f"expected tries >= 1, wait >= 0, timeout > 0, got {tries}, {wait}, {timeout}")
        self.url, self.model, self.key = url.rstrip("/"), model, key
        self.tries, self.wait, self.timeout, self.seed = tries, wait, timeout, seed

    def ask(self, question: str, read: Callable[[str], Answer], *, image: Pixels | None = None) -> Answer:
        """One answer.

        Args:
            read: the text of an answer to what is wanted; ValueError for nonsense, which is asked again and told.
            image: shown with the question.

        Raises:
            ValueError: when the server refuses, or all tries ended busy, unreachable or in nonsense (the last is told).
        """
        asked, problem = question, ""
        for attempt in range(self.tries):
            pause = self.wait * 2**attempt
            try:
                text = self._complete(asked, image)
                return read(text)
            except urllib.error.HTTPError as error:
                if error.code not in _BUSY:
                    raise ValueError(f"{self.url} answers {error.code}: {error.read(200)!r:.200}") from error
                problem = f"status {error.code}"
                pause = _retry_after(error, pause)
            except (OSError, http.client.HTTPException) as error:  # of urllib too, and of replies that are no HTTP
                problem = f"not reachable ({type(error).__name__}: {error})"
            except ValueError as error:
                problem = str(error)
                asked = f"{question}\n\nThe last answer could not be used: {error}. Answer in the form asked for."
                pause = 0.0
            if attempt + 1 < self.tries:
                time.sleep(pause)
        raise ValueError(f"{self.url} gave no usable answer in {self.tries} tries: {problem}")

    def _complete(self, question: str, image: Pixels | None) -> str:
        content: Any = question
        if image is not None:
            picture = {"type": "image_url", "image_url": {"url": _data_url(image)}}
            content = [{"type": "text", "text": question}, picture]
        body = {
            "model": self.model, "temperature": 0, "seed": self.seed, "messages": [{"role": "user", "content": content}]
        }  # fmt: skip
        headers = {"Content-Type": "application/json"}
        if token := os.environ.get(self.key):
            headers["Authorization"] = f"Bearer {token}"
        request = urllib.request.Request(f"{self.url}/chat/completions", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as reply:
            raw = reply.read(1 << 22)
        try:
            text = json.loads(raw)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise ValueError(f"the reply is no chat completion ({error!r:.80})") from error
        if not isinstance(text, str):
            raise ValueError(f"the reply holds no text but {type(text).__name__}")
        return text


def _retry_after(error: urllib.error.HTTPError, otherwise: float) -> float:
    try:
        told = float(error.headers.get("Retry-After", otherwise))
    except ValueError:  # a date
        return otherwise
    return min(told, 300.0) if told >= 0 else otherwise


def _data_url(image: Pixels) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def read_names(text: str, *, most: int = 40, words: int = 4, besides: Sequence[str] = ()) -> tuple[str, ...]:
    """A JSON list of names out of an answer, which may stand among other words or in a code block.

    Args:
        most: names that a sound answer may have.
        words: of a name.
        besides: names that are no answer, such as the object whose parts were asked for; left out.

    Raises:
        ValueError: for an answer without a list, or with something in it that is no name.
    """
    first, last = text.find("["), text.rfind("]")
    try:
        names = json.loads(text[first : last + 1]) if 0 <= first < last else None
    except (ValueError, RecursionError):
        names = None
    if not isinstance(names, list):
        raise ValueError(f"expected a JSON list of names, got {text!r:.80}")
    if len(names) > most:
        raise ValueError(f"expected at most {most} names, got {len(names)}")
    seen: dict[str, None] = {}
    for name in names:
        if not isinstance(name, str) or not any(sign.isalpha() for sign in name):
            raise ValueError(f"expected names, got {name!r:.60}")
        clean = " ".join(name.lower().replace("_", " ").split()).strip(" .,;")
        if len(clean.split()) > words or any(sign in clean for sign in "\n{}[]<>:"):
            raise ValueError(f"{name!r:.60} is a sentence, not a name of at most {words} words")
        if clean not in {other.lower() for other in besides}:
            seen.setdefault(clean)
    return tuple(seen)
