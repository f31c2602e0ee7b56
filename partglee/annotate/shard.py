"""One shard, from its items to its files: the same code in a local worker, a Ray actor, or by hand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from partglee.annotate.archive import write_archive
from partglee.annotate.columns import missing
from partglee.annotate.item import Item
from partglee.annotate.job import Failure, Finished, Job
from partglee.annotate.sample import Sample
from partglee.annotate.sources import load
from partglee.annotate.stage import Stage
from partglee.annotate.tables import IMAGES, REGIONS, Row, image_row, read_table, region_rows, write_table
from partglee.basics.disk import DiskFull
from partglee.basics.files import write_json

READ, WRITE = "read", "write"  # as if they were stages, in messages and times
Beat = Callable[[str, Sequence[int]], None]
"""Told before anything that may hang: which stage, on which positions."""


Numbered = tuple[int, Item]
"""Position in the input list, and the image there."""


class JobError(Exception):
    """What no other image would fare better with: a model that does not load, a full disk."""


@dataclass(slots=True)
class Work:
    """A shard to be done, and what earlier tries of it showed."""

    shard: int
    alone: set[int] = field(default_factory=set)  # positions that run by themselves: a batch with them hung or died
    given_up: dict[int, tuple[str, str]] = field(default_factory=dict)  # position -> (stage, reason)
    only: set[int] | None = None  # positions to run again; the shard's other rows stay as they are


@dataclass(slots=True)
class Rows:
    """What becomes of a shard."""

    images: list[Row] = field(default_factory=list)
    regions: list[Row] = field(default_factory=list)
    archived: list[tuple[int, str, bytes, str]] = field(default_factory=list)  # position, image id, file, JSON
    failures: list[Failure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def run_items(
    items: Sequence[tuple[int, Item]],
    stages: Sequence[Stage],
    *,
    seed: int,
    work: Work | None = None,
    keep_content: bool = False,
    beat: Beat = lambda stage, positions: None,
    finished: Callable[[int], None] = lambda rows: None,
) -> Rows:
    """Run the stages over the items, a few images in memory at a time.

    Args:
        items: (position in the input list, item).
        keep_content: keep each image's file for the archive.
        beat: told before anything that may hang.
        finished: told how many images are through, now and then.
    """
    work = Work(-1) if work is None else work
    rows = given_up(items, work)
    through = len(rows.failures)
    for group in groups(items, stages, work):
        samples = read(group, seed=seed, keep_content=keep_content, beat=beat, rows=rows)
        for stage in stages:
            run_stage(stage, samples, beat, rows)
        collect(samples, rows, keep_content=keep_content)
        through += len(group)
        finished(through)
    return rows


def groups(items: Sequence[Numbered], stages: Sequence[Stage], work: Work) -> list[list[Numbered]]:
    """The items that are in memory together, cut in the same way by every engine: batches are the same, so rows are."""
    chunk = max([stage.batch_size for stage in stages], default=1)
    waiting = [entry for entry in items if entry[0] not in work.given_up]
    together = [entry for entry in waiting if entry[0] not in work.alone]
    cut = [together[first : first + chunk] for first in range(0, len(together), chunk)]
    return cut + [[entry] for entry in waiting if entry[0] in work.alone]


def given_up(items: Sequence[Numbered], work: Work) -> Rows:
    """Rows to begin with: the failures of images that are not tried again."""
    named = [(position, item) for position, item in items if position in work.given_up]
    return Rows(failures=[Failure(item.image_id, at, *work.given_up[at]) for at, item in named])


def collect(samples: Mapping[int, Sample], rows: Rows, *, keep_content: bool) -> None:
    """Add the rows of samples that are through all stages."""
    for position, sample in samples.items():
        rows.images.append({"position": position, **image_row(sample)})
        rows.regions += [{"position": position, **row} for row in region_rows(sample)]
        if keep_content:
            rows.archived.append((position, sample.image_id, sample.content or b"", _regions_json(sample)))


def read(group: Sequence[Numbered], *, seed: int, keep_content: bool, beat: Beat, rows: Rows) -> dict[int, Sample]:
    """Samples of a group by position; those that cannot be read are noted in `rows`."""
    samples: dict[int, Sample] = {}
    for position, item in group:
        beat(READ, [position])
        began = time.perf_counter()
        try:
            samples[position] = load(item, seed=seed, keep_content=keep_content)
        except Exception as error:
            rows.failures.append(Failure(item.image_id, position, READ, _reason(error)))
        rows.seconds[READ] = rows.seconds.get(READ, 0.0) + time.perf_counter() - began
    return samples


def run_stage(stage: Stage, samples: dict[int, Sample], beat: Beat, rows: Rows) -> None:
    """Run one stage over samples (by position); those that fail leave `samples` and are noted in `rows`.

    When a batch fails, its images are tried one by one; as a stage works in place, from copies made before.
    """
    positions = sorted(samples)
    began = time.perf_counter()
    for first in range(0, len(positions), stage.batch_size):
        some = positions[first : first + stage.batch_size]
        beat(stage.name, some)
        before = {position: samples[position].copy() for position in some} if len(some) > 1 else {}
        if _try(stage, {position: samples[position] for position in some}, None if len(some) > 1 else rows) is None:
            continue
        for position in some:
            if len(some) > 1:
                samples[position] = before[position]
                beat(stage.name, [position])
                if _try(stage, {position: samples[position]}, rows) is None:
                    continue
            del samples[position]
    rows.seconds[stage.name] = rows.seconds.get(stage.name, 0.0) + time.perf_counter() - began


def _try(stage: Stage, samples: Mapping[int, Sample], rows: Rows | None) -> str | None:
    """None when it went well; else why not, noted in `rows` for each sample where they are given."""
    there = {position: [n for n, _ in sample.kept()] for position, sample in samples.items()}
    counts = {position: len(sample.regions) for position, sample in samples.items()}
    try:
        stage.run(list(samples.values()))
        problem = next((f"it did not give what it promises: {m}" for m in _lacking(stage, samples)), None)
    except (JobError, DiskFull, MemoryError):
        raise
    except Exception as error:
        problem = _reason(error)
    if problem is None:
        tag = stage.tag()
        for position, sample in samples.items():
            for number in [*there[position], *range(counts[position], len(sample.regions))]:
                sample.regions[number].stages.append(tag)
    elif rows is not None:
        rows.failures += [Failure(sample.image_id, at, stage.name, problem) for at, sample in samples.items()]
    return problem


def _lacking(stage: Stage, samples: Mapping[int, Sample]) -> list[str]:
    outputs = stage.columns()[1]
    return [told for sample in samples.values() if (told := missing(sample, outputs)) is not None]


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:500]


def _regions_json(sample: Sample) -> str:
    return json.dumps({"image": image_row(sample), "regions": list(region_rows(sample))}, separators=(",", ":"))


# -- files -----------------------------------------------------------------------------------------------------------


def finish(job: Job, work: Work, rows: Rows) -> Finished:
    """Write a shard's files, the one that says that it is finished last.

    With `work.only` the rows join those that are there; an image has its rows once, whenever a run was killed.
    """
    began = time.perf_counter()
    seconds = dict(rows.seconds)
    if work.only is not None:
        _join(job, work, rows)
    rows.images.sort(key=lambda row: row["position"])
    rows.regions.sort(key=lambda row: (row["position"], row["region_id"]))
    rows.archived.sort(key=lambda entry: entry[0])
    rows.failures.sort(key=lambda failure: failure.position)
    images = [{key: value for key, value in row.items() if key != "position"} for row in rows.images]
    regions = [{key: value for key, value in row.items() if key != "position"} for row in rows.regions]
    write_table(regions, job.table(REGIONS, work.shard), REGIONS)
    write_table(images, job.table(IMAGES, work.shard), IMAGES)
    if job.recipe.webdataset:
        write_archive([entry[1:] for entry in rows.archived], job.archive(work.shard))
    seconds[WRITE] = time.perf_counter() - began
    finished = Finished(
        shard=work.shard, rows=len(images), regions=len(regions), failures=rows.failures, seconds=seconds
    )
    write_json(asdict(finished), job.marker(work.shard))
    return finished


def _join(job: Job, work: Work, rows: Rows) -> None:
    """Add the rows that the shard has already."""
    from partglee.annotate.archive import read_archive

    place = {item.image_id: position for position, item in job.items(work.shard)}
    new = {row["image_id"] for row in rows.images}
    for name, table in ((IMAGES, rows.images), (REGIONS, rows.regions)):
        there = [row for row in read_table(job.table(name, work.shard)) if row["image_id"] not in new]
        table += [{"position": place[row["image_id"]], **row} for row in there]
    if job.recipe.webdataset:
        kept = [entry for entry in read_archive(job.archive(work.shard)) if entry[0] not in new]
        rows.archived += [(place[entry[0]], *entry) for entry in kept]
