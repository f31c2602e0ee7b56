"""Read and write weight files. Nothing is unpickled; files appear whole."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from partglee.basics.files import whole_file

# What torch's restricted unpickler and its zip reader raise on foreign or damaged bytes.
UNREADABLE = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, AssertionError, struct.error,
    MemoryError,  # a damaged length
)  # fmt: skip
CONFIG_NAME = "partglee_config"  # metadata: the zoo's name of the configuration that weights belong to
_WRAPPERS = ("model", "state_dict", "model_state_dict")


def read_weights(file: str | Path) -> dict[str, Tensor]:
    """All tensors of a `.safetensors` or torch file, by key, on the CPU.

    A torch file may hold the tensors directly or under `model` / `state_dict`, and is opened with `weights_only=True`.
    The checksums of its zip archive are verified, which torch does not do; files of torch before 1.6 have none.

    Raises:
        ValueError: for a missing, empty, truncated, overwritten or foreign file.
    """
    path = Path(file)
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"weights file {path} {what}; pass a .safetensors or .pth file")
    if path.stat().st_size == 0:
        raise ValueError(f"weights file {path} is empty (0 bytes); download it again")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return _read_torch(path)


def read_metadata(file: str | Path) -> dict[str, str]:
    """The text entries stored beside the tensors of a `.safetensors` file; empty for torch files."""
    path = Path(file)
    if path.suffix != ".safetensors" or not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as tensors:
            return dict(tensors.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(_unreadable(path, error)) from error


def write_weights(state: Mapping[str, Tensor], file: str | Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a `.safetensors` file, which appears whole.

    Raises:
        ValueError: for a file of another ending.
    """
    path = Path(file)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are written as .safetensors, got {path.name!r}; change the ending")
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    with whole_file(path) as beside:
        save_file(tensors, beside, metadata={"format": "pt", **(metadata or {})})


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as tensors:
            return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(_unreadable(path, error)) from error


def _check_archive(path: Path) -> None:
    """ValueError when an entry is not as it was written; what is no archive at all is left to torch."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            folders = [entry.filename for entry in archive.infolist() if entry.external_attr & 0x10 and entry.file_size]
    except (*UNREADABLE, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(_unreadable(path, error)) from error
    if damaged is not None:
        raise ValueError(
            f"{path} is damaged: the checksum of its entry {damaged!r} is wrong; copy or download it again"
        )
    if folders:  # torch reads nothing for such an entry, and hands out memory that nobody wrote
        raise ValueError(
            f"{path} is damaged: its entry {folders[0]!r} calls itself a folder; copy or download it again"
        )


def _read_torch(path: Path) -> dict[str, Tensor]:
    _check_archive(path)
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} ({path.stat().st_size} bytes) holds more than tensors, or is no torch file. Only tensors are read "
            "(weights_only=True): re-save its state dict alone with torch.save, or check that the download is complete"
        ) from error
    except UNREADABLE as error:
        raise ValueError(_unreadable(path, error)) from error
    for wrapper in _WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}; expected a state dict (key -> tensor)")
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not tensors:
        raise ValueError(f"{path} holds no tensors; its entries: {', '.join(map(str, list(content)[:5])) or 'none'}")
    return tensors


def _unreadable(path: Path, error: Exception) -> str:
    size = path.stat().st_size if path.is_file() else 0
    reason = f"{type(error).__name__}: {_first_line(error)}"
    return f"cannot read weights from {path} ({size} bytes; {reason}). Truncated, or another format?"


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__
