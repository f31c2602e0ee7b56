"""The engine of a cluster: two node processes, rows as the local engine writes them, whatever is killed.

Run by `make test-ray`, which sets Ray up.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from annotate_stages import content, failures, images, job_of

from partglee.annotate import JobStopped, read_recipe, run_local

ray = pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` sets it up")
pytest.importorskip("pyarrow", reason="Ray Data needs pyarrow; `make test-ray` sets it up")
pytestmark = pytest.mark.ray

NAMES = [f"i{number:03d}" for number in range(24)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes; their GPUs are numbers that nobody looks for."""
    from ray.cluster_utils import Cluster

    here = Path(__file__).resolve()
    os.environ.update(OMP_NUM_THREADS="1", RAY_worker_niceness="0", RAY_USAGE_STATS_ENABLED="0")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(here.parents[2]), str(here.parent)])  # of the nodes' workers
    node = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 2 * 10**8}
    made = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    made.add_node(**node)
    ray.init(address=made.address, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield made
    ray.shutdown()
    made.shutdown()


def run(job: Any, **options: Any) -> Any:
    from partglee.annotate.ray_engine import run_ray

    return run_ray(job, imports=["annotate_stages"], **options)


def test_two_nodes(cluster: Any) -> None:
    assert len([node for node in ray.nodes() if node["Alive"]]) == 2


@pytest.mark.parametrize("gpus", [0, 0.5])
def test_same_rows_as_the_local_engine(cluster: Any, tmp_path: Path, gpus: float) -> None:
    names = [*NAMES, "bad1", "j1", "bad2"]
    stages = ["invent", {"stage": "trouble", "gpus": gpus}, {"stage": "sleep", "seconds": 0}]
    job = job_of(tmp_path / "ray", names, stages)
    summary = run(job, workers=2)
    assert (summary.rows, summary.failed, summary.regions) == (25, 2, 50)
    other = job_of(tmp_path / "local", names, ["invent", "trouble", {"stage": "sleep", "seconds": 0}])
    run_local(other)
    assert content(job) == content(other)
    assert failures(job) == failures(other)
    assert images(job) == [name for name in names if "bad" not in name]
    assert run(job).ran == 0


def test_pools_are_cut_at_gpus() -> None:
    from partglee.annotate.ray_engine import pools_of

    def cut(*gpus: float) -> list[list[float]]:
        stages = [{"stage": "sleep", "name": f"s{n}", "gpus": value} for n, value in enumerate(gpus)]
        pools = pools_of(read_recipe({"stages": stages}).stages)
        assert pools[0].first and pools[-1].last and sum(pool.first for pool in pools) == 1
        return [[stage.resources.gpus for stage in pool.stages] for pool in pools]

    assert cut(0, 0) == [[0, 0]]
    assert cut(1) == [[], [1], []]
    assert cut(0, 1, 0.5, 0, 0) == [[0], [1], [0.5], [0, 0]]


def test_an_image_that_hangs_is_named(cluster: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path, [*NAMES[:5], "hang", "j"], [{"stage": "trouble", "batch_size": 2, "time_limit": 4}])
    run(job, max_errors=1)
    assert images(job) == [*NAMES[:5], "j"]
    assert failures(job) == {"hang": ("trouble", "TimeoutError: not done after 4 s")}


def test_retry_and_limit(cluster: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "out", ["later", *NAMES], [{"stage": "trouble", "folder": str(tmp_path)}])
    assert run(job).failed == 1
    (tmp_path / "mended").touch()
    summary = run(job, retry_failed=True)
    assert (summary.ran, summary.rows, summary.failed) == (1, 25, 0)
    job = job_of(tmp_path / "bad", ["bad1", "bad2", *NAMES], ["trouble"])
    with pytest.raises(JobStopped, match="more than the limit of 1"):
        run(job, max_errors=1)


def test_what_does_not_fit_the_cluster(cluster: Any, tmp_path: Path) -> None:
    job = job_of(tmp_path / "a", NAMES, [{"stage": "sleep", "gpus": 64}])
    with pytest.raises(ValueError, match="needs 64 GPUs, the cluster has 2"):
        run(job)
    job = job_of(tmp_path / "b", NAMES, ["no_start"])
    with pytest.raises(JobStopped, match="no model here"):
        run(job)


def test_a_killed_actor_loses_nothing(cluster: Any, tmp_path: Path) -> None:
    names = [f"i{n:03d}" for n in range(60)]
    stages = ["invent", {"stage": "sleep", "seconds": 0.1}]
    job = job_of(tmp_path / "ray", names, stages, shard_size=4)
    killed: list[int] = []

    def kill() -> None:
        while not killed:
            time.sleep(0.1)
            if len(list((tmp_path / "ray" / "shards").glob("0*.json"))) < 3:
                continue
            for process in psutil.process_iter(["cmdline"]):
                if "ray::MapWorker" in " ".join(process.info["cmdline"] or [])[:60]:
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    assert run(job, workers=2).failed == 0
    assert killed, "no actor was found to be killed"
    other = job_of(tmp_path / "local", names, stages, shard_size=4)
    run_local(other, workers=2)
    assert content(job) == content(other)


@pytest.mark.parametrize("recipe", ["pseudo_labels", "mres", "mgsc", "sa1b_hierarchy"])
def test_recipes(cluster: Any, tmp_path: Path, recipe: str) -> None:
    from PIL import Image
    from skimage import data

    from partglee.annotate import Job, open_source

    for name in ("astronaut", "chelsea", "coffee"):
        picture = Image.fromarray(getattr(data, name)())
        picture.thumbnail((240, 240))
        (tmp_path / "photos").mkdir(exist_ok=True)
        picture.save(tmp_path / "photos" / f"{name}.png")
    jobs = []
    for engine in ("ray", "local"):
        job = Job(folder=tmp_path / engine, recipe=read_recipe(recipe, ["tables=jsonl", "shard_size=2"]))
        job.prepare(open_source(str(tmp_path / "photos")).items)
        summary = run(job) if engine == "ray" else run_local(job)
        assert (summary.rows, summary.failed) == (3, 0)
        jobs.append(job)
    assert content(jobs[0]) == content(jobs[1])
    if recipe == "mres":
        tars = [[f.read_bytes() for f in sorted((job.folder / "webdataset").iterdir())] for job in jobs]
        assert tars[0] == tars[1]
