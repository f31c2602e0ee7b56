"""The page in a real Chromium: a photo in, names with completion, a tree that lights masks, files out, errors."""

from __future__ import annotations

import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from driven_page import page_of, upload
from PIL import Image

from partglee.engine import Predictor
from partglee.structures import Vocabulary


def test_the_page_is_served(client: Any) -> None:
    """Every file that the page names is there, with its type, and nothing of another host."""
    page = client.get("/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    for file in (
        "app.js",
        "opened.js",
        "engine.js",
        "stage.js",
        "tree.js",
        "names.js",
        "masks.js",
        "style.css",
        "icon.svg",
    ):
        answer = client.get(f"/{file}")
        assert answer.status_code == 200, file
        assert "https://" not in answer.text.replace("http://www.w3.org", ""), file
    assert "https://" not in page.text
    assert client.get("/gallery/officer.jpg").headers["content-type"] == "image/jpeg"
    assert client.get("/../app.py").status_code == 404 and client.get("/gallery/..%2f..%2fapp.py").status_code == 404


@pytest.fixture(scope="module")
def address(predictor: Predictor) -> Iterator[str]:
    import uvicorn

    from partglee.serve import Limits, create_app

    app = create_app(
        predictor, name="tiny", vocabulary=Vocabulary({"person": ["arm"], "dog": []}), limits=Limits(seconds=60)
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    with page_of(browser, address) as opened:
        yield opened


@pytest.mark.browser
def test_upload_and_hover(page: Any, image: Callable[..., bytes]) -> None:
    upload(page, image)
    items = page.locator("#tree [role=treeitem]")
    assert items.count() > 0 and "object" in page.locator("#status").inner_text()
    plain = page.locator("#canvas").screenshot()
    items.first.locator(".item").first.hover()
    assert page.locator("#tree .lit").count() == 1
    assert page.locator("#canvas").screenshot() != plain, "hovering a row lights its mask"
    page.mouse.move(5, 5)
    items.first.focus()
    if items.count() > 1:
        page.keyboard.press("ArrowDown")
        assert items.nth(1).evaluate("item => item === document.activeElement")
    page.locator("#threshold").fill("90")
    assert page.locator("#percent").inner_text() == "90 %"
    shown = [int(text.rstrip("%")) for text in page.locator("#tree .score").all_inner_texts()]
    assert all(score >= 90 for score in shown) and page.locator("#none").is_visible() == (not shown)


@pytest.mark.browser
def test_typing_is_completed(page: Any) -> None:
    field = page.locator("#names")
    field.fill("")
    field.press_sequentially("per")
    choices = page.locator("#choices [role=option]")
    choices.first.wait_for()
    assert "person" in choices.all_inner_texts()
    field.press("ArrowDown")
    field.press("Enter")
    field.press_sequentially(": ar")
    choices.first.wait_for()
    choices.first.click()
    assert field.input_value() == "person: arm"


@pytest.mark.browser
def test_files_out(page: Any, image: Callable[..., bytes]) -> None:
    upload(page, image)
    with page.expect_download() as told:
        page.locator("#json").click()
    content = json.loads(Path(told.value.path()).read_text())
    assert told.value.suggested_filename == "mine-parts.json"
    assert (content["height"], content["width"]) == (90, 120) and content["results"]
    assert len(content["results"]) == page.locator("#tree [role=treeitem]").count()
    with page.expect_download() as drawn:
        page.locator("#png").click()
    picture = Image.open(io.BytesIO(Path(drawn.value.path()).read_bytes()))
    assert picture.format == "PNG" and picture.width / picture.height == pytest.approx(120 / 90, rel=0.02)


@pytest.mark.browser
def test_errors_are_told(page: Any, image: Callable[..., bytes]) -> None:
    page.locator("#find").click()
    assert "There is no photo yet" in page.locator("#error").inner_text()
    page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"})
    page.get_by_text("a.txt is not an image").wait_for()
    page.locator("#names").fill("")
    page.locator("#file").set_input_files({"name": "b.png", "mimeType": "image/png", "buffer": image(1)})
    page.locator("#error").wait_for()
    upload(page, image)
    assert page.locator("#error").is_hidden()


_SLOW = """() => {
  const real = createImageBitmap;
  window.createImageBitmap = async (file, how) => {
    if (file.name === "slow.png") await new Promise((resolve) => (window.release = resolve));
    return real(file, how);
  };
}"""


@pytest.mark.browser
def test_of_photos_that_come_quickly_the_last_is_shown(page: Any, image: Callable[..., bytes]) -> None:
    page.evaluate(_SLOW)
    page.locator("#file").set_input_files({"name": "slow.png", "mimeType": "image/png", "buffer": image(1)})
    page.wait_for_function("!!window.release")
    upload(page, image)
    page.evaluate("release()")
    page.wait_for_timeout(300)
    assert page.locator("#canvas").get_attribute("aria-label") == "mine.png" and page.locator("#found").is_visible()


@pytest.mark.browser
def test_an_answer_to_the_photo_before_is_not_shown(page: Any, image: Callable[..., bytes]) -> None:
    held: list[Any] = []
    page.route("**/v1/parse", lambda route: held.append(route))
    with page.expect_request("**/v1/parse"):
        page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": image(1)})
    page.locator("#file").set_input_files({"name": "a.txt", "mimeType": "text/plain", "buffer": b"no image"})
    page.get_by_text("a.txt is not an image").wait_for()
    assert page.locator("#bar").is_hidden(), "nothing is looked for any more"
    answer = {"file_name": "a.png", "height": 90, "width": 120, "results": [], "vocabulary": {}, "notes": []}
    held[0].fulfill(json=answer)
    page.wait_for_timeout(300)
    assert page.locator("#found").is_hidden() and page.locator("#error").is_visible()


@pytest.mark.browser
def test_a_photo_of_the_gallery_that_cannot_be_fetched(page: Any) -> None:
    page.route("**/gallery/*", lambda route: route.abort())
    page.locator("#gallery button").first.click()
    page.get_by_text("officer.jpg could not be fetched").wait_for()
    assert page.locator("#gallery [aria-pressed=true]").count() == 0


@pytest.mark.browser
def test_transparent_is_white_however_often_it_is_drawn(page: Any, image: Callable[..., bytes]) -> None:
    stream = io.BytesIO()
    Image.new("RGBA", (120, 90), (0, 0, 0, 0)).save(stream, format="PNG")
    upload(page, lambda _: stream.getvalue())
    pixels = "[...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data]"
    first = page.evaluate(pixels)
    for least in (40, 5, 40, 5):
        page.locator("#threshold").fill(str(least))
    assert page.evaluate(pixels) == first and min(first[3::4]) == 255
    page.locator("#threshold").fill("100")
    assert set(page.evaluate(pixels)) == {255}, "with no row left the photo alone"


@pytest.mark.browser
def test_a_photo_as_thin_as_a_line(page: Any) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9000, 1), (200, 10, 10)).save(stream, format="PNG")
    upload(page, lambda _: stream.getvalue())
    assert page.locator("#error").is_hidden() and page.evaluate("[canvas.width, canvas.height]") == [2048, 1]


@pytest.mark.browser
def test_a_narrow_phone_scrolls_down_alone(page: Any, image: Callable[..., bytes]) -> None:
    page.set_viewport_size({"width": 320, "height": 700})
    upload(page, image)
    assert page.evaluate("document.documentElement.scrollWidth") == 320
