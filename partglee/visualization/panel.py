"""What stands beside and below the picture: the objects -> parts tree with scores, and a caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from partglee.structures import Prediction
from partglee.visualization.colors import UNKNOWN_OBJECT, Color
from partglee.visualization.fonts import Font, legible
from partglee.visualization.labels import text_size

BACKGROUND: Color = (24, 26, 31)
_TEXT: Color = (235, 237, 240)
_DIM: Color = (150, 156, 166)
_MAX_COLUMNS = 3


class _Line(NamedTuple):
    text: str
    score: str
    color: Color | None
    indent: int  # 0 object, 1 part
    last: bool  # of its object's parts


def draw_panel(
    prediction: Prediction, colors: Sequence[Color], *, height: int, font_size: int, font_path: str | None = None
) -> Image.Image:
    """The tree of objects and parts, in one to three columns; what does not fit is counted in the last line."""
    lines = _lines(prediction, colors)
    row_height = math.ceil(1.55 * font_size)
    margin = font_size
    # A short picture gets a panel that is higher than itself, so that there is room for some lines.
    height = max(height, min(len(lines), 6) * row_height + 2 * margin)
    rows = max(1, (height - 2 * margin) // row_height)
    lines = _paginate(lines, rows)
    font, texts = legible([line.text for line in lines], font_size, font_path)
    lines = [line._replace(text=text) for line, text in zip(lines, texts, strict=True)]
    widest = max(text_size(line.text, font)[0] + 1.4 * font_size * line.indent for line in lines)
    column_width = math.ceil(min(widest, 16 * font_size) + 6 * font_size)
    columns = -(-len(lines) // rows)
    panel = Image.new("RGB", (columns * column_width + 2 * margin, height), BACKGROUND)
    draw = ImageDraw.Draw(panel)
    for i, line in enumerate(lines):
        column, row = divmod(i, rows)
        x, y = margin + column * column_width, margin + row * row_height
        _draw_line(draw, line, x, y, column_width, row_height, font)
    return panel


def draw_caption(text: str, *, width: int, font_size: int, font_path: str | None = None) -> Image.Image:
    """A strip with a text, wrapped to a width."""
    font, paragraphs = legible(text.splitlines(), font_size, font_path)
    margin = round(0.7 * font_size)
    rows: list[str] = []
    for paragraph in paragraphs:
        row = ""
        for word in paragraph.split():
            longer = f"{row} {word}".strip()
            if row and text_size(longer, font)[0] > width - 2 * margin:
                rows.append(row)
                longer = word
            row = longer
        rows.append(row)
    row_height = math.ceil(1.4 * font_size)
    strip = Image.new("RGB", (width, len(rows) * row_height + 2 * margin), BACKGROUND)
    draw = ImageDraw.Draw(strip)
    for i, row in enumerate(rows):
        draw.text((margin, margin + (i + 0.5) * row_height), row, font=font, fill=_TEXT, anchor="lm")
    return strip


def _lines(prediction: Prediction, colors: Sequence[Color]) -> list[_Line]:
    lines = []
    groups: list[tuple[_Line, list[int]]] = [
        (_Line(prediction.names[row], _score(prediction, row), colors[row], 0, False), prediction.parts_of(row))
        for row in prediction.objects()
    ]
    if prediction.parts_without_object():
        title = _Line("(object not known)", "", UNKNOWN_OBJECT, 0, False)
        groups.append((title, prediction.parts_without_object()))
    for title, parts in groups:
        lines.append(title)
        lines += [
            _Line(prediction.names[row], _score(prediction, row), colors[row], 1, row == parts[-1]) for row in parts
        ]
    return lines or [_Line("nothing found", "", None, 0, False)]


def _paginate(lines: Sequence[_Line], rows: int) -> list[_Line]:
    """Repeat the object above parts that go on in the next column, and cut what does not fit into the columns."""
    pages: list[_Line] = []
    owner = lines[0]
    for i, line in enumerate(lines):
        owner = owner if line.indent else line
        if len(pages) == rows * _MAX_COLUMNS - 1 and i < len(lines) - 1:
            return [*pages, _Line(f"... {len(lines) - i} more", "", None, 0, False)]
        if pages and len(pages) % rows == 0 and line.indent and rows > 1:
            pages.append(owner._replace(text=f"{owner.text} (continued)", score=""))
        pages.append(line)
    return pages


def _shortened(text: str, font: Font, width: float) -> str:
    if text_size(text, font)[0] <= width:
        return text
    while text and text_size(text + "...", font)[0] > width:
        text = text[:-1]
    return text + "..."


def _score(prediction: Prediction, row: int) -> str:
    return f"{float(prediction.scores[row]):.2f}"


def _draw_line(draw: ImageDraw.ImageDraw, line: _Line, x: float, y: float, width: int, height: int, font: Font) -> None:
    unit = height / 1.55  # the font size
    middle, end = y + height / 2, x + width - unit
    if line.indent:
        stem = x + 0.45 * unit
        draw.line((stem, y, stem, middle if line.last else y + height), fill=_DIM)
        draw.line((stem, middle, stem + 0.7 * unit, middle), fill=_DIM)
        x += 1.4 * unit
    if line.color is not None:
        half = (0.45 if line.indent == 0 else 0.35) * unit
        centre = x + 0.45 * unit
        draw.rounded_rectangle(
            (centre - half, middle - half, centre + half, middle + half), 0.2 * unit, fill=line.color
        )
        x += 1.3 * unit
    text = _shortened(line.text, font, end - x - (3 * unit if line.score else 0))
    draw.text((x, middle), text, font=font, fill=_DIM if line.color is None else _TEXT, anchor="lm")
    draw.text((end, middle), line.score, font=font, fill=_DIM, anchor="rm")
