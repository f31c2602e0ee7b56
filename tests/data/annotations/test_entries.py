"""Records as the content of a file."""

from __future__ import annotations

from pathlib import Path

import coco_files

from partglee.data.annotations.entries import as_content
from partglee.data.checks.content import validate


def test_records_as_content(tmp_path: Path) -> None:
    """What is read from the example is written again: names, boxes, links, and ids that say the place."""
    coco_files.write(tmp_path, coco_files.two_images())
    records = coco_files.spec_of(tmp_path).read()
    content, problems = as_content(records, [1, 0])
    report = validate(content, images=tmp_path / "unused")  # file names are absolute
    assert problems == [] and not report.errors and not report.warnings, report.text()
    assert [image["id"] for image in content["images"]] == [2, 1]
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    found = [(names[entry["category_id"]], entry["bbox"], entry.get("parent_id")) for entry in content["annotations"]]
    assert found == [
        ("dog", [5, 5, 30, 40], None), ("car", [20, 10, 60, 40], None), ("car:wheel", [30, 40, 10, 10], 2),
        ("car:left mirror", [20, 20, 4, 6], 2),
    ]  # fmt: skip
