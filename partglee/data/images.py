"""Reading images from whatever a user has into one form: (h, w, 3) uint8 RGB, upright."""

from __future__ import annotations

import glob
import os
import struct
import threading
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor

from partglee.basics import patterns

MAX_PIXELS = 120_000_000  # a 108-megapixel phone photo passes; 840 MB while it is read, 360 MB as uint8 RGB
_HUNGRY = {"WEBP": 70_000_000, "AVIF": 70_000_000, "JPEG2000": 40_000_000}  # pixels; their decoders take more for each
_STRIP = 2_000_000  # pixels that are converted at a time
_BLOCK = 1 << 20  # bytes that are read at a time
IMAGE_SUFFIXES = frozenset(
    {
        ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".gif", ".jp2", ".ppm",
        ".pgm", ".pbm", ".pnm",
    }
)  # fmt: skip

ImageSource = str | Path | Image.Image | NDArray[np.generic] | Tensor


def read_image(
    source: ImageSource, *, max_pixels: int = MAX_PIXELS, at_least: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Read one image.

    Args:
        source: a path; a PIL image of any mode; a uint8 array (h, w) grey, (h, w, 3) RGB or (h, w, 4) RGBA; or a tensor
            (3, h, w), (1, h, w) or (4, h, w), uint8 or float in [0, 1].
            Files and PIL images are turned upright by their EXIF orientation. Transparency is laid on white, 16 bits
            are scaled to 8, of an animation the first frame is taken.
        max_pixels: larger images are refused, files before they are decoded.
        at_least: (height, width) that is enough: JPEG files may come at 1/2, 1/4 or 1/8 of their size (rounded up) as
            long as no side falls below it, which decodes faster. None = full size.

    Returns:
        (h, w, 3) uint8 RGB, contiguous.

    Raises:
        FileNotFoundError, IsADirectoryError: for a path that is no file.
        ValueError: for a file that is empty, cut off or no image, too many pixels, a wrong layout, dtype or range.
        TypeError: for anything else than the sources above.
    """
    if isinstance(source, (str, Path)):
        pixels = _read_file(source, max_pixels, at_least)
    elif isinstance(source, Image.Image):
        _check_size(source.size, max_pixels, what="the PIL image")
        pixels = _upright_rgb(source, what="the PIL image")
    elif isinstance(source, np.ndarray):
        pixels = _from_array(source, max_pixels)
    elif isinstance(source, Tensor):
        pixels = _from_tensor(source, max_pixels)
    else:
        raise TypeError(
            f"cannot read an image from {source!r:.60} ({type(source).__name__}); give a path, a PIL image, a uint8 "
            "array (h, w, 3) or a tensor (3, h, w)"
        )
    return np.ascontiguousarray(pixels)


def image_size(source: ImageSource) -> tuple[int, int]:
    """(height, width) of an image as it stands upright; of a file, only the header is read.

    Raises:
        FileNotFoundError, ValueError: for a file that is not there or is no image.
    """
    if not isinstance(source, (str, Path)):
        pixels = read_image(source)
        return pixels.shape[0], pixels.shape[1]
    try:
        with _open(Path(source).expanduser()) as image:
            turned = _orientation(image) >= 5  # stored on its side
            return (image.width, image.height) if turned else (image.height, image.width)
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise ValueError(f"'{source}' is not an image that Pillow can read ({error})") from error


def list_images(inputs: str | Path | Sequence[str | Path], *, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> list[Path]:
    """Expand files, directories and glob patterns into image files, in the order given and each once.

    A directory stands for the image files directly in it, sorted by name; a pattern (`photos/**/*.jpg`) for its sorted
    matches. A file named outright is taken whatever its suffix.

    Args:
        suffixes: of the files that a directory or a pattern stands for.

    Raises:
        FileNotFoundError: for an input that matches nothing.
        ValueError: for no inputs.
    """
    entries = [inputs] if isinstance(inputs, (str, Path)) else list(inputs)
    if not entries:
        raise ValueError("no images given; name files, directories or patterns such as 'photos/*.jpg'")
    found: dict[Path, None] = {}
    for entry in entries:
        path = Path(entry).expanduser()
        if path.is_dir():
            matches = sorted(p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
            if not matches:
                raise FileNotFoundError(
                    f"directory '{entry}' holds no image files ({', '.join(sorted(suffixes))}); for "
                    f"sub-directories use the pattern '{path / '**' / '*.jpg'}'"
                )
        elif path.exists():
            matches = [path]
        elif glob.has_magic(str(path)):
            matches = [p for p in patterns.matches(path) if p.suffix.lower() in suffixes and p.is_file()]
            if not matches:
                raise FileNotFoundError(
                    f"pattern '{entry}' matches no image files; try it with ls, and quote it in a shell"
                )
        else:
            raise FileNotFoundError(_missing(entry))
        found.update(dict.fromkeys(matches))
    return list(found)


def _missing(path: str | Path) -> str:
    if "://" in str(path):
        return f"'{path}' is an address, not a file; a predictor reads http and https, download others first"
    where = Path(path).expanduser().absolute().parent
    hint = "check the file name" if where.is_dir() else f"there is no directory '{where}' either"
    return f"image file '{path}' does not exist; {hint}"


def _read_file(source: str | Path, max_pixels: int, at_least: tuple[int, int] | None) -> NDArray[np.uint8]:
    path = Path(source).expanduser()
    if path.is_dir():
        raise IsADirectoryError(
            f"'{source}' is a directory, expected an image file; list_images('{source}') lists its files"
        )
    if not path.exists():
        raise FileNotFoundError(_missing(source))
    if path.stat().st_size == 0:
        raise ValueError(f"image file '{source}' is empty (0 bytes); copy or download it again")
    try:
        with _open(path) as image:
            if max_pixels == MAX_PIXELS:
                max_pixels = _HUNGRY.get(image.format or "", max_pixels)
            _check_size(image.size, max_pixels, what=f"image file '{source}'")
            if image.format == "PNG":
                check_png(path)
            if at_least is not None and image.format == "JPEG":
                _decode_smaller(image, at_least)
            image.load()
            return _upright_rgb(image, what=f"image file '{source}'")
    except UnidentifiedImageError as error:
        with path.open("rb") as stream:
            head = stream.read(12)
        raise ValueError(
            f"'{source}' is not an image that Pillow can read (it starts with {head!r}); open it in a viewer, and "
            "convert it to JPEG or PNG"
        ) from error
    except (*DAMAGE, ValueError) as error:
        if f"image file '{source}'" in str(error):  # our own words
            raise
        raise ValueError(f"image file '{source}' is damaged or cut off ({error}); copy or download it again") from error


def _decode_smaller(image: Image.Image, at_least: tuple[int, int]) -> None:
    turned = _orientation(image) >= 5  # stored on its side: width and height swap
    height, width = reversed(at_least) if turned else at_least
    if image.width >= 2 * width and image.height >= 2 * height:
        image.draft(None, (width, height))


_limit_lock = threading.Lock()


def open_image(path: Path, *, max_pixels: int, what: str) -> Image.Image:
    """An image file of any kind, not yet decoded.

    Raises:
        ValueError: for one of more than `max_pixels`.
        `DAMAGE`: for a damaged one.
    """
    image = _open(path)
    try:
        _check_size(image.size, max_pixels, what=what)
    except ValueError:
        image.close()
        raise
    return image


DAMAGE = (  # what Pillow's readers raise on damaged files; of a file within the limits, no memory means a wrong length
    OSError, UnidentifiedImageError, SyntaxError, EOFError, TypeError, RuntimeError, ArithmeticError, LookupError,
    AttributeError, AssertionError, MemoryError, struct.error, zlib.error,
)  # fmt: skip
_PIXEL_CHUNKS = (b"IHDR", b"PLTE", b"IDAT")  # of a PNG, what its pixels come from


def check_png(path: Path) -> None:
    """Whether a PNG is as it was written, by its checksums: Pillow passes over those of the pixels.

    Raises:
        ValueError: for one that is not. Files of other kinds are not looked at.
    """
    with path.open("rb") as stream:
        if stream.read(8) != b"\x89PNG\r\n\x1a\n":
            return
        while len(head := stream.read(8)) == 8:
            length, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind not in _PIXEL_CHUNKS:
                stream.seek(length + 4, os.SEEK_CUR)
                continue
            checksum = zlib.crc32(kind)
            while length and (block := stream.read(min(length, _BLOCK))):
                checksum, length = zlib.crc32(block, checksum), length - len(block)
            if checksum != int.from_bytes(stream.read(4), "big"):
                raise ValueError(f"the checksum of its {kind.decode()} chunk is wrong")


def _open(path: Path) -> Image.Image:
    """Read the header. Pillow's own pixel limit is off meanwhile: it raises before `_check_size` knows the size."""
    with _limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _check_size(size: tuple[int, int], max_pixels: int, *, what: str) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ValueError(
            f"{what} has {width} x {height} = {width * height:,} pixels, more than the limit of {max_pixels:,}; make "
            f"it smaller (the model sees about 800 x 1333), or pass max_pixels={width * height}"
        )
    if width < 1 or height < 1:
        raise ValueError(f"{what} has no pixels ({width} x {height}); check where it was cropped or resized")


def _upright_rgb(image: Image.Image, *, what: str) -> NDArray[np.uint8]:
    """(h, w, 3) by strips: beside the decoded image and the result no copy of the whole lies in memory."""
    turn = _orientation(image)
    width, height = image.size
    upright = np.empty((width, height, 3) if turn >= 5 else (height, width, 3), np.uint8)
    stored = _as_stored(upright, turn)
    rows = max(1, _STRIP // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height))) if rows < height else image
        stored[top : top + rows] = _to_rgb(strip, what=what)
    return upright


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where it is missing or cannot be read, which says nothing about the pixels."""
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*DAMAGE, ValueError):
        return 1
    return turn if isinstance(turn, int) and 1 <= turn <= 8 else 1


def _as_stored(upright: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """A view of the upright pixels in the order of the file."""
    views = {
        2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1), 7: upright[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(upright, -1),
    }  # fmt: skip
    return views.get(turn, upright)


def _to_rgb(image: Image.Image, *, what: str) -> NDArray[np.uint8]:
    if image.mode.startswith("I"):  # 16 bits; Pillow widens some of them to 32
        return _grey_to_rgb(_scale_16_bit(np.asarray(image), what))
    if image.mode == "F":
        return _grey_to_rgb(_scale_float(np.asarray(image), what))
    try:
        if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
            return _on_white(image.convert("RGBA"))
        return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    except ValueError as error:
        raise ValueError(
            f"{what} has the mode {image.mode!r}, which does not convert to RGB; save it as RGB"
        ) from error


def _from_array(array: NDArray[np.generic], max_pixels: int) -> NDArray[np.uint8]:
    what = f"the array of shape {array.shape} and type {array.dtype}"
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = "it looks channels-first, call transpose(1, 2, 0)" if first else "check which axes it has"
        raise ValueError(f"{what} is no image; expected (h, w), (h, w, 3) or (h, w, 4); {hint}")
    if array.dtype != np.uint8:
        floating = np.issubdtype(array.dtype, np.floating)
        hint = "for floats in [0, 1] pass (array * 255).round().astype(np.uint8)" if floating else "scale it to 0..255"
        raise ValueError(f"{what} must be uint8 with values 0..255; {hint}")
    _check_size((array.shape[1], array.shape[0]), max_pixels, what=what)
    return _channels_to_rgb(array.astype(np.uint8, copy=False))


def _from_tensor(tensor: Tensor, max_pixels: int) -> NDArray[np.uint8]:
    what = f"the tensor of shape {tuple(tensor.shape)} and type {tensor.dtype}"
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3, 4):
        last = tensor.ndim == 3 and tensor.shape[2] in (1, 3, 4)
        hint = "it looks channels-last, call permute(2, 0, 1)" if last else "a batch goes in as a list of images"
        raise ValueError(f"{what} is no image; expected (3, h, w); {hint}")
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise ValueError(f"{what} must be uint8 with values 0..255, or float with values in [0, 1]; convert it")
    _check_size((tensor.shape[2], tensor.shape[1]), max_pixels, what=what)
    array = tensor.detach().cpu().permute(1, 2, 0)
    if array.dtype == torch.uint8:
        return _channels_to_rgb(array.numpy())
    return _channels_to_rgb(_scale_float(array.float().numpy(), what))


def _channels_to_rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if array.ndim == 2 or array.shape[2] == 1:
        return _grey_to_rgb(array)
    return _on_white(Image.fromarray(array)) if array.shape[2] == 4 else array


def _grey_to_rgb(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)


def _on_white(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))


def _scale_16_bit(array: NDArray[np.generic], what: str) -> NDArray[np.uint8]:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise ValueError(
            f"{what} has values {low}..{high}, expected 16 bits (0..65535); scale it and save it as 8 bits"
        )
    return (array.astype(np.float32) / 257).round().astype(np.uint8)


def _scale_float(array: NDArray[np.floating], what: str) -> NDArray[np.uint8]:
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
        raise ValueError(f"{what} has {bad} NaN or infinite values; find where they come from, or replace them")
    low, high = float(array.min()), float(array.max())
    if low < 0 or high > 1:
        hint = "divide by 255" if low >= 0 and high <= 255 else "undo the normalisation"
        raise ValueError(f"{what} has values {low:.4g}..{high:.4g}, expected floats in [0, 1]; {hint}, or pass uint8")
    return (array * 255).round().astype(np.uint8)
