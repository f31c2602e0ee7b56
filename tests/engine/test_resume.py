"""A run that stops and goes on is the run that did not stop, whatever stopped it."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training_samples import losses, run_small, small_config

from partglee.engine.checkpointer import Checkpointer, read_checkpoint
from partglee.engine.trainer import Hook, Trainer


class StopAfter(Hook):
    """Interrupts a run between two checkpoints."""

    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration == self.iteration:
            raise KeyboardInterrupt


EMA = ["SOLVER.EMA_DECAY", 0.9, "SOLVER.ACCUMULATE", 2, "SOLVER.SCHEDULE", "cosine"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps without a stop."""
    folder = tmp_path_factory.mktemp("whole")
    run_small(small_config(folder, ["SOLVER.MAX_ITER", 6]))
    return folder


def test_resumed_run_equals_the_whole_one(tmp_path: Path) -> None:
    """Losses, weights, average and optimiser, bit for bit, with accumulation and a schedule."""
    run_small(small_config(tmp_path, [*EMA, "SOLVER.MAX_ITER", 5, "OUTPUT_DIR", tmp_path / "a" / "run"]))
    cfg = small_config(tmp_path, [*EMA, "SOLVER.MAX_ITER", 5, "OUTPUT_DIR", tmp_path / "b" / "run"])
    with pytest.raises(KeyboardInterrupt):
        run_small(cfg, hooks=[StopAfter(3)])
    torch.manual_seed(99)  # whatever happened to the generators in between
    run_small(cfg, resume=True)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    a, b = (read_checkpoint(tmp_path / name / "run" / "checkpoints" / "step_0000005") for name in "ab")
    for one, two in ((a.model, b.model), (a.average, b.average)):
        assert one is not None and two is not None and one.keys() == two.keys()
        assert all(torch.equal(one[k], two[k]) for k in one)
    for key, moments in a.state["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, b.state["optimizer"]["state"][key][name])
    assert a.state["average_updates"] == b.state["average_updates"] == 5
    assert any(not torch.equal(a.model[k], a.average[k]) for k in a.average)


def test_killed_while_saving(tmp_path: Path, whole: Path) -> None:
    """The process is killed inside the save of step 4: step 2 is found, and the rest comes out the same."""
    script = Path(__file__).with_name("killed_run.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "4"], env=environment(), capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    folder = tmp_path / "run" / "checkpoints"
    assert {f.name for f in folder.iterdir()} == {"step_0000002", ".partial_0000004"}
    run_small(small_config(tmp_path, ["SOLVER.MAX_ITER", 6]), resume=True)
    assert losses(tmp_path) == losses(whole)
    assert {f.name for f in folder.iterdir()} == {"step_0000002", "step_0000004", "step_0000006"}


def test_killed_at_any_moment(tmp_path: Path) -> None:
    """Killed from outside while it saves at every step: at most one interval is lost."""
    script = Path(__file__).with_name("killed_run.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path), "0"], env=environment(), stdout=subprocess.DEVNULL
    )
    folder = tmp_path / "run" / "checkpoints"
    try:
        while not (folder / "step_0000003").is_dir():  # on a busy machine that takes minutes
            assert process.poll() is None
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    last = max(losses(tmp_path))
    found = Checkpointer(folder=folder, keep=3).latest()
    assert found is not None and last - 1 <= found.state["iteration"] <= last
    cfg = small_config(tmp_path, ["SOLVER.MAX_ITER", found.state["iteration"] + 1, "SOLVER.CHECKPOINT_PERIOD", 1])
    assert run_small(cfg, resume=True).iteration == found.state["iteration"] + 1


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "manifest"])
def test_a_broken_newer_checkpoint_is_passed_over(tmp_path: Path, whole: Path, damage: str) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole / "run" / "checkpoints", folder)
    file = folder / "step_0000006" / ("model.safetensors" if damage != "manifest" else "manifest.json")
    content = bytearray(file.read_bytes())
    if damage == "remove":
        file.unlink()
    elif damage == "flip":
        content[-10] ^= 1
        file.write_bytes(content)
    else:
        file.write_bytes(content[: len(content) // 2])
    told: list[str] = []
    found = Checkpointer(folder=folder, keep=3).latest(told.append)
    assert found is not None and found.folder.name == "step_0000004" and found.state["iteration"] == 4
    assert len(told) == 1 and "step_0000006" in told[0]


def test_a_broken_newer_checkpoint_does_not_push_out_good_ones(tmp_path: Path) -> None:
    """A run that went on from an older one and keeps one checkpoint: it must be the one just saved."""
    checkpointer = Checkpointer(folder=tmp_path, keep=1)
    checkpointer.save(6, model={"a": torch.zeros(2)}, state={"iteration": 6})
    (tmp_path / "step_0000006" / "model.safetensors").write_bytes(b"")
    place = checkpointer.save(4, model={"a": torch.ones(2)}, state={"iteration": 4})
    assert checkpointer.list() == [place]
    found = checkpointer.latest()
    assert found is not None and found.state["iteration"] == 4


def test_keeps_the_last(whole: Path) -> None:
    names = [f.name for f in Checkpointer(folder=whole / "run" / "checkpoints", keep=3).list()]
    assert names == ["step_0000006", "step_0000004", "step_0000002"]


def test_an_earlier_run_is_not_overwritten(whole: Path) -> None:
    with pytest.raises(ValueError, match=r"step_0000006.*--resume"):
        run_small(small_config(whole))


def test_resume_without_a_checkpoint_starts_at_the_beginning_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("partglee").propagate = True
    with caplog.at_level(logging.INFO, logger="partglee"):
        assert run_small(small_config(tmp_path, ["SOLVER.MAX_ITER", 1]), resume=True).iteration == 1
    assert f"no checkpoint to go on from in {tmp_path / 'run' / 'checkpoints'}" in caplog.text


def test_resume_with_another_architecture(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    with pytest.raises(ValueError, match=r"step_0000006 does not fit.*MODEL\.WEIGHTS"):
        run_small(small_config(tmp_path / "copy", ["MODEL.QFORMER.NUM_QUERIES", 5]), resume=True)


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}
