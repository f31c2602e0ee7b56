"""The documentation as a site: links of the repository become links of the site, nothing is left out, and its pictures
are what their commands draw. `make docs` builds it and finds broken links."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import make_gallery
import numpy as np
import pytest
import site_pages
import yaml
from PIL import Image

from partglee import Predictor

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"


@pytest.mark.parametrize(
    ("page", "text", "expected"),
    [
        ("own_data.md", "[a](formats.md#cvat)", "[a](formats.md#cvat)"),
        ("own_data.md", "[zoo](../MODEL_ZOO.md#partglee-tiny)", "[zoo](model_zoo.md#partglee-tiny)"),
        ("extending/project.md", "[p](../../projects/README.md)", "[p](../projects/index.md)"),
        ("model_zoo.md", "[d](docs/training.md) [r](README.md)", "[d](training.md) [r](index.md)"),
        ("projects/rela.md", "![x](images/a.jpg)", "![x](rela/images/a.jpg)"),
        ("own_data.md", "[n](notebooks/own_data.ipynb)", "[n](notebooks/own_data.md)"),
        ("design.md", "see [the file](../setup.py).", "see the file."),  # sources are not on the site
        ("design.md", "[x](no_such.md) [y](https://a.b/c) [z](#here)", "[x](no_such.md) [y](https://a.b/c) [z](#here)"),
        ("design.md", "```text\n[zoo](../MODEL_ZOO.md)\n```", "```text\n[zoo](../MODEL_ZOO.md)\n```"),
    ],
)
def test_links(page: str, text: str, expected: str) -> None:
    assert site_pages.with_site_links(text, page) == expected


def test_what_a_browser_would_fetch_elsewhere_is_found() -> None:
    for text in (
        '<script src="https://cdn.example/a.js">',
        "<link rel=stylesheet href=//fonts.example/css>",
        '<img alt="" src="http://a.example/b.png">',
        "body { background: url(https://a.example/b.png) }",
        "@import '//a.example/b.css';",
    ):
        assert len(site_pages.foreign(text)) == 1, text
    for text in (
        '<a href="https://arxiv.org/abs/2407.16696">',
        '<img src="images/a.png">',
        "url(data:image/png;base64,x)",
    ):
        assert not site_pages.foreign(text), text


def test_examples_of_docstrings_become_code() -> None:
    text = "Adds.\n\n>>> add(1, 2)  # doctest: +SKIP\n3\n\nMore:\n\n>>> add(\n...     1, 2)\n"
    assert site_pages.with_fenced_examples(text) == (
        "Adds.\n\n```pycon\n>>> add(1, 2)\n3\n```\n\nMore:\n\n```pycon\n>>> add(\n...     1, 2)\n```\n"
    )
    assert site_pages.with_fenced_examples("a >>> b\n  c") == "a >>> b\n  c"


def test_every_page_is_in_the_menu_once() -> None:
    """Reading mkdocs.yml alone; `make docs` would find it too, later."""

    def pages(entry: object) -> list[str]:
        if isinstance(entry, str):
            return [entry]
        return [page for one in (entry.values() if isinstance(entry, dict) else entry) for page in pages(one)]  # type: ignore[attr-defined]

    listed = pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"photos/README.md"}
    there |= {f"notebooks/{notebook.stem}.md" for notebook in DOCS.glob("notebooks/*.ipynb")}
    assert sorted(listed) == sorted(there | set(site_pages.OUTSIDE.values()))


@pytest.mark.parametrize("page", sorted(DOCS.glob("reference/*.md")), ids=lambda page: page.stem)
def test_the_reference_names_what_has_a_docstring(page: Path) -> None:
    names = re.findall(r"^::: (\S+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert names or page.stem == "index"
    for name in names:
        try:
            found = importlib.import_module(name)
        except ModuleNotFoundError:
            owner, _, last = name.rpartition(".")
            found = getattr(importlib.import_module(owner), last)  # an AttributeError is what is looked for
        assert (found.__doc__ or "").strip(), name


def test_pictures_are_small() -> None:
    pictures = [path for path in (DOCS / "images").rglob("*") if path.is_file()]
    assert len(pictures) > 5
    for path in pictures:
        assert path.stat().st_size < 200_000, path


OUTSIDE_ITS_BOX = """() => {
    const boxes = [...document.querySelectorAll('rect.card')].map(rect => rect.getBBox());
    return [...document.querySelectorAll('text')].flatMap(text => {
        const at = text.getBBox(), middle = at.y + at.height / 2;
        const box = boxes.find(one => one.x <= at.x && at.x <= one.x + one.width
            && one.y <= middle && middle <= one.y + one.height);
        const fits = !box || (at.x + at.width <= box.x + box.width - 4 && at.y + at.height <= box.y + box.height);
        return fits ? [] : [text.textContent];
    });
}"""


@pytest.mark.browser
def test_no_text_of_the_drawing_leaves_its_box(browser: Any) -> None:
    drawing = (DOCS / "images" / "hierarchy.svg").read_text(encoding="utf-8")
    page = browser.new_page()
    page.set_content(drawing)
    assert page.evaluate("() => document.querySelectorAll('rect.card').length") == 8
    assert page.evaluate(OUTSIDE_ITS_BOX) == []
    page.set_content(drawing.replace(">Q-Former<", ">Q-Former: best objects x parsing queries<"))
    assert page.evaluate(OUTSIDE_ITS_BOX) == ["Q-Former: best objects x parsing queries"]


GALLERY = make_gallery.pictures((DOCS / "gallery.md").read_text(encoding="utf-8"))


def test_every_picture_of_the_gallery_has_its_command() -> None:
    assert len(GALLERY) == 4
    assert {Path(place).name for _, place in GALLERY} >= {path.name for path in (DOCS / "images/gallery").iterdir()}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    words, place = GALLERY[0]
    assert f"](docs/{place})" in readme and shlex.join(words).replace("'", '"') in readme, "the README has the first"


# Both eyes, both ears and the mouth of officer.jpg, written down by eye: x0, y0, x1, y1.
EXPECTED = {"eye": [(190, 179, 250, 205), (280, 172, 342, 205)], "ear": [(154, 190, 191, 270), (341, 181, 376, 269)],
            "mouth": [(227, 270, 312, 292)]}  # fmt: skip


def test_the_first_picture_is_right() -> None:
    """Of every mask that it shows two thirds lie where such a part is, and each part is found once."""
    words, place = GALLERY[0]
    found = Predictor.from_pretrained("partglee-tiny")(ROOT / words[2], words[words.index("--vocabulary") + 1])
    assert len(found[0].parts) == sum(map(len, EXPECTED.values()))
    for name, boxes in EXPECTED.items():
        masks = [np.asarray(row.mask) for row in found[0].parts if row.name == name]
        inside = [[mask[y0:y1, x0:x1].sum() > mask.sum() * 2 / 3 for x0, y0, x1, y1 in boxes] for mask in masks]
        assert sorted(inside) == np.eye(len(boxes), dtype=bool)[::-1].tolist(), name
    with Image.open(DOCS / place) as picture:
        assert picture.height == found.image_size[0]
