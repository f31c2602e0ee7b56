"""What comes from outside while a run goes on: SIGTERM, a second run, a full disk, files that went bad, other data."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import losses, make_batch, run_small, small_config

from partglee.basics import disk, locks
from partglee.basics.disk import DiskFull, check_room, naming_disk
from partglee.basics.files import whole_file
from partglee.basics.locks import locked_folder
from partglee.basics.signals import STATUS, Terminated, asked, listening, patience
from partglee.engine.build import build_accelerator, build_trainer
from partglee.engine.checkpointer import Checkpointer, fingerprint
from partglee.engine.hooks import Evaluate
from partglee.engine.launch import spawn
from partglee.engine.logging import MetricsFile
from partglee.engine.resume import DATA, changes
from partglee.engine.trainer import Hook, Trainer, endless
from partglee.engine.weight_files import CONFIG_TEXT


class SignalAfter(Hook):
    def __init__(self, iteration: int) -> None:
        self.iteration = iteration

    def after_step(self, trainer: Trainer) -> None:
        if trainer.iteration == self.iteration:
            os.kill(os.getpid(), signal.SIGTERM)


# -- SIGTERM


def test_the_step_is_finished_and_saved(tmp_path: Path) -> None:
    whole = small_config(tmp_path, ["SOLVER.MAX_ITER", 5, "OUTPUT_DIR", tmp_path / "a" / "run"])
    run_small(whole)
    cfg = small_config(tmp_path, ["SOLVER.MAX_ITER", 5, "OUTPUT_DIR", tmp_path / "b" / "run"])
    with listening(), pytest.raises(Terminated):
        run_small(cfg, hooks=[SignalAfter(2)])  # noticed in step 3, which no period saves
    newest = Checkpointer(folder=tmp_path / "b" / "run" / "checkpoints", keep=3).latest()
    assert newest is not None and newest.state["iteration"] == 3
    assert not asked()
    run_small(cfg, resume=True)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def one_of_two(folder: str) -> int:
    """SIGTERM comes to the second process alone."""
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    cfg = small_config(Path(folder), ["SOLVER.MAX_ITER", 50, "SOLVER.CHECKPOINT_PERIOD", 50])
    accelerator = build_accelerator(cfg, cpu=torch.cuda.is_available())
    hooks = [SignalAfter(2)] if rank else []
    build_trainer(cfg, accelerator, endless([make_batch(rank)]), extra_hooks=hooks).train()
    return 0


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_all_processes_stop_after_the_same_step_and_one_saves(tmp_path: Path) -> None:
    small_config(tmp_path)  # writes the table
    assert spawn(one_of_two, (str(tmp_path),), num_processes=2) == STATUS
    newest = Checkpointer(folder=tmp_path / "run" / "checkpoints", keep=3).latest()
    assert newest is not None and newest.state["iteration"] == 3


def test_an_evaluation_ends_at_once_and_the_step_is_saved(tmp_path: Path) -> None:
    def evaluate(folder: Path, pictures: int) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    cfg = small_config(tmp_path, ["SOLVER.MAX_ITER", 5])
    hook = Evaluate(evaluate=evaluate, output_dir=tmp_path, period=1)
    start = time.monotonic()
    with listening(), pytest.raises(Terminated):
        run_small(cfg, hooks=[hook])
    assert time.monotonic() - start < 55
    assert [f.name for f in (tmp_path / "run" / "checkpoints").iterdir()] == ["step_0000001"]


def test_patience_keeps_the_signal_and_outside_it_raises_once() -> None:
    with listening():
        with patience():
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked()
            with pytest.raises(Terminated), patience(False):
                pass
        os.kill(os.getpid(), signal.SIGTERM)  # the way out is not interrupted
    with listening(), pytest.raises(Terminated):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


# -- two runs


def test_a_second_run_is_refused_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    hold = """
import os, sys, time
from pathlib import Path
from partglee.basics.locks import locked_folder
with locked_folder(Path(sys.argv[1]), "OUTPUT_DIR"):
    if not os.fork():
        print("worker", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == "worker\n"
        with (
            pytest.raises(ValueError, match=rf"OUTPUT_DIR {tmp_path} is in use by process {process.pid} on "),
            locked_folder(tmp_path, "OUTPUT_DIR"),
        ):
            pass
        process.kill()
        process.wait()
        for _ in range(2):  # the worker lives on, and holds nothing
            with locked_folder(tmp_path, "OUTPUT_DIR"):
                pass
    finally:
        os.killpg(process.pid, signal.SIGKILL)


def test_without_locks_of_the_system_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    with locked_folder(tmp_path / "run", "OUTPUT_DIR"), locked_folder(tmp_path / "run", "OUTPUT_DIR"):
        assert not (tmp_path / "run").exists()


# -- a full disk


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
        RuntimeError("[enforce fail at inline_container.cc:783] . PytorchStreamWriter failed writing file data/1"),
    ],
)
def test_a_disk_that_fills_while_a_checkpoint_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    cfg = small_config(tmp_path, ["SOLVER.MAX_ITER", 4])
    save = torch.save

    def full(content: Any, file: Path) -> None:
        if content["iteration"] == 4:
            file.write_bytes(b"half")
            raise error
        save(content, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(DiskFull, match=r"no room for .*step_0000004 on the disk of /.*MB are free$"):
            run_small(cfg)
    folder = tmp_path / "run" / "checkpoints"
    assert [f.name for f in folder.iterdir()] == ["step_0000002"]
    assert run_small(cfg, resume=True).iteration == 4
    assert sorted(losses(tmp_path)) == [1, 2, 3, 4]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a process of its own")
@pytest.mark.parametrize("limit", [1_000, 60_000, 400_000])
def test_files_that_may_not_grow(tmp_path: Path, limit: int) -> None:
    """A limit of the system on the size of a file, in a process of its own: every writer fails at another point."""
    checkpointer = Checkpointer(folder=tmp_path, keep=2)
    save = {"model": {"a": torch.zeros(20_000)}, "state": {"iteration": 1, "m": torch.zeros(100_000)}}
    checkpointer.save(1, **save)
    child = os.fork()
    if not child:
        status = 1
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            checkpointer.save(2, **save)
        except Exception:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert [f.name for f in tmp_path.iterdir()] == ["step_0000001"]
    newest = checkpointer.latest()
    assert newest is not None and newest.state["iteration"] == 1


def test_room_is_looked_for_before_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: usage(9e9, 9e9, 3_000_000))
    checkpointer = Checkpointer(folder=tmp_path, keep=2)
    state = {"iteration": 1, "optimizer": {"state": {0: {"m": torch.zeros(100_000)}}}}  # 0.4 MB
    checkpointer.save(1, model={"a": torch.zeros(100_000)}, state=state)  # 0.8 MB and a little
    with pytest.raises(DiskFull, match=r"step_0000002 on the disk of .* it needs 3\.8 MB, 3\.0 MB are free"):
        checkpointer.save(2, model={"a": torch.zeros(600_000)}, state=state)
    assert [f.name for f in tmp_path.iterdir()] == ["step_0000001"]
    check_room(tmp_path / "not" / "there", 1)


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(DiskFull, match=r"no room for /dev/full"):
        MetricsFile.write(_at(Path("/dev/full")), 1, {"a": 2})
    with pytest.raises(DiskFull, match="no room for"), whole_file(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="other"), naming_disk(tmp_path):
        raise ValueError("other")


