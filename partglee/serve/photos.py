"""Uploads to images, without trusting them.

(H, W) an image as it was sent, (h, w) as the network sees it.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from PIL import Image
from torch import Tensor

from partglee.data.images import DAMAGE
from partglee.engine.image_input import InputImage
from partglee.serve.limits import Limits
from partglee.serve.refusals import Refusal

FORMATS = ("JPEG", "PNG", "WEBP", "AVIF", "GIF", "BMP", "TIFF", "JPEG2000", "PPM")  # others call programs or are rare


class Photo(NamedTuple):
    """What is kept of an upload: the network's input, and how large it was."""

    resized: Tensor  # (3, h, w) uint8
    size: tuple[int, int]  # (H, W)
    found_in: tuple[int, int]  # (H, W) or less: the size that masks are found in
    file_name: str | None


def read_photo(upload: IO[bytes], *, name: str | None, read: Callable[[Path], InputImage], limits: Limits) -> Photo:
    """Look at an upload's header, then decode it.

    Args:
        name: what the client calls it; a label in the answer, never a path.
        read: `Predictor.read`.

    Raises:
        Refusal: for what is no image, too large or damaged.
    """
    _check(upload, limits)
    with tempfile.TemporaryDirectory(prefix="partglee-") as folder:
        file = Path(folder) / "upload"
        with file.open("wb") as beside:
            shutil.copyfileobj(upload, beside)
        try:
            image = read(file)
        except (ValueError, OSError, MemoryError) as error:
            told = str(error).replace(f"image file '{file}'", "the image").replace(f"'{file}'", "the upload")
            raise Refusal(422, "image_unreadable", told) from error
    return Photo(image.resized, image.size, _within(image.size, limits.mask_pixels), _label(name))


def _check(upload: IO[bytes], limits: Limits) -> None:
    """The header alone: kind and size. Afterwards the upload stands at its start again."""
    head = upload.read(12)
    if not head:
        raise Refusal(422, "image_empty", "the image is empty (0 bytes); choose the file again")
    try:
        upload.seek(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(upload, formats=FORMATS) as image:
                width, height = image.size
    except Image.DecompressionBombError as error:
        raise _too_many(limits, "far more") from error
    except (*DAMAGE, ValueError) as error:
        raise Refusal(
            422, "no_image",
            f"expected an image ({', '.join(FORMATS)}), got one that begins with {head!r}; convert it to JPEG or PNG",
        ) from error  # fmt: skip
    finally:
        upload.seek(0)
    if width * height > limits.pixels:
        raise _too_many(limits, f"{width} x {height} = {width * height:,}")


def _too_many(limits: Limits, came: str) -> Refusal:
    return Refusal(
        413, "too_many_pixels",
        f"an image may have {limits.pixels:,} pixels, this one has {came}; make it smaller, 2000 on a side is plenty",
    )  # fmt: skip


def _within(size: tuple[int, int], pixels: int) -> tuple[int, int]:
    height, width = size
    if height * width <= pixels:
        return size
    scale = (pixels / (height * width)) ** 0.5
    return max(1, int(height * scale)), max(1, int(width * scale))


def _label(name: str | None) -> str | None:
    """The last part of what the client calls its file, printable."""
    last = PurePosixPath((name or "").replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:200] or None
