"""Compressed run lengths of millions of masks in one piece of memory, instead of one object for each.

N masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_NONE = -1  # length of a mask that is not there


class RunLengths:
    """What a list of `bytes` (None without a mask) would say; several may share one text.

    Args:
        text: run lengths one after the other, perhaps with others between them.
        start: (N,) where each begins.
        length: (N,) characters of each, -1 without a mask.
    """

    __slots__ = ("length", "start", "text")

    def __init__(self, text: bytearray, start: NDArray[np.int64], length: NDArray[np.int32]) -> None:
        self.text = text
        self.start = start
        self.length = length

    @classmethod
    def of(cls, counts: Sequence[bytes | None]) -> RunLengths:
        """From one object for each."""
        length = np.fromiter((_NONE if entry is None else len(entry) for entry in counts), np.int32, len(counts))
        return cls.packed(bytearray().join(entry for entry in counts if entry is not None), length)

    @classmethod
    def packed(cls, text: bytearray, length: NDArray[np.int32]) -> RunLengths:
        """From a text without anything between the masks."""
        end = np.cumsum(np.maximum(length, 0), dtype=np.int64)
        return cls(text, end - np.maximum(length, 0), length)

    @classmethod
    def joined(cls, parts: Sequence[RunLengths]) -> RunLengths:
        """All masks of several, in their order. The longest of their texts is not copied: it is continued."""
        if not parts:
            return cls.of([])
        texts = list({id(part.text): part.text for part in parts}.values())
        whole = max(texts, key=len)
        offsets = {id(whole): 0}
        for text in texts:
            if text is not whole:
                offsets[id(text)] = len(whole)
                whole += text
        starts = [part.start + offsets[id(part.text)] for part in parts]
        return cls(whole, np.concatenate(starts), np.concatenate([part.length for part in parts]))

    def __len__(self) -> int:
        return len(self.length)

    def __getitem__(self, row: int) -> bytes | None:
        length = int(self.length[row])
        if length == _NONE:
            return None
        start = int(self.start[row])
        return bytes(self.text[start : start + length])

    def __iter__(self) -> Iterator[bytes | None]:
        view = memoryview(self.text)
        for start, length in zip(self.start.tolist(), self.length.tolist(), strict=True):
            yield None if length == _NONE else view[start : start + length].tobytes()

    @property
    def texts(self) -> tuple[bytearray, NDArray[np.int64], NDArray[np.int64]]:
        """As `partglee.ops.run_lengths` takes them; every row must have a mask."""
        return self.text, self.start, self.length.astype(np.int64)

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(N,) whether there is no mask."""
        return self.length == _NONE

    def select(self, rows: NDArray[np.int64] | slice) -> RunLengths:
        """Some of them, of the same text."""
        return RunLengths(self.text, self.start[rows], self.length[rows])
