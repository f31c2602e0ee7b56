"""A job in its folder: the input list cut into shards, what is finished, what makes it this job and no other.

    inputs.jsonl    one line an image, in order        shards/000042.json   a finished shard: failures, seconds
    inputs.index    where each shard's lines begin     images/, regions/    the tables, a file of each for every shard
    job.json        fingerprint, and what it is of     errors.jsonl         all failures, when a run ends

A shard is finished when its file in `shards/` is there, which is written last and by renaming. Nothing in this module
keeps anything for each row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from partglee import __version__
from partglee.annotate import lance_tables
from partglee.annotate.item import Item
from partglee.annotate.recipe import Recipe
from partglee.annotate.tables import FORMS, IMAGES, REGIONS, schema_of
from partglee.basics.files import read_json, read_json_lines, whole_file, write_json

_DIGEST = 16  # bytes of an id's digest


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that no row was written for."""

    image_id: str
    position: int  # in the input list
    stage: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Finished:
    """What is noted of a finished shard."""

    shard: int
    rows: int  # images in the tables
    regions: int = 0
    failures: list[Failure] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)  # in each stage, and of reading and writing

    @classmethod
    def read(cls, file: Path) -> Finished:
        """Of its file in `shards/`."""
        try:
            content = read_json(file, "finished shard")
            return cls(**{**content, "failures": [Failure(**entry) for entry in content["failures"]]})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"finished shard {file} is damaged ({error}); remove it, and its images run again"
            ) from None


