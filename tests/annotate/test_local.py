"""The engine of one machine: exactly once, whatever dies, hangs or fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from annotate_stages import content, failures, images, job_of, synthetic

from partglee.annotate import Job, JobStopped, open_job, read_recipe, run_local
from partglee.annotate.tables import read_table

NAMES = [f"i{number:03d}" for number in range(30)]


def test_same_rows_for_one_and_four_workers(tmp_path: Path) -> None:
    jobs = [job_of(tmp_path / str(workers), NAMES, ["invent"]) for workers in (1, 4)]
    for job, workers in zip(jobs, (1, 4), strict=True):
        summary = run_local(job, workers=workers)
        assert (summary.rows, summary.failed, summary.ran, summary.regions) == (30, 0, 30, 60)
        assert images(job) == NAMES
    assert content(jobs[0]) == content(jobs[1])
    assert b"thing" in content(jobs[0])


def test_failures_are_named_and_cost_nobody_else(tmp_path: Path) -> None:
    names = [*NAMES, "bad1", "j1", "j2", "bad2", "deadly"]
    done: list[tuple[int, int]] = []
    job = job_of(tmp_path, names, ["invent", "trouble"])
    summary = run_local(job, workers=2, max_errors=0.2, progress=lambda rows, failed: done.append((rows, failed)))
    assert images(job) == [name for name in names if not name.startswith(("bad", "deadly"))]
    told = failures(job)
    assert set(told) == {"bad1", "bad2", "deadly"}
    assert told["bad1"] == ("trouble", "ValueError: bad1 is bad")
    assert told["deadly"] == ("trouble", "its worker died 3 times (status -9)")
    assert (summary.rows, summary.failed) == (32, 3)
    tries = [json.loads(row["extra"])["tries"] for shard in range(5) for row in read_table(job.table("images", shard))]
    assert set(tries) == {1}, "a sample that is tried again starts from where it was"
    assert done and done[-1][0] <= 32


def test_an_image_that_hangs_is_named(tmp_path: Path) -> None:
    job = job_of(tmp_path, [*NAMES[:5], "hang", "j"], [{"stage": "trouble", "batch_size": 2, "time_limit": 4}])
    run_local(job, max_errors=1)
    assert images(job) == [*NAMES[:5], "j"]
    assert failures(job) == {"hang": ("trouble", "TimeoutError: not done after 4 s")}


def test_a_worker_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    names = [*NAMES, "once1", "once2"]
    job = job_of(tmp_path / "out", names, ["invent", {"stage": "trouble", "folder": str(tmp_path)}])
    summary = run_local(job, workers=2)
    assert images(job) == names
    assert (summary.failed, summary.restarts) == (0, 2)


def test_resume_runs_what_is_left(tmp_path: Path) -> None:
    job = job_of(tmp_path, NAMES, ["invent"])
    run_local(job)
    whole = content(job)
    job.marker(1).unlink()  # as if it had been killed before it was finished
    (tmp_path / "regions" / ".000001.jsonl.xyz.jsonl").write_text("cut o")
    again = job_of(tmp_path, NAMES, ["invent"])
    assert run_local(again).ran == 8
    assert content(again) == whole
    assert run_local(again).ran == 0


def test_retry_failed(tmp_path: Path) -> None:
    names = ["a", "later1", "b", "later2", *NAMES]
    stages = ["invent", {"stage": "trouble", "folder": str(tmp_path)}]
    job = job_of(tmp_path / "out", names, stages)
    assert run_local(job).failed == 2
    assert run_local(job).ran == 0, "failures run again only when asked"
    (tmp_path / "mended").touch()
    summary = run_local(job, retry_failed=True)
    assert (summary.ran, summary.rows, summary.regions, summary.failed) == (2, 34, 68, 0)
    assert images(job) == names
    assert not failures(job)
    other = job_of(tmp_path / "other", names, stages)
    run_local(other)
    assert content(job) == content(other)


def test_too_many_failures_end_the_job_and_a_higher_limit_goes_on(tmp_path: Path) -> None:
    names = [*(f"bad{n}" for n in range(8)), *NAMES]
    job = job_of(tmp_path, names, ["trouble"])
    with pytest.raises(JobStopped, match=r"8 images failed, more than the limit of 3; .*errors.jsonl"):
        run_local(job, max_errors=3)
    assert len(failures(job)) == 8
    assert run_local(job, max_errors=8).rows == 30


def test_a_stage_that_does_not_keep_its_word(tmp_path: Path) -> None:
    job = job_of(tmp_path, NAMES[:2], [{"stage": "boxes_alone"}, "promises"])
    assert run_local(job, max_errors=2).rows == 0
    reason = "it did not give what it promises: region.caption of region 0 ('thing') must be a text that means it"
    assert failures(job)["i000"] == ("promises", f"{reason}, got nothing")


def test_a_model_that_does_not_load_ends_the_job(tmp_path: Path) -> None:
    job = job_of(tmp_path, NAMES, ["no_start"])
    with pytest.raises(JobStopped, match="no_start does not start: FileNotFoundError: no model here"):
        run_local(job)


def test_gpus_that_are_not_there(tmp_path: Path) -> None:
    job = job_of(tmp_path, NAMES, [{"stage": "sleep", "gpus": 64}])
    with pytest.raises(ValueError, match=r"2 workers with 64 GPU each \(sleep\) need 128, there are"):
        run_local(job, workers=2)


@pytest.mark.parametrize(
    ("names", "change", "told"),
    [
        (NAMES[:-1], {}, "inputs.images was 30 and is 29"),
        (NAMES, {"seed": 3}, "recipe.seed was 0 and is 3"),
        (NAMES, {"stages": [{"stage": "invent", "regions": 5}]}, r"\[invent\].arguments.regions was None and is 5"),
        (NAMES, {"stages": ["invent", "sleep"]}, r"stages was \['invent'\] and is \['invent', 'sleep'\]"),
    ],
)  # fmt: skip
def test_a_folder_of_another_job_is_refused(
    tmp_path: Path, names: list[str], change: dict[str, Any], told: str
) -> None:
    job_of(tmp_path, NAMES, ["invent"])
    with pytest.raises(ValueError, match=f"holds another job: .*{told}"):
        job_of(tmp_path, names, change.pop("stages", ["invent"]), **change)
    job_of(tmp_path, NAMES, [{"stage": "invent", "time_limit": 5}])  # what does not decide rows may change


def test_folders_that_are_no_jobs(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").touch()
    with pytest.raises(ValueError, match=r"holds holiday\.txt and no job"):
        job_of(tmp_path, NAMES, ["invent"])
    with pytest.raises(ValueError, match="is a file"):
        job_of(tmp_path / "holiday.txt", NAMES, ["invent"])
    with pytest.raises(ValueError, match="holds no job"):
        open_job(tmp_path)
    with pytest.raises(ValueError, match="no image"):
        job_of(tmp_path / "new", [], ["invent"])


def test_an_image_named_twice_runs_once(tmp_path: Path) -> None:
    job = job_of(tmp_path / "a", [*NAMES, *NAMES[:3]], ["invent"])
    assert (job.num_images, job.repeated) == (30, 3)
    run_local(job)
    assert images(job) == NAMES
    other = Job(folder=tmp_path / "b", recipe=job.recipe)
    with pytest.raises(ValueError, match="two images have the id 'i000': i000 and elsewhere/i000"):
        other.prepare([*synthetic(NAMES), *[item._replace(file=f"elsewhere/{item.file}") for item in synthetic(NAMES)]])


RUN = """
import sys
from pathlib import Path
from annotate_stages import job_of
from partglee.annotate import run_local
if __name__ == "__main__":
    names = [f"i{n:03d}" for n in range(160)]
    stages = ["invent", {"stage": "sleep", "seconds": 0.002}]
    run_local(job_of(Path(sys.argv[1]), names, stages, shard_size=4), workers=2)
