"""What the annotation engine itself costs: stages that sleep, and a million images that are not there.

python tools/benchmark_annotate.py throughput      images/s for 1, 2, 4 workers, and the engine's share
python tools/benchmark_annotate.py memory          rows/s, and the driver's memory as a picture
python tools/benchmark_annotate.py cost --seconds detect=0.05,caption=0.2      what 1 M images cost on N GPUs
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from partglee.annotate import Item, Job, open_job, read_recipe, run_local
from partglee.basics.arguments import ArgumentParser

FILES_OF_A_SHARD = 4  # two tables, an archive, the file that says that it is finished


def items(count: int) -> Iterator[Item]:
    """Images without pixels."""
    return (Item(f"image {number}", f"image {number}", {"nothing": 1}) for number in range(count))


def job_of(folder: Path, count: int, stages: Sequence[Any], **recipe: Any) -> Job:
    """A job that is prepared, in a folder that is emptied."""
    shutil.rmtree(folder, ignore_errors=True)
    job = Job(folder=folder, recipe=read_recipe({"name": "benchmark", "stages": list(stages), **recipe}))
    job.prepare(items(count))
    return job


def machine() -> dict[str, Any]:
    """Where the numbers come from."""
    load = os.getloadavg() if hasattr(os, "getloadavg") else ()
    return {
        "cpu": platform.processor() or platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version(),
        "load": [round(value, 1) for value in load],
    }  # fmt: skip


# -- throughput ------------------------------------------------------------------------------------------------------


def throughput(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Stages that sleep: what is not sleep is the engine's."""
    found: dict[str, Any] = {"seconds_of_a_stage": arguments.sleep, "images": arguments.images, "workers": {}}
    stages = [{"stage": "sleep", "name": f"stage {n}", "seconds": arguments.sleep} for n in range(arguments.stages)]
    for workers in arguments.workers:
        began = time.perf_counter()
        job = job_of(folder, arguments.images, ["invent", *stages], tables=arguments.tables, shard_size=16)
        planned = time.perf_counter()
        summary = run_local(job, workers=workers)
        wall = time.perf_counter() - planned
        asleep = arguments.sleep * arguments.stages * arguments.images
        # Of the workers' own clocks: from their first shard on, without starting processes.
        busy = sum(summary.seconds.values())
        own = {name: summary.seconds[name] for name in ("read", "invent", "write")}
        slept = arguments.sleep * arguments.images
        inside = {stage["name"]: summary.seconds[stage["name"]] - slept for stage in stages}
        bare = _bare(arguments.sleep)
        found["workers"][workers] = {
            "images/s": round(arguments.images / wall, 2), "wall_s": round(wall, 2),
            "plan_s": round(planned - began, 3), "engine_share_of_busy": round(1 - asleep / busy, 4),
            "overhead_of_a_stage": {
                name: round(value / slept, 4) for name, value in inside.items()
            },
            "overhead_of_a_bare_loop": round(bare / arguments.sleep - 1, 4),
            "ms_an_image": {name: round(1000 * value / arguments.images, 3) for name, value in own.items()},
            "images/s_of_a_stage": {s["name"]: round(arguments.images / summary.seconds[s["name"]], 1) for s in stages},
        }  # fmt: skip
        print(f"{workers} workers: {json.dumps(found['workers'][workers])}", flush=True)
    return found


def _bare(sleep: float, times: int = 40) -> float:
    """Seconds that a sleep takes on this machine now, without an engine around it: a busy one wakes up late."""
    began = time.perf_counter()
    for _ in range(times):
        time.sleep(sleep)
    return (time.perf_counter() - began) / times


# -- memory ----------------------------------------------------------------------------------------------------------


