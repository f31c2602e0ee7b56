"""What a command says to OpenMP before torch is loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from partglee.basics.threads import share_cores


@pytest.mark.parametrize(
    ("limit", "threads"),
    [("max 100000", None), ("100000 100000", "1"), ("50000 100000", "1"), ("999999999 100000", None), ("odd", None)],
)
def test_environment(limit: str, threads: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    (tmp_path / "cpu.max").write_text(limit)
    said: dict[str, str] = {}
    assert share_cores(said, quota=tmp_path / "cpu.max")
    assert said.get("OMP_NUM_THREADS") == threads and said["GOMP_SPINCOUNT"] == "3000"
    own = {"OMP_NUM_THREADS": "3", "OMP_WAIT_POLICY": "ACTIVE"}
    assert share_cores(own, quota=tmp_path / "cpu.max") and own["OMP_NUM_THREADS"] == "3"
    assert own["OMP_WAIT_POLICY"] == "ACTIVE" and "GOMP_SPINCOUNT" not in own
    assert share_cores({}, quota=tmp_path / "none")


def test_too_late() -> None:
    assert "torch" in sys.modules
    said: dict[str, str] = {}
    assert not share_cores(said) and not said


def test_a_command_says_it_in_time() -> None:
    script = "import os, partglee.cli; partglee.cli.main(['vocabulary']); print(os.environ['GOMP_SPINCOUNT'])"
    kept = {key: value for key, value in os.environ.items() if "OMP_" not in key}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=kept)
    assert done.stdout.split()[-1] == "3000"
