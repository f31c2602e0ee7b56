"""What is wrong in a file of USCDF, counted and with examples, for `partglee data check`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mglmm.data.record import Record, record_of
from mglmm.data.wordings import Wordings, english
from partglee.basics.files import read_json_lines
from partglee.basics.masks import decode
from partglee.data.checks.content import Report
from partglee.data.images import image_size


def check_uscdf(file: Path, images: Path | None = None, *, wordings: Wordings | None = None) -> Report:
    """Every record of a file.

    Args:
        images: folder of the images, whose files and sizes are looked at too.
        wordings: that users' turns may name.
    """
    report = Report()
    known = wordings or english()
    seen: set[str] = set()
    sizes: dict[str, Any] = {}
    for number, _, entry in read_json_lines(file, "USCDF file"):
        try:
            record = record_of(entry, f"line {number}")
            report.summary["records"] += 1
            record.check()
        except ValueError as error:
            report.error("a line is no record", f"line {number}: {error}")
            continue
        report.summary[f"of task {record.task}"] += 1
        report.summary["masks"] += len(record.masks)
        report.summary["phrases with masks"] += len(record.announced())
        if record.name in seen:
            report.error("a name comes twice", f"line {number}: {record.name!r}")
        seen.add(record.name)
        _look_at(record, report, known)
        if images is not None and record.image not in sizes:
            sizes[record.image] = _size_of(images / record.image)
        if images is not None and sizes[record.image] != record.size:
            what = "is missing" if sizes[record.image] is None else f"is of size {sizes[record.image]}"
            report.error(
                "an image is not as said", f"record {record.name!r}: {record.image!r} {what}, not {record.size}"
            )
    report.summary["images"] = len(sizes)
    if not images:
        del report.summary["images"]
    return report


def _look_at(record: Record, report: Report, wordings: Wordings) -> None:
    for turn in record.turns:
        if turn.wording:
            try:
                wordings.of(turn.wording)
            except ValueError as error:
                report.error("an unknown wording", f"record {record.name!r}: {error}")
    if unsaid := record.unsaid():
        report.warn("a mask that no phrase means", f"record {record.name!r}: mask {unsaid[0]}")
    empty = [row for row, mask in enumerate(record.masks) if not decode(mask.segmentation, *record.size).any()]
    if empty:
        report.warn("an empty mask", f"record {record.name!r}: mask {empty[0]}")


def _size_of(file: Path) -> tuple[int, int] | None:
    try:
        return image_size(file)
    except (OSError, ValueError):
        return None