def memory(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The driver's resident memory over the rows that are done, in a run that is cut short and the one that goes on."""
    import psutil

    own = psutil.Process()
    job = job_of(folder, arguments.images, [{"stage": "invent", "batch_size": 64}], tables=arguments.tables,
                 shard_size=arguments.shard_size)  # fmt: skip
    curves: dict[str, list[tuple[int, float]]] = {}
    speeds: dict[str, float] = {}
    for run, share in (("first run", arguments.cut), ("resume", 1.0)):
        curve = curves.setdefault(run, [])

        def look(rows: int, failed: int, curve: list[tuple[int, float]] = curve) -> None:
            if not curve or rows - curve[-1][0] >= arguments.images / 400:
                curve.append((rows, own.memory_info().rss / 1024))
            if rows >= share * arguments.images and share < 1:  # noqa: B023
                raise KeyboardInterrupt

        began = time.perf_counter()
        before = sum(done.rows for done in job.markers())
        with contextlib.suppress(KeyboardInterrupt):
            run_local(job, workers=arguments.workers[0], progress=look)
        done = sum(finished.rows for finished in open_job(folder).markers())
        speeds[run] = (done - before) / (time.perf_counter() - began)
    growth = {run: _growth(curve) for run, curve in curves.items()}
    if arguments.picture:
        _plot(curves, growth, arguments.picture)
    result = {
        "images": arguments.images, "rows/s": {run: round(speed, 1) for run, speed in speeds.items()},
        "kb_per_1000_rows_after_the_first_tenth": {run: round(value, 3) for run, value in growth.items()},
        "driver_mb_at_the_end": round(curves["resume"][-1][1] / 1024, 1),
    }  # fmt: skip
    print(json.dumps(result), flush=True)
    return {**result, "curves": curves}


def _growth(curve: Sequence[tuple[int, float]]) -> float:
    """KB for 1,000 rows, from the first tenth of a run to its end."""
    first = curve[0][0] + (curve[-1][0] - curve[0][0]) / 10
    later = [entry for entry in curve if entry[0] >= first]
    return 1000 * (later[-1][1] - later[0][1]) / max(later[-1][0] - later[0][0], 1)


def _plot(curves: dict[str, list[tuple[int, float]]], growth: dict[str, float], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4))
    for run, curve in curves.items():
        axes.plot([rows / 1000 for rows, _ in curve], [kb / 1024 for _, kb in curve],
                  label=f"{run}: {growth[run]:+.2f} KB per 1,000 rows")  # fmt: skip
    most = max(kb for curve in curves.values() for _, kb in curve) / 1024
    axes.set(xlabel="thousand rows done", ylabel="driver, resident MB", ylim=(0, 1.5 * most))
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=110)


# -- cost ------------------------------------------------------------------------------------------------------------


def cost(arguments: argparse.Namespace) -> dict[str, Any]:
    """A million images from measured seconds: which resource is used up first on 8, 64 and 512 GPUs."""
    seconds = {name: float(value) for name, value in (pair.split("=") for pair in arguments.seconds.split(","))}
    gpu = sum(seconds.values())
    rows = []
    for count in arguments.gpus:
        rates = {
            "GPUs": count / gpu, "CPUs": arguments.cpus_a_gpu * count / arguments.cpu_seconds,
            "storage": arguments.storage / arguments.megabytes,
            "files": arguments.files / FILES_OF_A_SHARD * arguments.shard_images,
        }  # fmt: skip
        least = min(rates, key=lambda name: rates[name])
        hours = arguments.count / rates[least] / 3600
        rows.append(
            {"gpus": count, "images/s": round(rates[least], 1), "hours": round(hours, 2),
             "gpu_hours": round(hours * count, 1), "first_bottleneck": least,
             "images/s_of_each": {name: round(rate, 1) for name, rate in rates.items()}}
        )  # fmt: skip
        print(json.dumps(rows[-1]))
    return {"seconds": seconds, "rows": rows}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the measurements; numbers go to the terminal and, with --json, to a file."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("throughput", "memory", "cost"))
    parser.add_argument("--images", type=int, default=None, help="default: 200 for throughput, 1,000,000 for memory")
    parser.add_argument("--workers", type=int, nargs="+", default=None, help="default: 1 2 4; 2 for memory")
    parser.add_argument("--sleep", type=float, default=0.05, help="seconds of a stage for an image (%(default)s)")
    parser.add_argument("--stages", type=int, default=3, help="stages that sleep (%(default)s)")
    parser.add_argument("--tables", choices=("parquet", "jsonl"), default="parquet")
    parser.add_argument("--shard-size", type=int, default=1024, help="of memory (%(default)s)")
    parser.add_argument("--cut", type=float, default=0.5, help="share after which the first run of memory is ended")
    parser.add_argument("--picture", type=Path, help="of memory: where the curve goes")
    parser.add_argument("--json", type=Path, help="all numbers")
    parser.add_argument("--seconds", default="detect=0.05", help="of cost: GPU seconds an image of each stage")
    parser.add_argument("--cpu-seconds", type=float, default=0.02, help="of cost: for an image, with reading")
    parser.add_argument("--cpus-a-gpu", type=float, default=12, help="of cost")
    parser.add_argument("--megabytes", type=float, default=0.3, help="of cost: of an image's file")
    parser.add_argument("--storage", type=float, default=2000, help="of cost: MB/s that storage gives to all machines")
    parser.add_argument("--files", type=float, default=1000, help="of cost: files a second that storage can create")
    parser.add_argument("--shard-images", type=int, default=64, help="of cost: images of a shard")
    parser.add_argument("--gpus", type=int, nargs="+", default=(8, 64, 512))
    parser.add_argument("--count", type=int, default=1_000_000, help="of cost: images")
    arguments = parser.parse_args(argv)
    arguments.images = arguments.images or {"throughput": 200, "memory": 1_000_000}.get(arguments.what, 0)
    arguments.workers = arguments.workers or {"throughput": [1, 2, 4]}.get(arguments.what, [2])
    with tempfile.TemporaryDirectory() as folder:
        if arguments.what == "cost":
            found = cost(arguments)
        else:
            found = {"throughput": throughput, "memory": memory}[arguments.what](arguments, Path(folder) / "job")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), arguments.what: found}), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
