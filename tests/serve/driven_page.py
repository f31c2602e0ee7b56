"""The page in a browser, driven."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def page_of(browser: Any, address: str) -> Iterator[Any]:
    """A page that is ready; an error in one of its scripts fails the test."""
    opened = browser.new_page(viewport={"width": 1200, "height": 800}, accept_downloads=True)
    opened.set_default_timeout(60_000)
    said: list[str] = []
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    opened.locator("#gallery img").first.wait_for()
    yield opened
    opened.close()
    assert not said, said


def upload(page: Any, image: Callable[..., bytes], names: str = "person: arm; dog: head, tail") -> None:
    """A photo of noise, asked for names; what is found is shown from the lowest score on."""
    page.locator("#names").fill(names)
    page.locator("#file").set_input_files({"name": "mine.png", "mimeType": "image/png", "buffer": image(3)})
    page.locator("#found").wait_for()
    page.locator("#threshold").fill("5")