"""


def start(folder: Path) -> subprocess.Popen[bytes]:
    script = folder.parent / "run.py"
    script.write_text(RUN)
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(here.parents[2]), str(here.parent)])
    return subprocess.Popen([sys.executable, str(script), str(folder)], env={**os.environ, "PYTHONPATH": paths})


def test_killed_workers_and_drivers_lose_nothing(tmp_path: Path) -> None:
    whole = job_of(tmp_path / "whole", [f"i{n:03d}" for n in range(160)],
                   ["invent", {"stage": "sleep", "seconds": 0.002}], shard_size=4)  # fmt: skip
    run_local(whole)
    chance, folder = np.random.default_rng(0), tmp_path / "killed"
    for _ in range(3):  # the driver itself, after some shards
        process, before = start(folder), _finished(folder)
        while process.poll() is None and _finished(folder) == before:
            time.sleep(0.01)
        workers = _workers(process)
        if workers:
            with suppress(psutil.Error):
                workers[int(chance.integers(len(workers)))].kill()
        process.kill()
        process.wait()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert not alive, "a driver that is killed takes its workers along"
    process = start(folder)
    killer = threading.Thread(target=_kill_workers, args=(process, chance), daemon=True)
    killer.start()
    assert process.wait(timeout=200) == 0
    job = open_job(folder)
    assert images(job) == [f"i{n:03d}" for n in range(160)]
    assert not failures(job)
    assert content(job) == content(whole)


def _finished(folder: Path) -> int:
    return len(list((folder / "shards").glob("0*.json"))) if (folder / "shards").is_dir() else 0


def _kill_workers(process: subprocess.Popen[bytes], chance: np.random.Generator) -> None:
    """A worker now and then, not so often that none would finish."""
    killed = 0
    while process.poll() is None and killed < 3:
        time.sleep(0.3)
        workers = _workers(process)
        if workers:
            with suppress(psutil.Error):  # it has just ended
                workers[int(chance.integers(len(workers)))].kill()
                killed += 1


def _workers(driver: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Those that live, of a driver that may end meanwhile."""
    try:
        return [c for c in psutil.Process(driver.pid).children() if "spawn_main" in " ".join(c.cmdline())]
    except psutil.Error:
        return []