class Job:
    """The folder of a job.

    Args:
        folder: of the output.
        recipe: what is done.
    """

    def __init__(self, *, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe
        self._manifest: dict[str, Any] = {}

    # ------------------------------------------------------------------ planning

    def prepare(self, items: Iterable[Item]) -> None:
        """Write down the input list, or see that it is the one of the job that this folder has.

        Raises:
            ValueError: for no image, an id with two images, or a folder of another job, with what differs.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise ValueError(f"the output {self.folder} is a file; name a folder")
        manifest = self.folder / "job.json"
        if self.folder.is_dir() and not manifest.is_file():
            strangers = [f.name for f in self.folder.iterdir() if not f.name.startswith((".", "inputs."))]
            if strangers:
                named = ", ".join(sorted(strangers)[:3])
                raise ValueError(f"{self.folder} holds {named} and no job; name another folder, or empty it")
        self.folder.mkdir(parents=True, exist_ok=True)
        with whole_file(self.folder / "inputs.new.jsonl") as beside:
            inputs, starts = _write_inputs(items, beside, self.recipe.shard_size)
        written = self.folder / "inputs.new.jsonl"
        content = {"version": __version__, "recipe": self.recipe.identity(), "inputs": inputs}
        try:
            if manifest.is_file():
                self._manifest = _read_manifest(manifest)
                self._same_job(content)
                return
            with whole_file(self.folder / "inputs.index") as beside:
                starts.tofile(beside)
            os.replace(written, self.folder / "inputs.jsonl")
            write_json({"fingerprint": fingerprint(content), **content}, manifest)
            self._manifest = read_json(manifest, "job")
        finally:
            written.unlink(missing_ok=True)

    def _same_job(self, content: dict[str, Any]) -> None:
        if self._manifest.get("fingerprint") != fingerprint(content):
            differences = list(_differences(_plain(self._manifest), _plain(content)))
            told = "; ".join(differences[:4]) + (" ..." if len(differences) > 4 else "")
            raise ValueError(f"{self.folder} holds another job: {told}. Name another folder, or go back to what it was")

    # ------------------------------------------------------------------ reading

    @property
    def num_images(self) -> int:
        """Of the input list."""
        return int(self._manifest["inputs"]["images"])

    @property
    def repeated(self) -> int:
        """Images that the input named more than once, and that run once."""
        return int(self._manifest["inputs"]["repeated"])

    @property
    def num_shards(self) -> int:
        return -(-self.num_images // self.recipe.shard_size)

    def items(self, shard: int) -> list[tuple[int, Item]]:
        """(position in the input list, item) of a shard."""
        size = self.recipe.shard_size
        start = int(np.fromfile(self.folder / "inputs.index", np.int64, 1, offset=8 * shard)[0])
        found: list[tuple[int, Item]] = []
        with (self.folder / "inputs.jsonl").open("rb") as stream:
            stream.seek(start)
            for place in range(min(size, self.num_images - shard * size)):
                found.append((shard * size + place, Item(*json.loads(stream.readline()))))
        return found

    def size(self, shard: int) -> int:
        """Images of a shard."""
        return min(self.recipe.shard_size, self.num_images - shard * self.recipe.shard_size)

    # ------------------------------------------------------------------ shards

    def table(self, name: str, shard: int) -> Path:
        """File of a shard's rows of the table `images` or `regions`."""
        return self.folder / name / f"{shard:06d}{FORMS[self.recipe.tables]}"

    def archive(self, shard: int) -> Path:
        """File of a shard's images and regions in WebDataset's form."""
        return self.folder / "webdataset" / f"{shard:06d}.tar"

    def marker(self, shard: int) -> Path:
        """The file that says that a shard is finished."""
        return self.folder / "shards" / f"{shard:06d}.json"

    def finished(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """(num_shards,) which shards are finished."""
        done = np.zeros(self.num_shards, bool)
        folder = self.folder / "shards"
        if folder.is_dir():
            with os.scandir(folder) as entries:
                for entry in entries:
                    number, _, suffix = entry.name.partition(".")
                    if suffix == "json" and number.isdigit() and int(number) < len(done):
                        done[int(number)] = True
        return done

    def markers(self) -> Iterator[Finished]:
        """What is noted of each finished shard, in order."""
        return (Finished.read(self.marker(int(shard))) for shard in np.flatnonzero(self.finished()))

    def failures(self) -> Iterator[Failure]:
        """All failures of finished shards, in order of the input."""
        return (failure for finished in self.markers() for failure in finished.failures)

    def conclude(self) -> None:
        """What the end of a run writes, whole: `errors.jsonl`, and the newest version of Lance's data sets."""
        with whole_file(self.folder / "errors.jsonl") as beside, beside.open("w", encoding="utf-8") as stream:
            for failure in self.failures():
                stream.write(json.dumps(asdict(failure)) + "\n")
        if self.recipe.tables == "lance":
            for name in (IMAGES, REGIONS):
                files = (self.table(name, int(shard)) for shard in np.flatnonzero(self.finished()))
                lance_tables.commit(files, self.folder / f"{name}.lance", schema_of(name))

    def tidy(self) -> None:
        """Remove what a run that was killed left unfinished. Only for whoever has the folder's lock."""
        for name in (IMAGES, REGIONS, "webdataset", "shards", "."):
            folder = self.folder / name
            if folder.is_dir():
                for file in folder.iterdir():
                    if file.is_file() and file.name.startswith(".") and file.name != ".lock":
                        file.unlink(missing_ok=True)
            if name in (IMAGES, REGIONS):
                named = folder.glob(f"*{FORMS['lance']}")
                lance_tables.remove_loose(named, self.folder / f"{name}.lance")


def open_job(folder: str | Path) -> Job:
    """A job that is there, to be read. Its stages are not built.

    Raises:
        ValueError: for a folder without a job.
    """
    path = Path(folder)
    if not (path / "job.json").is_file():
        raise ValueError(f"{path} holds no job (no job.json); `partglee annotate RECIPE INPUT {path}` makes one")
    manifest = _read_manifest(path / "job.json")
    kept = manifest["recipe"]
    recipe = Recipe(
        name=kept["name"], stages=(), seed=kept["seed"], shard_size=kept["shard_size"], tables=kept["tables"],
        webdataset=kept["webdataset"],
    )  # fmt: skip
    job = Job(folder=path, recipe=recipe)
    job._manifest = manifest
    return job


def _read_manifest(file: Path) -> dict[str, Any]:
    """What `prepare` wrote; ValueError for anything else."""
    content = read_json(file, "job")
    parts = {
        "recipe": ("name", "seed", "shard_size", "tables", "webdataset", "stages"),
        "inputs": ("images", "repeated"),
    }
    whole = isinstance(content, dict) and {"version", "fingerprint", *parts} <= set(content)
    if not whole or not all(isinstance(content[p], dict) and set(keys) <= set(content[p]) for p, keys in parts.items()):
        raise ValueError(f"{file} is damaged, it is not as a job wrote it; get it back, or begin in another folder")
    return dict(content)


def fingerprint(content: dict[str, Any]) -> str:
    """Of recipe, code version, weights and input list together."""
    text = json.dumps(_plain(content), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(content: dict[str, Any]) -> dict[str, Any]:
    kept = {key: content[key] for key in ("version", "recipe", "inputs")}
    plain: dict[str, Any] = json.loads(json.dumps(kept, default=str))
    return plain


def _differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            yield from _differences(before.get(key), now.get(key), f"{where}.{key}" if where else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for place, (one, two) in enumerate(zip(before, now, strict=True)):
            label = one.get("name", place) if isinstance(one, dict) else place
            yield from _differences(one, two, f"{where}[{label}]")
    elif before != now:
        yield f"{where} was {_short(before)} and is {_short(now)}"


def _short(value: Any) -> str:
    names = [entry.get("name") for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    return str(names or value)[:60]


def _write_inputs(items: Iterable[Item], file: Path, shard_size: int) -> tuple[dict[str, Any], Any]:
    """Lines of the list without repetitions; what it holds, and where each shard begins."""
    digests = bytearray()
    with file.open("wb") as stream:
        for item in items:
            digests += hashlib.blake2b(item.image_id.encode(), digest_size=_DIGEST).digest()
            stream.write(json.dumps([item.image_id, item.file, item.how], separators=(",", ":")).encode() + b"\n")
    keys = np.frombuffer(bytes(digests), np.dtype((np.void, _DIGEST)))
    if not len(keys):
        raise ValueError("the input holds no image")
    _, first = np.unique(keys, return_index=True)
    repeated = len(keys) - len(first)
    if repeated:
        _without_repetitions(file, np.isin(np.arange(len(keys)), first))
    starts, total = [], hashlib.sha256()
    with file.open("rb") as stream:
        at = 0
        for number, line in enumerate(stream):
            if number % shard_size == 0:
                starts.append(at)
            at += len(line)
            total.update(line)
    told = {"images": len(first), "repeated": repeated, "sha256": total.hexdigest()}
    return told, np.array(starts, np.int64)


def _without_repetitions(file: Path, first: Any) -> None:
    """Keep the first line of each id; ValueError when a later line of it is another image."""
    repeated = {entry[0] for row, (_, _, entry) in enumerate(read_json_lines(file, "input list")) if not first[row]}
    kept: dict[str, Any] = {}
    beside = file.with_name(file.name + ".once")
    with beside.open("w", encoding="utf-8") as stream:
        for row, (_, line, entry) in enumerate(read_json_lines(file, "input list")):
            if entry[0] in repeated and kept.setdefault(entry[0], entry) != entry:
                raise ValueError(
                    f"two images have the id {entry[0]!r}: {kept[entry[0]][1]} and {entry[1]}; run their folders as "
                    "jobs of their own, or name a pattern above both"
                )
            if first[row]:
                stream.write(line)
    os.replace(beside, file)


def unfinished(job: Job, *, retry_failed: bool) -> Sequence[int]:
    """Shards that have work left, in order."""
    done = job.finished()
    if retry_failed:
        for finished in job.markers():
            done[finished.shard] = not finished.failures
    return [int(shard) for shard in np.flatnonzero(~done)]
