"""A font with the letters of a text: Pillow's own, one that a dependency ships, or one of the system."""

from __future__ import annotations

import importlib.util
import os
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_PROBE = 16  # pixels: the size at which glyphs are looked at
_FOLDERS = (
    "/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/System/Library/Fonts",
    "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts",
)  # fmt: skip
_BROAD = ("notosanscjk", "notosans", "arialunicode", "unifont", "droidsansfallback", "wqy", "dejavusans", "arial")
_NO_GLYPH = "\U0010ffff"  # no font has it: what is drawn stands for any missing glyph


@lru_cache(maxsize=64)
def load_font(size: int, font_path: str | None = None) -> Font:
    """Pillow's own font, or the one in a file."""
    return ImageFont.truetype(font_path, size) if font_path else ImageFont.load_default(size)


def legible(texts: Sequence[str], size: int, font_path: str | None = None) -> tuple[Font, list[str]]:
    """The first font that has every letter of some texts, and the texts as it can draw them.

    Looked at are `font_path`, Pillow's font, DejaVu Sans where matplotlib is installed, and the fonts of the system,
    broad ones first. Where none has all letters the one that lacks the fewest is taken, and what it lacks is written
    as Python escapes it (`\\u732b`), so that different names never look the same.
    """
    letters = {letter for text in texts for letter in text}
    best, lacking = font_path, letters
    for path in _candidates(font_path):
        missing = {letter for letter in letters if not has_glyph(letter, path)}
        if len(missing) < len(lacking) or path == font_path:
            best, lacking = path, missing
        if not lacking:
            break
    escaped = {ord(letter): _escaped(letter) for letter in lacking}
    return load_font(size, best), [text.translate(escaped) for text in texts]


@cache
def has_glyph(letter: str, font_path: str | None) -> bool:
    """Whether a font draws a letter, and not the box that stands for all that it lacks. White space needs none."""
    if letter == " ":
        return True
    if unicodedata.category(letter) in ("Cc", "Cs", "Co", "Cn") or letter.isspace():
        return False  # controls, halves of characters, characters of nobody
    try:
        drawn = _drawn(letter, font_path)
        return drawn is None or drawn != _drawn(_NO_GLYPH, font_path)
    except (OSError, ValueError, UnicodeError):
        return False


def _drawn(letter: str, font_path: str | None) -> tuple[tuple[int, int], bytes] | None:
    """Size and pixels; None for what leaves no mark by its nature, such as a joiner."""
    mask: Any = load_font(_PROBE, font_path).getmask(letter)
    if 0 in mask.size:
        return None if unicodedata.category(letter) in ("Cf", "Mn") else ((0, 0), b"")
    return mask.size, bytes(mask)


def _candidates(font_path: str | None) -> Iterator[str | None]:
    """Each font once, the dear ones last: files are looked for only where the ones before do not do."""
    if font_path is not None:
        yield font_path
    yield None
    bundled = _bundled()
    if bundled is not None:
        yield bundled
    yield from _of_system()


@cache
def _bundled() -> str | None:
    """DejaVu Sans (Latin, Greek, Cyrillic, Arabic, ...) of matplotlib, which is not imported for it."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        file = Path(folder) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return str(file)
    return None


@cache
def _of_system() -> tuple[str, ...]:
    shared = [f"{folder}/fonts" for folder in os.environ.get("XDG_DATA_DIRS", "").split(":") if folder]
    folders: Iterable[Path] = dict.fromkeys(Path(folder).expanduser() for folder in (*_FOLDERS, *shared))
    found: list[str] = []
    for folder in folders:
        for place, _, names in os.walk(folder):
            found += [os.path.join(place, name) for name in names if name.lower().endswith((".ttf", ".otf", ".ttc"))]

    def order(file: str) -> tuple[int, int, str]:
        plain = Path(file).stem.lower().replace("-", "").replace("_", "").replace(" ", "")
        place = next((i for i, broad in enumerate(_BROAD) if plain.startswith(broad)), len(_BROAD))
        return place, len(plain), file  # the shortest name of a family is its regular face

    return tuple(sorted(found, key=order))


def _escaped(letter: str) -> str:
    return " " if letter in "\t\n\r" else letter.encode("unicode_escape").decode("ascii")
