"""The pictures of docs/serving.md: the page of a running server in Chromium, on desktop and phone, dark, with an error.
Needs playwright (`pip install playwright`) and a Chromium of the system.

    partglee serve --port 8000
    python tools/screenshot_page.py http://127.0.0.1:8000 docs/images
"""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

from PIL import Image

from partglee.basics.arguments import ArgumentParser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 120_000  # milliseconds
VIEWS: dict[str, dict[str, Any]] = {
    "page_desktop": {"viewport": {"width": 1240, "height": 860}},
    "page_dark": {"viewport": {"width": 1240, "height": 860}, "color_scheme": "dark"},
    "page_phone": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
    "page_error": {"viewport": {"width": 1240, "height": 860}},
}


def main() -> int:
    from playwright.sync_api import sync_playwright

    parser = ArgumentParser(description=__doc__)
    parser.add_argument("address")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium") or shutil.which("chromium-browser"))
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=FLAGS)
        for name, view in VIEWS.items():
            page = browser.new_page(**view)
            page.set_default_timeout(PATIENCE)
            page.goto(arguments.address)
            show(page, name)
            raw = page.screenshot(full_page=name == "page_phone")
            file = arguments.folder / f"{name}.jpg"
            Image.open(io.BytesIO(raw)).convert("RGB").save(file, quality=82, optimize=True)
            print(f"{file}: {file.stat().st_size // 1000} kB")
            page.close()
        browser.close()
    return 0


def show(page: Any, name: str) -> None:
    """Bring the page to what the picture is of."""
    page.locator("#gallery img").first.wait_for()
    if name == "page_error":
        page.locator("#names").fill("qzxv: wkqj")
        page.locator("#gallery button").nth(1).click()
        page.locator("#error").wait_for()
        return
    if name == "page_dark":
        page.locator("#names").fill("person: hair, coat, trousers, eye, nose, scarf")
        page.locator("#gallery button").nth(2).click()
    else:
        page.locator("#gallery button").nth(1).click()
    page.locator("#found").wait_for()
    if name == "page_dark":
        page.locator("#tree [role=treeitem]").nth(1).focus()


if __name__ == "__main__":
    raise SystemExit(main())
