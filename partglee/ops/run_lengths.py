"""Compressed run lengths of many masks at once: checked, measured and compared without being decoded to pixels.

R masks, in one text with a start and a length each; C cells. The compiled operators do what `partglee.basics.masks` and
pycocotools do, which are their definition and stand in where the library is missing.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.masks import MASKS_AT_ONCE, run_length_areas

from . import dispatch, native

Texts = tuple[bytearray, NDArray[np.int64], NDArray[np.int64]]  # text, (R,) starts, (R,) lengths


def mask_areas(texts: Texts, pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(R,) set pixels of each mask, -1 where its run lengths say no mask of that many `pixels` (R,)."""
    if dispatch.native_run_lengths():
        return native.OPERATORS.run_length_areas(*_tensors(texts), _tensor(pixels)).numpy()  # type: ignore[no-any-return]
    return run_length_areas(np.frombuffer(b"".join(_counts(texts)), np.uint8), texts[2], pixels)


def mask_ious(
    texts: Texts,
    cells: NDArray[np.int64],
    others: Texts,
    other_cells: NDArray[np.int64],
    crowd: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """IoU of each mask of a cell with each other one of the cell, cell after cell, in one row of numbers.

    Args:
        texts, others: sound run lengths; those of a cell are of one size.
        cells, other_cells: (C + 1,) cell c has the masks from [c] to [c + 1].
        crowd: of the others; intersection over the mask instead.
    """
    if dispatch.native_run_lengths():
        return native.OPERATORS.run_length_ious(  # type: ignore[no-any-return]
            *_tensors(texts), _tensor(cells), *_tensors(others), _tensor(other_cells), _tensor(crowd)
        ).numpy()
    size = [1, 1 << 31]  # all that is asked of it is that it is the same
    own = [{"size": size, "counts": counts} for counts in _counts(texts)]
    beside = [{"size": size, "counts": counts} for counts in _counts(others)]
    flags = crowd.astype(np.uint8).tolist()
    found = [np.zeros(0)]
    for c in range(len(cells) - 1):
        theirs = slice(other_cells[c], other_cells[c + 1])
        for begin in range(cells[c], cells[c + 1], MASKS_AT_ONCE):
            mine = slice(begin, min(begin + MASKS_AT_ONCE, cells[c + 1]))
            found.append(np.asarray(rle.iou(own[mine], beside[theirs], flags[theirs]), np.float64).ravel())
    return np.concatenate(found)


def _counts(texts: Texts) -> list[bytes]:
    text, start, length = texts
    view = memoryview(text)
    return [view[s : s + n].tobytes() for s, n in zip(start.tolist(), length.tolist(), strict=True)]


def _tensor(values: NDArray[np.generic]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, np.int64))


def _tensors(texts: Texts) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    text, start, length = texts
    content = torch.from_numpy(np.frombuffer(text, np.uint8)) if text else torch.empty(0, dtype=torch.uint8)
    return content, _tensor(start), _tensor(length)
