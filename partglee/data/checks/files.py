"""Image files against what an annotation file says of them. Only headers are read."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, UnidentifiedImageError

_ORIENTATION = 0x0112  # EXIF tag; 5 to 8 mean that the stored picture lies on its side


def check_image_file(path: Path, size: tuple[int, int]) -> tuple[str, str]:
    """(rule, detail) of what is wrong, ("", "") when nothing is. `size`: height and width, (0, 0) = unknown."""
    if not path.is_file():
        return "image file that is missing", str(path)
    try:
        with Image.open(path) as image:
            width, height = image.size
            if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
                width, height = height, width
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        return "image file that cannot be read", f"{path}: {error}"
    if 0 not in size and size != (height, width):
        return "image size that differs from the file", f"{size} said, {(height, width)} found (height, width)"
    return "", ""
