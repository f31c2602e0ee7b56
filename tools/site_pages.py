"""How files of the repository become pages of the site: places, links, notebooks, and what a page may not ask for.

One text serves two readers: on a code host a link leads to a file of the repository, on the site to a page. Pages that
live outside docs/ (MODEL_ZOO.md, the projects' READMEs, ...) become pages of the site; links to sources, which the site
does not have, become plain text there. Nothing here needs mkdocs; tools/site_hooks.py hands it over.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {  # of the repository -> of the site
    "MODEL_ZOO.md": "model_zoo.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "datasets/README.md": "datasets_on_disk.md",
    "projects/README.md": "projects/index.md",
    "projects/rela/README.md": "projects/rela.md",
    "projects/unires/README.md": "projects/unires.md",
    "projects/mglmm/README.md": "projects/mglmm.md",
    "projects/msda/README.md": "projects/msda.md",
}
PICTURES = (".jpg", ".png", ".svg")
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"(^ *```.*?^ *```[^\S\n]*$)", re.MULTILINE | re.DOTALL)
_FOREIGN = re.compile(  # what a browser would fetch from another host by itself
    r"""<(?:script|img|iframe|source|video|audio)\b[^>]*\b(?:src|srcset)=["']?(?:https?:)?//"""
    r"""|<link\b(?=[^>]*\brel=["']?(?:stylesheet|preload|preconnect|icon|dns-prefetch))[^>]*\bhref=["']?(?:https?:)?//"""
    r"""|url\(["']?(?:https?:)?//|@import\s+["']?(?:https?:)?//""",
    re.IGNORECASE,
)


def resolve(source: str, target: str) -> str:
    """Where a link of a file of the repository leads, from the root of the repository."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(source), target))


def site_place(path: str) -> str | None:
    """A file of the repository -> the site's page or file; None = the site does not have it."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path == "README.md":
        return "index.md"
    if path.startswith("docs/notebooks/") and path.endswith(".ipynb"):
        return path.removeprefix("docs/").removesuffix(".ipynb") + ".md"
    if path.startswith("docs/") and not path.endswith("photos/README.md"):
        return path.removeprefix("docs/")
    return path if path.endswith(PICTURES) else None


def with_site_links(markdown: str, page: str) -> str:
    """The text of a page of the site, its links to files of the repository turned into links of the site.

    Drawings (.svg) stand in the page itself, so that their colours follow it. Code is left as it is, and so are links
    that lead nowhere: mkdocs reports those.
    """
    source = next((outside for outside, place in OUTSIDE.items() if place == page), f"docs/{page}")
    pieces = _FENCE.split(markdown)
    pieces[::2] = [LINK.sub(lambda match: _link(match, source, page), piece) for piece in pieces[::2]]
    return "".join(pieces)


def _link(match: re.Match[str], source: str, page: str) -> str:
    picture, text, target = match.groups()
    if re.match(r"[a-z]+:|#|/", target):
        return match[0]
    path, hash_, anchor = target.partition("#")
    found = resolve(source, path)
    if picture and found.endswith(".svg"):
        return f'<figure class="drawing" role="img" aria-label="{text}">{(ROOT / found).read_text("utf-8")}</figure>'
    place = site_place(found)
    if place is not None:
        return f"{picture}[{text}]({posixpath.relpath(place, posixpath.dirname(page) or '.')}{hash_}{anchor})"
    return text if (ROOT / found).exists() and not picture else match[0]


def cells(notebook: Path) -> list[tuple[str, str]]:
    """(kind, source) of each cell of a notebook; kind is `markdown` or `code`."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in content["cells"]]


def notebook_page(notebook: Path) -> str:
    """A notebook as a page: text as it is, code in fences, below the title a link to the file."""
    texts = [source if kind == "markdown" else f"```python\n{source}\n```" for kind, source in cells(notebook)]
    head, newline, rest = "\n\n".join(texts).partition("\n")
    note = f"This page is a notebook: [{notebook.name}](../files/{notebook.name}) opens in Jupyter."
    return f"{head}\n\n{note}\n{newline}{rest}\n"


def with_fenced_examples(docstring: str) -> str:
    """A docstring whose examples (lines that begin with `>>>` or `...`, and what they print) stand in fences."""

    def fence(match: re.Match[str]) -> str:
        lines = re.sub(r"  # doctest: .*", "", match[0].rstrip("\n"))
        return f"```pycon\n{lines}\n```\n"

    return re.sub(r"(?:^>>> .*\n?(?:^(?!>>>)\S.*\n?)*)+", fence, docstring, flags=re.MULTILINE)


def foreign(text: str) -> list[str]:
    """What a page or style sheet would fetch from another host by itself."""
    return [match[0][:120] for match in _FOREIGN.finditer(text)]
