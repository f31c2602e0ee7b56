"""Columns on disk: one safetensors file that is mapped into memory, so that processes and workers share its pages."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
import zlib
from dataclasses import fields
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from partglee.basics.files import whole_file
from partglee.data.annotations.columns import Columns, read_columns

VERSION = 4  # of what lies in the file; raise it with every change of `Columns` or of the repairs
_PLAIN = ("categories", "federated", "issues")  # the fields of `Columns` that are no arrays
_log = logging.getLogger(__name__)


def load_columns(path: Path) -> Columns:
    """Columns of an annotation file, from the cache when that was made from this very file.

    The cache lies beside the file, or under `XDG_CACHE_HOME` (~/.cache) where that folder cannot be written to. A cache
    that is stale or damaged is made anew.

    Raises:
        ValueError: when the file is missing or is no annotation file, see `read_columns`.
    """
    if not path.is_file():
        raise ValueError(
            f"annotation file '{path}' does not exist; is PARTGLEE_DATASETS set to the folder of your data sets?"
        )
    source = _fingerprint(path)
    for file in _places(path):
        if file.is_file():
            try:
                return _read(file, source)
            except (SafetensorError, ValueError, KeyError, OSError) as error:
                _log.info("the cache %s is not used (%s); reading %s anew", file, error, path)
    start = time.perf_counter()
    columns = read_columns(path)
    _log.info(
        "read %s: %d images, %d annotations in %.1f s",
        path, len(columns), len(columns.annotation_id), time.perf_counter() - start,
    )  # fmt: skip
    for file in _places(path):
        try:
            _write(file, columns, source)
            shutil.copymode(path, file)  # whoever reads the annotations may read the cache
        except OSError as error:
            _log.info("no cache at %s (%s)", file, error)
        else:
            # The mapped file, not the arrays just made: workers share its pages, and the memory is free again.
            return _read(file, source)
    return columns


def _fingerprint(path: Path) -> str:
    facts = path.stat()
    return json.dumps([str(path.resolve()), facts.st_size, facts.st_mtime_ns, VERSION])


def _places(path: Path) -> list[Path]:
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [path.with_name(f".{path.name}.columns"), home / "partglee" / f"{path.stem}-{name}.columns"]


def _write(file: Path, columns: Columns, source: str) -> None:
    arrays = {f.name: np.ascontiguousarray(getattr(columns, f.name)) for f in fields(Columns) if f.name not in _PLAIN}
    plain = {name: getattr(columns, name) for name in _PLAIN}
    metadata = {"source": source, "plain": json.dumps(plain), "checksum": str(_checksum(arrays))}
    try:
        with whole_file(file) as beside:
            save_file(arrays, beside, metadata)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _read(file: Path, source: str) -> Columns:
    with safe_open(file, framework="pt") as stored:  # torch maps the file, numpy would copy it
        metadata = stored.metadata() or {}
        if metadata.get("source") != source:
            raise ValueError("it was made from another version of the file")
        names = [f.name for f in fields(Columns) if f.name not in _PLAIN]
        arrays = {name: stored.get_tensor(name).numpy() for name in names}
    if metadata["checksum"] != str(_checksum(arrays)):
        raise ValueError("its checksum is wrong")
    plain = json.loads(metadata["plain"])
    plain["categories"] = tuple(plain["categories"])
    return Columns(**arrays, **plain)


def _checksum(arrays: dict[str, np.ndarray]) -> int:
    value = 0
    for name in sorted(arrays):
        value = zlib.crc32(arrays[name].reshape(-1).view(np.uint8).data, value)
    return value
