"""The console, `log.txt`, `metrics.jsonl` and TensorBoard."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
        handlers.append(logging.FileHandler(output_dir / "log.txt", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(form)
        LOGGER.addHandler(handler)
    return LOGGER


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
            kept = [line for line in file.read_text(encoding="utf-8").splitlines() if _iteration(line) <= start]
            with whole_file(file) as beside:
                beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, iteration: int, values: Mapping[str, Any]) -> None:
        """Append one line."""
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"iteration": iteration, **values}) + "\n")


def _iteration(line: str) -> float:
    try:
        return float(json.loads(line)["iteration"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return float("inf")  # half a line of a run that was killed
