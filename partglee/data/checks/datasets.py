"""What is wrong in a registered data set, whatever form it has: one annotation file, several, or label maps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from partglee.basics.files import read_json
from partglee.data.annotations.coco_json import read_coco
from partglee.data.annotations.entries import as_content
from partglee.data.annotations.shards import read_shards
from partglee.data.catalog import DataSets
from partglee.data.checks.content import Report, validate
from partglee.data.records import Records
from partglee.data.spec import DatasetSpec, missing_files
from partglee.structures import Vocabulary

NOT_LOADED = "data set that cannot be loaded"  # an error of the report


def validate_dataset(
    spec: DatasetSpec, *, images: Path | None = None, progress: bool = False, data: DataSets | None = None
) -> Report:
    """Check the annotations of a data set, its image files too where their folder is there, and its counts.

    Args:
        images: folder of the images; None = the registered one.
        progress: show a progress bar on stderr.
        data: what was read before, and is to be used afterwards.

    Returns:
        The report; an error for each file or folder that is missing, a warning for each count that differs.

    Raises:
        ValueError: when there are no annotations (with the expected path), or they are not readable at all.
    """
    missing = missing_files(spec)
    if "annotations" in missing:
        raise ValueError(f"{spec.name} has no file {missing['annotations']}; datasets/README.md says how to get it")
    try:
        records = (data or DataSets()).read(spec)
    except ValueError as error:
        records, reason = None, str(error)
    of_files = spec.reader in (read_coco, read_shards)
    if records is None and not of_files:
        raise ValueError(reason)
    folder = images or spec.image_root
    known = () if spec.vocabulary is None else Vocabulary.parse(spec.vocabulary).object_names
    report = Report()
    for content in _files(spec) if of_files or records is None else [_of_records(records, report, progress)]:
        there = folder if folder.is_dir() else None
        report.add(validate(content, images=there, objects=known, progress=progress))
    if images is not None:
        missing.pop("images", None)
    for path in missing.values():
        report.error("file or folder that is missing", str(path))
    if records is None:
        report.error(NOT_LOADED, reason)
        return report
    report.counts = spec.counts.beside(held_by(records) or _usable(report))
    for text, agrees in report.counts:
        if not agrees:
            report.warn("count that is not the expected one", text)
    return report


def _files(spec: DatasetSpec) -> Iterator[Any]:
    """The content of each annotation file, with names of images as the reader takes them."""
    path = spec.annotation_path
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        content = read_json(file, "annotation file")
        keep_path_parts(content, spec.options.get("path_parts", 0))
        yield content


def _of_records(records: Records, report: Report, progress: bool) -> dict[str, Any]:
    """Label maps as if they were a file; what cannot be read goes to the report."""
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    content, problems = as_content(records, tqdm(range(len(records)), unit=" samples", disable=not progress))
    for problem in problems:
        report.error("sample that cannot be read", problem)
    for what, count in getattr(records, "issues", {}).items():
        report.warn("what the reader left out", f"{count} x {what}")
    return content


def held_by(records: Records) -> dict[str, int]:
    """What the files of a data set hold, by the names of `Counts.told`; empty where that takes reading all of them."""
    counts = getattr(records, "counts", None)
    return {} if counts is None else counts()


def _usable(report: Report) -> dict[str, int]:
    return {what.removeprefix("usable "): count for what, count in report.summary.items()}


def keep_path_parts(content: Any, number: int) -> None:
    """Shorten the names of images to their last parts, as `CocoRecords` does; 0 = leave them."""
    if number and isinstance(content, dict):
        for entry in content.get("images", ()):
            if isinstance(entry, dict) and isinstance(entry.get("file_name"), str):
                entry["file_name"] = "/".join(entry["file_name"].split("/")[-number:])
