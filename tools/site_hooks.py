"""What `mkdocs build` does beyond mkdocs: pages from outside docs/, notebooks, links, and a check of what was built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from site_pages import LINK, OUTSIDE, PICTURES, ROOT, foreign, notebook_page, resolve, with_site_links


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that live outside docs/, their pictures, and the notebooks as pages and as files."""
    for source, place in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, place, content=text))
        for _, _, target in LINK.findall(text):
            found = resolve(source, target)
            if found.endswith(PICTURES) and not found.startswith("docs/"):
                files.append(File.generated(config, found, abs_src_path=str(ROOT / found)))
    for notebook in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.stem}.md", content=notebook_page(notebook)))
        files.append(File.generated(config, f"files/{notebook.name}", abs_src_path=str(notebook)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Links of the repository become links of the site."""
    return with_site_links(markdown, page.file.src_uri)


def on_post_build(config: Any) -> None:
    """Nothing of the site is fetched from another host.

    Raises:
        PluginError: with the files and what they ask for.
    """
    wrong = []
    for file in sorted(Path(config.site_dir).rglob("*")):
        if file.suffix in (".html", ".css"):
            found = foreign(file.read_text(encoding="utf-8"))
            wrong += [f"{file.relative_to(config.site_dir)}: {what}" for what in found]
    if wrong:
        raise PluginError("the site asks other hosts:\n" + "\n".join(wrong[:20]))
