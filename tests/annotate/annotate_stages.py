"""Stages for tests that fail in every way there is, and jobs of synthetic images."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partglee.annotate import Item, Job, Region, Sample, Stage, read_recipe, register_stage
from partglee.annotate.tables import read_table


class Trouble(Stage):
    """Makes trouble on images whose id has a word in it.

    Args:
        folder: where it notes what it did, for trouble that comes once.
    """

    outputs = ("region.name",)
    batch_size = 4

    def __init__(self, *, folder: str = "", hang: float = 60.0) -> None:
        self.folder, self.hang = Path(folder), hang

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            if "bad" in sample.image_id:
                raise ValueError(f"{sample.image_id} is bad")
            if "hang" in sample.image_id:
                time.sleep(self.hang)
            if "deadly" in sample.image_id:
                os.kill(os.getpid(), signal.SIGKILL)
            if "once" in sample.image_id and not (self.folder / sample.image_id).exists():
                (self.folder / sample.image_id).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if "later" in sample.image_id and not (self.folder / "mended").exists():
                raise OSError("not yet")
            sample.extra["tries"] = sample.extra.get("tries", 0) + 1


class Promises(Stage):
    """Says that it gives captions and gives none."""

    outputs = ("region.caption",)

    def run(self, samples: Sequence[Sample]) -> None:
        pass


class BoxesAlone(Stage):
    """One region without anything but a box."""

    outputs = ("region.box", "region.name")

    def run(self, samples: Sequence[Sample]) -> None:
        for sample in samples:
            sample.regions.append(Region(name="thing", box=(0.0, 0.0, 1.0, 1.0)))


class NoStart(Stage):
    """Whose model is missing."""

    def open(self) -> None:
        raise FileNotFoundError("no model here")


for _kind, _class in {"trouble": Trouble, "promises": Promises, "no_start": NoStart, "boxes_alone": BoxesAlone}.items():
    register_stage(_kind, lambda made=_class: made, replace=True)


def synthetic(names: Sequence[str]) -> list[Item]:
    """Images without pixels."""
    return [Item(name, name, {"nothing": 1}) for name in names]


def job_of(folder: Path, names: Sequence[str], stages: Sequence[Any], **recipe: Any) -> Job:
    """A job that is prepared."""
    content = {"name": "test", "shard_size": 8, "tables": "jsonl", "stages": list(stages), **recipe}
    job = Job(folder=folder, recipe=read_recipe(content))
    job.prepare(synthetic(names))
    return job


def images(job: Job) -> list[str]:
    return [row["image_id"] for shard in range(job.num_shards) for row in read_table(job.table("images", shard))]


def content(job: Job) -> bytes:
    """Every byte of the tables."""
    files = sorted(f for name in ("images", "regions") for f in (job.folder / name).iterdir())
    return b"".join(file.name.encode() + file.read_bytes() for file in files)


def failures(job: Job) -> dict[str, tuple[str, str]]:
    lines = (job.folder / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["image_id"]: (entry["stage"], entry["reason"]) for entry in map(json.loads, lines)}
