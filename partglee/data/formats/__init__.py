"""Annotations in the formats of other tools, with their hierarchy: readers and writers of one record type.

A format is one module: `read(path, notes)` yields `AnnotatedImage`s, `write(images, path, names)` takes them.
"""

from __future__ import annotations

from partglee.data.formats.convert import Converted, convert
from partglee.data.formats.registry import FORMATS, Format, format_of, get_format

__all__ = ["FORMATS", "Converted", "Format", "convert", "format_of", "get_format"]