def test_two_drivers_in_one_folder(tmp_path: Path) -> None:
    from partglee.basics.locks import locked_folder

    job = job_of(tmp_path, NAMES, ["invent"])
    with locked_folder(tmp_path, "a test's folder"), pytest.raises(ValueError, match="in use by process"):
        run_local(job)


def test_a_full_disk_is_one_line_and_the_job_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from partglee.annotate import shard
    from partglee.basics import files
    from partglee.basics.disk import DiskFull

    job = job_of(tmp_path, NAMES, ["invent"])
    rows = shard.run_items(job.items(0), job.recipe.stages, seed=0)
    monkeypatch.setattr(files.os, "replace", lambda *names: _raise(OSError(28, "No space left on device")))
    with pytest.raises((OSError, DiskFull)):
        shard.finish(job, shard.Work(0), rows)
    monkeypatch.undo()
    assert not job.marker(0).exists()
    assert run_local(job).rows == 30


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [("job.json", "{}", "job.json is damaged"), ("job.json", "[]", "job.json is damaged"),
     ("job.json", '{"version": 1, "fingerprint": 1, "recipe": {}, "inputs": {}}', "job.json is damaged"),
     ("shards/000001.json", "{", "000001.json is damaged .*remove it, and its images run again"),
     ("shards/000001.json", "[]", "000001.json is damaged"),
     ("regions/000000.jsonl", "{}", "a row without image_id.*remove its shard's"),
     ("images/000000.jsonl", "[1]", "images/000000.jsonl cannot be read"),
     ("images/000000.jsonl", "1", "cannot be read"),
     ("images/000000.jsonl", None, "images/000000.jsonl cannot be read .*does not exist")],
)  # fmt: skip
def test_files_of_a_job_that_went_bad(tmp_path: Path, file: str, content: str | None, told: str) -> None:
    from partglee.annotate.export import samples

    run_local(job_of(tmp_path, NAMES, ["invent"]))
    (tmp_path / file).unlink()
    if content is not None:
        (tmp_path / file).write_text(content + "\n")
    with pytest.raises(ValueError, match=told):
        list(samples(open_job(tmp_path)))
    if file == "job.json":
        with pytest.raises(ValueError, match=told):
            job_of(tmp_path, NAMES, ["invent"])


