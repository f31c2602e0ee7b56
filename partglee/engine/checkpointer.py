"""Checkpoints that appear whole, and the way back to the last good one.

A checkpoint is a folder `step_0005000` with `model.safetensors` (usable by `Predictor`), `ema.safetensors` where
weights are averaged, `state.pt` (optimiser and counters) and `manifest.json` (size and CRC-32 of each file). It is
written beside its place and renamed when all of it is on the disk, so a run that is killed leaves the older ones and
perhaps a hidden folder, which the next save removes.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from partglee.checkpoint import read_weights, write_weights

_PREFIX = "step_"
_PARTIAL = ".partial_"
_BLOCK = 1 << 24


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
        """Write a checkpoint, then remove those that are too many. Returns its folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(f"{_PARTIAL}*"):
            shutil.rmtree(left, ignore_errors=True)
        place = self.folder / f"{_PREFIX}{iteration:07d}"
        beside = self.folder / f"{_PARTIAL}{iteration:07d}"
        beside.mkdir()
        metadata = {**self.metadata, "iteration": str(iteration)}
        write_weights(model, beside / "model.safetensors", metadata)
        if average is not None:
            write_weights(average, beside / "ema.safetensors", metadata)
        torch.save(dict(state), beside / "state.pt")
        manifest = {file.name: _fingerprint(file) for file in sorted(beside.iterdir())}
        (beside / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
        for file in beside.iterdir():
            _sync(file)
        _sync(beside)
        if place.exists():  # a broken one that a resumed run has passed again
            shutil.rmtree(place)
        os.replace(beside, place)
        _sync(self.folder)
        folders = self.list()
        # Newer ones are broken, or the run would have gone on from there; they must not count for those that stay.
        newer = folders.index(place)
        for old in folders[:newer] + folders[newer + self.keep :]:
            shutil.rmtree(old, ignore_errors=True)
        return place

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
        broken = [name for name, written in manifest.items() if _fingerprint(folder / name) != written]
        if broken or not {"model.safetensors", "state.pt"} <= set(manifest):
            raise ValueError(f"{', '.join(broken) or 'a file'} is not as it was written")
        return Checkpoint(
            folder=folder,
            model=read_weights(folder / "model.safetensors"),
            average=read_weights(folder / "ema.safetensors") if "ema.safetensors" in manifest else None,
            state=torch.load(folder / "state.pt", map_location="cpu", weights_only=True),
        )
    except (OSError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"checkpoint {folder} cannot be used ({error})") from error


def _fingerprint(file: Path) -> dict[str, int]:
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
