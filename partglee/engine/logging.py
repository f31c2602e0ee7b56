"""The console, `log.txt`, `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from partglee.basics.disk import naming_disk
from partglee.basics.files import whole_file

LOGGER = logging.getLogger("partglee")


def set_up_logging(output_dir: Path | None, *, process: int = 0) -> logging.Logger:
    """Lines with a time to the console and to `output_dir/log.txt`; processes beside the first only warn."""
    LOGGER.handlers.clear()
    LOGGER.setLevel(logging.INFO if process == 0 else logging.WARNING)
    LOGGER.propagate = False
    form = logging.Formatter(
        "%(asctime)s " + (f"[{process}] " if process else "") + "%(message)s", datefmt="%m-%d %H:%M:%S"
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if output_dir is not None and process == 0:
        output_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(output_dir / "log.txt", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(form)
        LOGGER.addHandler(handler)
    return LOGGER


class _LogFile(logging.FileHandler):
    """Says once that it cannot be written, and lets the run say what ends it."""

    def handleError(self, record: logging.LogRecord) -> None:
        print(f"partglee: {self.baseFilename} cannot be written any more: {sys.exc_info()[1]}", file=sys.stderr)
        LOGGER.removeHandler(self)


class MetricsFile:
    """One JSON object a line, each with its `iteration`.

    Args:
        file: appended to.
        start: lines of later iterations are dropped first: a resumed run writes them again.
    """

    def __init__(self, file: Path, *, start: int = 0) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_file():
            lines = file.read_bytes().decode("utf-8", errors="replace").splitlines()
            damaged = [line for line in lines[:-1] if _iteration(line) == float("inf")]  # the last may be half of one
            if damaged:
                LOGGER.warning(f"{file}: {len(damaged)} of {len(lines)} lines cannot be read and are left out")
            kept = [line for line in lines if _iteration(line) <= start]
            with whole_file(file) as beside:
                beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Append one line, whole or not at all; `DiskFull` where there is no room."""
        with naming_disk(self.file), self.file.open("ab") as stream:
            size = stream.tell()
            try:
                stream.write((json.dumps({"iteration": iteration, **values}) + "\n").encode())
                stream.flush()
            except OSError:
                if self.file.is_file():
                    os.truncate(self.file, size)
                raise


def _iteration(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")  # half a line of a run that was killed