CAPTIONER = """
class Captioner:
    def __init__(self, weights, *, tone):
        self.tone = tone
    def __call__(self, image, regions, wanted):
        return [f"a {self.tone} {regions[n].name}" for n in wanted]
"""


def test_a_captioner_of_another_project_in_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class that no part of the library knows, in a file that Python finds."""
    (tmp_path / "project_of_a_user.py").write_text(CAPTIONER)
    monkeypatch.syspath_prepend(str(tmp_path))
    invent, captions = {"stage": "invent"}, {"stage": "caption", "captioner": "project_of_a_user:Captioner",
                                             "options": {"tone": "fine"}, "replace": True}  # fmt: skip
    recipe = read_recipe({"tables": "jsonl", "stages": [invent, captions]})
    job = Job(folder=tmp_path / "out", recipe=recipe)
    job.prepare(synthetic(NAMES[:3]))
    assert run_local(job, workers=2).rows == 3
    rows = read_table(job.table("regions", 0))
    assert len(rows) == 6 and all(row["caption"] == f"a fine {row['name']}" for row in rows)
    assert rows[0]["provenance"] == ["invent@1", "caption@1"]


LIMITED = """
import hashlib, resource, sys
from pathlib import Path
from annotate_stages import job_of
from partglee.annotate import run_local
if __name__ == "__main__":
    words = [hashlib.sha256(bytes([n])).hexdigest() for n in range(48)]
    names = [f"{n:03d}" + "/".join(words[:n]) for n in range(48)]  # later ones take more room, packed too
    job = job_of(Path(sys.argv[1]), names, [{"stage": "invent", "regions": 40}], tables=sys.argv[2])
    if sys.argv[3] != "0":
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), hard))
    run_local(job, workers=2)
"""


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_no_room_for_some_shards(tmp_path: Path, form: str) -> None:
    """A limit of the system on the size of a file, which larger shards exceed: what was written stays, whole."""
    pytest.importorskip("resource", reason="this system has no limits of files")
    if form == "parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    whole = run_limited(tmp_path / "whole", form, 0)
    assert whole.returncode == 0, whole.stderr
    sizes = [file.stat().st_size for file in sorted((tmp_path / "whole" / "regions").iterdir())]
    limit = (sizes[0] + sizes[-1]) // 2
    assert 8192 < sizes[0] < limit < sizes[-1], f"multiprocessing itself writes 4096 bytes; sizes are {sizes}"
    stopped = run_limited(tmp_path / "out", form, limit)
    assert stopped.returncode == 1
    assert "(what is finished stays; the next run goes on)" in stopped.stderr.splitlines()[-1]
    job = open_job(tmp_path / "out")
    finished = int(job.finished().sum())
    assert 0 < finished < job.num_shards
    names = [file.name for file in (tmp_path / "out").rglob("*") if file.name.startswith(".") and file.name != ".lock"]
    assert not names, "nothing cut off is left"
    assert run_limited(tmp_path / "out", form, 0).returncode == 0
    assert content(open_job(tmp_path / "out")) == content(open_job(tmp_path / "whole"))


def run_limited(folder: Path, form: str, limit: int) -> subprocess.CompletedProcess[str]:
    script = folder.parent / "limited.py"
    script.write_text(LIMITED)
    here = Path(__file__).resolve()
    paths = os.pathsep.join([str(here.parents[2]), str(here.parent)])
    arguments = [sys.executable, str(script), str(folder), form, str(limit)]
    return subprocess.run(arguments, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)


def _raise(error: Exception) -> None:
    raise error


def test_recipes_are_read_again_as_they_were(tmp_path: Path) -> None:
    job = job_of(tmp_path, NAMES, ["invent"])
    assert open_job(tmp_path).recipe.shard_size == job.recipe.shard_size
    assert read_recipe({"stages": ["invent"]}).identity()["stages"][0]["kind"] == "invent"