def _at(file: Path) -> MetricsFile:
    metrics = MetricsFile.__new__(MetricsFile)
    metrics.file = file
    return metrics


# -- files that went bad


@pytest.mark.parametrize("content", [b"", b"\x80\x02]q\x00.", b"not a pickle", {"no": "iteration"}, [1, 2]])
def test_a_state_that_cannot_be_read_gives_way_to_the_one_before(tmp_path: Path, content: Any) -> None:
    """Its checksum is right: it was written that way."""
    checkpointer = Checkpointer(folder=tmp_path, keep=3)
    for step in (1, 2):
        checkpointer.save(step, model={"a": torch.ones(1) * step}, state={"iteration": step})
    folder = tmp_path / "step_0000002"
    if isinstance(content, bytes):
        (folder / "state.pt").write_bytes(content)
    else:
        torch.save(content, folder / "state.pt")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.pt"] = fingerprint(folder / "state.pt")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    told: list[str] = []
    newest = checkpointer.latest(told.append)
    assert newest is not None and newest.state["iteration"] == 1
    assert len(told) == 1 and "step_0000002 cannot be used" in told[0]


def test_lines_that_cannot_be_read_are_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b'{"iteration": 1}\n\xff\xfe\x00\n{"iteration": 2}\n[3]\n{"iteration": 3}\n{"itera')
    with caplog.at_level("WARNING", logger="partglee"):
        MetricsFile(file, start=2)
    assert file.read_text() == '{"iteration": 1}\n{"iteration": 2}\n'
    assert "2 of 6 lines cannot be read" in caplog.text


def test_removal_is_a_rename_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the middle of a removal: nothing that looks like a checkpoint is half there."""
    checkpointer = Checkpointer(folder=tmp_path, keep=1)
    checkpointer.save(1, model={"a": torch.zeros(1)}, state={"iteration": 1})
    monkeypatch.setattr("partglee.engine.checkpointer.shutil.rmtree", lambda *a, **k: None)
    checkpointer.save(2, model={"a": torch.zeros(1)}, state={"iteration": 2})
    assert [f.name for f in checkpointer.list()] == ["step_0000002"]
    assert (tmp_path / ".removed_0000001").is_dir()
    monkeypatch.undo()
    checkpointer.save(3, model={"a": torch.zeros(1)}, state={"iteration": 3})
    assert [f.name for f in tmp_path.iterdir()] == ["step_0000003"]


# -- other values, other data


def test_what_changed_since_the_checkpoint() -> None:
    then = {CONFIG_TEXT: "SOLVER: {MAX_ITER: 4, LR: 0.1}\nA: 1\n", DATA: '{"x": {"bytes": 3, "crc32": 5}, "y": {}}'}
    now = {CONFIG_TEXT: "SOLVER: {MAX_ITER: 9, LR: 0.1}\nB: 2\n", DATA: '{"x": {"bytes": 3, "crc32": 6}, "z": {}}'}
    assert changes(then, then) == [] == changes({}, now)
    told = changes(then, now)
    assert told[:3] == ["A: 1, now None", "B: None, now 2", "SOLVER.MAX_ITER: 4, now 9"]
    assert len(told) == 4 and "'x'" in told[3] and "'crc32': 5" in told[3] and "'crc32': 6" in told[3]


def test_a_resumed_run_says_what_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    logger = logging.getLogger("partglee")
    handler = logging.StreamHandler(sys.stdout)
    logger.addHandler(handler)
    run_small(small_config(tmp_path, ["SOLVER.MAX_ITER", 1]), [make_batch(0)])
    run_small(small_config(tmp_path, ["SOLVER.MAX_ITER", 2]), [make_batch(0)], resume=True)
    logger.removeHandler(handler)
    said = [line for line in capsys.readouterr().out.splitlines() if "resumed with another" in line]
    assert said == ["resumed with another SOLVER.MAX_ITER: 1, now 2"]
