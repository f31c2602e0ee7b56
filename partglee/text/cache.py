"""Text states that need not be computed twice, in memory and, on request, on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from partglee.basics.files import whole_file


class TextCache:
    """States of single names, valid for one fingerprint of the text backend.

    On disk: `DIRECTORY/FINGERPRINT.safetensors`, one tensor for each name. A damaged file counts as empty.
    """

    def __init__(self, *, directory: str | Path | None = None) -> None:
        self.directory = None if directory is None else Path(directory)
        self._states: dict[str, Tensor] = {}
        self._loaded_from: Path | None = None

    def open(self, fingerprint: str) -> None:
        """Read what an earlier run has stored for this fingerprint."""
        if self.directory is None:
            return
        file = self.directory / f"{fingerprint}.safetensors"
        if file == self._loaded_from:
            return
        self._states.update(_read(file))
        self._loaded_from = file

    def clear(self) -> None:
        """Forget what is in memory; the disk is left alone."""
        self._states.clear()
        self._loaded_from = None

    def get(self, name: str) -> Tensor | None:
        """(T, W) states of the valid tokens of `name`, or None."""
        return self._states.get(name)

    def add(self, states: Mapping[str, Tensor]) -> None:
        """Remember (T, W) states by name; the file on disk is replaced as a whole."""
        self._states.update(states)
        if self._loaded_from is None or not states:
            return
        merged = {**_read(self._loaded_from), **{n: s.cpu().contiguous() for n, s in self._states.items()}}
        with whole_file(self._loaded_from) as beside:
            save_file(merged, beside)


def _read(file: Path) -> dict[str, Tensor]:
    if not file.is_file():
        return {}
    try:
        with safe_open(file, framework="pt") as tensors:
            return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError):
        return {}
