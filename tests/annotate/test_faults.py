"""Everything at once, fifty times: workers and drivers are killed while some images fail and one hangs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from annotate_stages import content, failures, images, job_of

from partglee.annotate import open_job, run_local

KILLS = 50
NAMES = [f"{'bad' if n % 50 == 7 else 'hang' if n == 333 else 'i'}{n:04d}" for n in range(2400)]  # 2 % fail
STAGES = ["invent", {"stage": "sleep", "seconds": 0.004}, {"stage": "trouble", "hang": 3600.0, "time_limit": 3}]
RUN = """
import sys
from pathlib import Path
from test_faults import NAMES, STAGES
from annotate_stages import job_of
from partglee.annotate import run_local
if __name__ == "__main__":
    run_local(job_of(Path(sys.argv[1]), NAMES, STAGES, shard_size=8), workers=2, max_errors=100)
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_fifty_kills_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    script, out = tmp_path / "run.py", tmp_path / "out"
    script.write_text(RUN)
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parents[2]), str(here.parent)])}
    chance = np.random.default_rng(0)
    kills = {"worker": 0, "driver": 0}
    process = None
    while True:
        if process is None or process.poll() is not None:
            if process is not None and process.returncode == 0:
                break
            process = subprocess.Popen([sys.executable, str(script), str(out)], env=environment)
        before = finished(out)
        while process.poll() is None and finished(out) <= before and sum(kills.values()) < KILLS:
            time.sleep(0.02)
        time.sleep(float(chance.random()) * 0.2)
        if sum(kills.values()) >= KILLS:
            assert process.wait() == 0
            break
        if chance.random() < 0.4:
            process.kill()
            process.wait()
            kills["driver"] += 1
        else:
            kills["worker"] += kill_worker(process.pid, chance)
    assert sum(kills.values()) == KILLS, f"the job was done before: {kills}"
    job = open_job(out)
    wanted = [name for name in NAMES if name.startswith("i")]
    assert images(job) == wanted
    told = failures(job)
    assert set(told) == set(NAMES) - set(wanted)
    # The image that hangs holds its worker for three seconds, in which a slow machine's killer may find it three times.
    assert told["hang0333"] in (
        ("trouble", "TimeoutError: not done after 3 s"), ("trouble", "its worker died 3 times (status -9)"),
    )  # fmt: skip
    assert all(reason == f"ValueError: {name} is bad" for name, (_, reason) in told.items() if name.startswith("bad"))
    undisturbed = job_of(tmp_path / "undisturbed", NAMES, STAGES, shard_size=8)
    run_local(undisturbed, workers=2, max_errors=100)
    assert content(undisturbed) == content(job)
    print(json.dumps(kills))


def finished(out: Path) -> int:
    return len(list((out / "shards").glob("0*.json"))) if (out / "shards").is_dir() else 0


def kill_worker(driver: int, chance: np.random.Generator) -> int:
    try:
        workers = [c for c in psutil.Process(driver).children() if "spawn_main" in " ".join(c.cmdline())]
        if not workers:
            return 0
        workers[int(chance.integers(len(workers)))].kill()
        return 1
    except psutil.Error:
        return 0
