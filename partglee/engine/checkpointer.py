"""Checkpoints that appear whole, and the way back to the last good one.

A checkpoint is a folder `step_0005000` with `model.safetensors` (usable by `Predictor`), `ema.safetensors` where
weights are averaged, `state.pt` (optimiser and counters) and `manifest.json` (size and CRC-32 of each file). It is
written beside its place and renamed when all of it is on the disk, and renamed before it is removed, so a run that is
killed leaves whole ones and perhaps a hidden folder, which the next save removes.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from partglee.basics.disk import check_room, naming_disk
from partglee.checkpoint import read_weights, write_weights
from partglee.checkpoint.files import UNREADABLE

_PREFIX = "step_"
_PARTIAL, _REMOVED = ".partial_", ".removed_"
_SPARE = 1 << 20  # bytes of a checkpoint beside its tensors
_BLOCK = 1 << 24
_STATE = ("iteration",)  # that every state has


class Checkpoint(NamedTuple):
    """What is read back."""

    folder: Path
    model: dict[str, Tensor]
    average: dict[str, Tensor] | None
    state: dict[str, Any]


class Checkpointer:
    """Saves to and reads from one folder.

    Args:
        folder: made with the first save.
        keep: newest checkpoints that stay.
        metadata: text entries of the weight files, such as the configuration.
    """

    def __init__(self, *, folder: Path, keep: int, metadata: Mapping[str, str] | None = None) -> None:
        if keep < 1:
            raise ValueError(f"SOLVER.KEEP_CHECKPOINTS must be at least 1, got {keep}; resuming needs one")
        self.folder = folder
        self.keep = keep
        self.metadata = dict(metadata or {})

    def save(
        self,
        iteration: int,
        *,
        model: Mapping[str, Tensor],
        state: Mapping[str, Any],
        average: Mapping[str, Tensor] | None = None,
    ) -> Path:
        """Write a checkpoint, then remove those that are too many. Returns its folder.

        Raises:
            DiskFull: when there is no room for it; nothing of it stays, and the older ones do.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in (*self.folder.glob(f"{_PARTIAL}*"), *self.folder.glob(f"{_REMOVED}*")):
            shutil.rmtree(left, ignore_errors=True)
        check_room(self.folder / f"{_PREFIX}{iteration:07d}", _size([model, state, average]) + _SPARE)
        place = self.folder / f"{_PREFIX}{iteration:07d}"
        beside = self.folder / f"{_PARTIAL}{iteration:07d}"
        metadata = {**self.metadata, "iteration": str(iteration)}
        try:
            with naming_disk(place):
                beside.mkdir()
                write_weights(model, beside / "model.safetensors", metadata)
                if average is not None:
                    write_weights(average, beside / "ema.safetensors", metadata)
                torch.save(dict(state), beside / "state.pt")
                manifest = {file.name: fingerprint(file) for file in sorted(beside.iterdir())}
                (beside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
                for file in beside.iterdir():
                    _sync(file)
                _sync(beside)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
        if place.exists():  # a broken one that a resumed run has passed again
            self._remove(place)
        os.replace(beside, place)
        _sync(self.folder)
        folders = self.list()
        # Newer ones are broken, or the run would have gone on from there; they must not count for those that stay.
        newer = folders.index(place)
        for old in folders[:newer] + folders[newer + self.keep :]:
            self._remove(old)
        return place

    def _remove(self, folder: Path) -> None:
        """Out of sight in one step: a run that is killed meanwhile must not find half of it."""
        gone = self.folder / folder.name.replace(_PREFIX, _REMOVED)
        os.replace(folder, gone)
        shutil.rmtree(gone, ignore_errors=True)

    def list(self) -> list[Path]:
        """Checkpoint folders, newest first."""
        return sorted((f for f in self.folder.glob(f"{_PREFIX}*") if f.is_dir()), reverse=True)

    def latest(self, warn: Any = print) -> Checkpoint | None:
        """The newest checkpoint whose files are all as they were written; None where there is none.

        Args:
            warn: told about each newer one that is broken.
        """
        for folder in self.list():
            try:
                return read_checkpoint(folder)
            except ValueError as error:
                warn(f"{error}; trying the one before")
        return None


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint.

    Raises:
        ValueError: when a file is missing or differs from the manifest.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        broken = [name for name, written in manifest.items() if fingerprint(folder / name) != written]
        if broken or not {"model.safetensors", "state.pt"} <= set(manifest):
            raise ValueError(f"{', '.join(broken) or 'a file'} is not as it was written")
        state = torch.load(folder / "state.pt", map_location="cpu", weights_only=True)
        if lacking := [key for key in _STATE if key not in state]:
            raise ValueError(f"state.pt has no {', '.join(lacking)}")
        return Checkpoint(
            folder=folder,
            model=read_weights(folder / "model.safetensors"),
            average=read_weights(folder / "ema.safetensors") if "ema.safetensors" in manifest else None,
            state=state,
        )
    except (*UNREADABLE, pickle.UnpicklingError) as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ValueError(f"checkpoint {folder} cannot be used ({reason})") from error


def _size(value: Any) -> int:
    """Bytes of the tensors anywhere in it."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, (list, tuple)) else 0


def fingerprint(file: Path) -> dict[str, int]:
    """Size and CRC-32 of a file."""
    checksum = 0
    with file.open("rb") as stream:
        while block := stream.read(_BLOCK):
            checksum = zlib.crc32(block, checksum)
    return {"bytes": file.stat().st_size, "crc32": checksum}


def _sync(path: Path) -> None:
    """To the disk; folders cannot be opened for that on every system."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
