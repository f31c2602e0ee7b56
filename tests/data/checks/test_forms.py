"""Files of a project's own form: `partglee data check` hands them to whoever knows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from partglee.cli import main
from partglee.data.checks.content import Report
from partglee.data.checks.forms import form_of, register_form


def look(file: Path, images: Path | None) -> Report:
    report = Report()
    report.summary["lines"] = len(file.read_text().splitlines())
    if "bad" in file.read_text():
        report.error("a bad line", f"{file.name}, images {images}")
    return report


def test_a_form_is_asked(tmp_path, capsys):
    register_form(".odd.jsonl", look)
    register_form(".odd.jsonl", look)  # again by the same one
    file = tmp_path / "a.odd.jsonl"
    file.write_text("good\n")
    assert main(["data", "check", str(file)]) == 0
    assert "1 lines" in capsys.readouterr().out
    file.write_text("bad\n")
    assert main(["data", "check", str(file), "--images", str(tmp_path)]) == 1
    assert f"a.odd.jsonl, images {tmp_path}" in capsys.readouterr().out
    assert form_of(file) is look and form_of(tmp_path / "a.json") is None
    with pytest.raises(ValueError, match="another form already"):
        register_form(".odd.jsonl", lambda file, images: Report())
