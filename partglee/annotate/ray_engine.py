"""The engine of a cluster: Ray Data moves shards through pools of actors, and does all scheduling and restarting.

Stages without a GPU that follow each other run in one pool, a stage with one has its own. The first pool reads, the
last one writes; between pools a shard travels with its pixels, so that `shard_size` images must fit into Ray's object
store several times (16 photos of SA-1B are 160 MB). All machines need input and output folder under the same paths.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from partglee.annotate import extras
from partglee.annotate.job import Finished, Job, open_job, unfinished
from partglee.annotate.local import JobStopped, Progress, Summary
from partglee.annotate.recipe import Recipe
from partglee.annotate.sample import Sample
from partglee.annotate.shard import Rows, Work, collect, finish, given_up, groups, read, run_stage
from partglee.annotate.stage import Stage
from partglee.basics.locks import locked_folder
from partglee.basics.plugins import load_plugins


def run_ray(
    job: Job,
    *,
    address: str | None = None,
    workers: int = 1,
    retry_failed: bool = False,
    max_errors: float = 0.1,
    imports: Sequence[str] = (),
    progress: Progress = lambda rows, failed: None,
) -> Summary:
    """Run what is left of a job that is prepared, on a Ray cluster; rows are those of `run_local`.

    Args:
        address: of the cluster; None = the one that this process is connected to, or a new one on this machine.
        workers: actors of each pool at most.
        retry_failed, max_errors, progress: as for `run_local`.
        imports: modules to be imported in every actor, which register stages and plug-ins.

    Raises:
        JobStopped: with the reason in one line; what is finished stays, and the next run goes on.
        ValueError: without Ray, for a cluster that is not there, or GPUs that it lacks.
    """
    ray = extras.ray()
    with locked_folder(job.folder, "the output folder"), _connected(ray, address):
        job.tidy()
        summary, todo = Summary(), unfinished(job, retry_failed=retry_failed)
        again: dict[int, Finished] = {}
        for finished in job.markers():
            summary.add(finished)
            if finished.shard in set(todo):
                again[finished.shard] = finished
        limit = max_errors if max_errors >= 1 else max_errors * job.num_images
        try:
            if todo:
                pools = pools_of(job.recipe.stages)
                _check_resources(ray, pools)
                for finished in _results(ray, job, pools, todo, again, workers, imports):
                    earlier = again.pop(finished.shard, None)
                    if earlier is not None:
                        summary.add(earlier, sign=-1)
                    summary.add(finished)
                    summary.ran += job.size(finished.shard) if earlier is None else len(earlier.failures)
                    summary.seconds.update(finished.seconds)
                    progress(summary.rows, summary.failed)
                    if summary.failed > limit:
                        raise JobStopped(
                            f"{summary.failed} images failed, more than the limit of {limit:g}; "
                            f"{job.folder / 'errors.jsonl'} says why"
                        )
        finally:
            job.conclude()
        return summary


@dataclass(slots=True)
class Pool:
    """Stages that run in the same actors, and what one actor needs."""

    stages: list[Stage] = field(default_factory=list)
    first: bool = False
    last: bool = False

    @property
    def gpus(self) -> float:
        """Of one actor."""
        return max((stage.resources.gpus for stage in self.stages), default=0.0)

    @property
    def cpus(self) -> float:
        """Of one actor."""
        return max((stage.resources.cpus for stage in self.stages), default=1.0)


def pools_of(stages: Sequence[Stage]) -> list[Pool]:
    """Cut where a GPU is needed or no longer needed; reading and writing take none."""
    pools = [Pool()]
    for stage in stages:
        if stage.resources.gpus:
            pools.append(Pool([stage]))
            pools.append(Pool())
        else:
            pools[-1].stages.append(stage)
    kept = [pool for place, pool in enumerate(pools) if pool.stages or place in (0, len(pools) - 1)]
    kept[0].first = kept[-1].last = True
    return kept


def _results(
    ray: Any,
    job: Job,
    pools: Sequence[Pool],
    todo: Sequence[int],
    again: dict[int, Finished],
    workers: int,
    imports: Sequence[str],
) -> Iterator[Finished]:
    works = [Work(n, only={f.position for f in again[n].failures} if n in again else None) for n in todo]
    data = ray.data.from_items([{"state": pickle.dumps(work)} for work in works], override_num_blocks=len(works))
    for pool in pools:
        options = {"num_gpus": pool.gpus} if pool.gpus else {}
        actors = ray.data.ActorPoolStrategy(min_size=1, max_size=workers)
        # One shard at a time: the batch size of a stage counts inside the shard.
        data = data.map_batches(
            _Actor, fn_constructor_args=(str(job.folder), list(imports), pickle.dumps((pool, job.recipe))),
            batch_size=1, compute=actors, num_cpus=pool.cpus, **options,
        )  # fmt: skip
    try:
        for row in data.iter_rows():
            yield pickle.loads(row["state"])
    except ray.exceptions.RayError as error:
        text = str(error).strip().splitlines()
        raise JobStopped(
            f"{text[-1] if text else type(error).__name__} (what is finished stays; the next run goes on)"
        ) from error


@dataclass(slots=True)
class _State:
    """A shard between two pools."""

    work: Work
    rows: Rows
    samples: list[dict[int, Sample]]  # of each group that is worked on together


class _Actor:
    """Runs the stages of a pool over a shard; what Ray Data calls with a batch of one."""

    def __init__(self, folder: str, imports: Sequence[str], pickled: bytes) -> None:
        load_plugins(imports)  # before the stages that they bring are looked for
        recipe: Recipe
        self.pool, recipe = pickle.loads(pickled)
        self.job, self.every = open_job(folder), recipe.stages
        self.stages = [Watched(stage, recipe.time_limit) for stage in self.pool.stages]
        for stage in self.stages:
            stage.open()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"state": [self._one(pickle.loads(state)) for state in batch["state"]]}

    def _one(self, given: Any) -> bytes:
        keep = self.job.recipe.webdataset
        if not self.pool.first:
            state: _State = given
            for samples in state.samples:
                self._run(samples, state.rows)
        else:
            work: Work = given
            items = [entry for entry in self.job.items(work.shard) if work.only is None or entry[0] in work.only]
            state = _State(work, given_up(items, work), [])
            for group in groups(items, self.every, work):
                samples = read(group, seed=self.job.recipe.seed, keep_content=keep, beat=_no_beat, rows=state.rows)
                self._run(samples, state.rows)
                if self.pool.last:  # nothing travels, so a group's pixels go before the next one's come
                    collect(samples, state.rows, keep_content=keep)
                else:
                    state.samples.append(samples)
        if not self.pool.last:
            return pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
        for samples in state.samples:
            collect(samples, state.rows, keep_content=keep)
        return pickle.dumps(finish(self.job, state.work, state.rows))

    def _run(self, samples: dict[int, Sample], rows: Rows) -> None:
        for stage in self.stages:
            run_stage(stage, samples, _no_beat, rows)


def _no_beat(stage: str, positions: Sequence[int]) -> None:
    del stage, positions


class Watched(Stage):
    """A stage with its time limit inside one process: a thread that hangs is left behind, and the stage opened anew.

    Python cannot end a thread; what hangs inside a library may go on using its memory until the actor ends.
    """

    def __init__(self, stage: Stage, limit: float) -> None:
        self.template = pickle.dumps(stage)
        self.stage = stage
        self.limit = limit if stage.time_limit is None else stage.time_limit
        self.name, self.batch_size, self._tag = stage.name, stage.batch_size, stage.tag()

    def columns(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        return self.stage.columns()

    def open(self) -> None:
        self.stage.open()

    def run(self, samples: Sequence[Sample]) -> None:
        failure: list[Exception] = []

        def work(stage: Stage) -> None:
            try:
                stage.run(samples)
            except Exception as error:
                failure.append(error)

        thread = threading.Thread(target=work, args=(self.stage,), daemon=True)
        thread.start()
        thread.join(self.limit * len(samples))
        if thread.is_alive():
            self.stage = pickle.loads(self.template)
            self.stage.open()
            raise TimeoutError(f"not done after {self.limit * len(samples):g} s")
        if failure:
            raise failure[0]


@contextmanager
def _connected(ray: Any, address: str | None) -> Iterator[None]:
    """A connection to the cluster; one that was there before is used, and stays. Ray Data shows no progress."""
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    if ray.is_initialized():
        yield
        return
    # Each image is one thread's work, as with local workers: another number may round differently.
    numbers = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, runtime_env={"env_vars": numbers}, log_to_driver=False, logging_level="error")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ValueError(f"no Ray cluster at {address or 'this machine'}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_resources(ray: Any, pools: Sequence[Pool]) -> None:
    """ValueError where one actor of each pool does not fit the cluster."""
    there = ray.cluster_resources()
    for what, key in (("GPUs", "GPU"), ("CPUs", "CPU")):
        needed = sum(pool.gpus if key == "GPU" else pool.cpus for pool in pools)
        if needed > there.get(key, 0.0):
            raise ValueError(
                f"one actor of each of {len(pools)} pools needs {needed:g} {what}, the cluster has "
                f"{there.get(key, 0.0):g}; set gpus or cpus of stages in the recipe, or add machines"
            )
