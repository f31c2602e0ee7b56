"""A batch of images with referring expressions, any number of them for each image.

B images, E expressions, H x W the canvas.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class ReferringBatch(NamedTuple):
    """B images of one data set on one canvas, and the E expressions that are asked of them.

    Whoever trains asks for `source`, `files` and `unreadable`; the model never sees them.
    """

    images: tuple[Tensor, ...]  # B x (3, h, w) uint8 RGB, before padding at the bottom and right
    canvas: tuple[int, int]  # (H, W) that masks are relative to; padding belongs to no mask
    expressions: tuple[str, ...]  # E
    image_of: Tensor  # (E,) long, place of the image, ascending
    masks: Tensor  # (E, H, W) bool, union of all that is meant; all False where that is nothing
    no_target: Tensor  # (E,) bool: nothing in the image is meant
    level: Tensor  # (E,) long, `Level.PART` where parts alone are meant, else `Level.OBJECT`
    source: str = ""  # data set name, for logs alone
    files: tuple[str, ...] = ()  # of the images, for logs and error messages alone
    unreadable: tuple[tuple[str, str], ...] = ()  # (file, reason) of images that others took the place of
