"""A job's regions in the formats of annotation tools and of `partglee train`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from partglee.annotate import masks
from partglee.annotate.job import Job
from partglee.annotate.sample import Region, Sample
from partglee.annotate.tables import IMAGES, REGIONS, read_table, sample_of


class Exported(NamedTuple):
    """What was written."""

    images: int
    objects: int
    parts: int
    folder: Path  # that file names are relative to
    left_out: Counter[str]  # why -> how many regions


def samples(job: Job) -> Iterator[Sample]:
    """Every image of finished shards with its regions, without pixels; one shard in memory at a time."""
    for finished in job.markers():
        yield from samples_of(job, finished.shard)


def samples_of(job: Job, shard: int) -> Iterator[Sample]:
    """The images of one finished shard."""
    regions: dict[str, list[Mapping[str, Any]]] = {}
    for row in read_table(job.table(REGIONS, shard)):
        regions.setdefault(row["image_id"], []).append(row)
    for row in read_table(job.table(IMAGES, shard)):
        yield sample_of(row, regions.get(row["image_id"], []))


def export(job: Job, target: Path, *, to: str = "coco", images: Path | None = None, empty: bool = False) -> Exported:
    """Write what filters left, in one of the formats that `partglee data convert` writes.

    Args:
        to: coco, cvat, labelstudio, labelme (a folder), fiftyone (a folder), supervision; or triples of image, mask and
            caption in one `.parquet` or `.jsonl` file, see `partglee.data.annotations.triples`.
        images: folder that file names are relative to; None = the one that holds all images.
        empty: also images without a region. Nothing is known of the background of an image that a model looked at, so
            that training on such images teaches that there is nothing.

    Raises:
        ValueError: for an unknown format, images that are no files (of tars and tables) or lie outside of the folder,
            or nothing to write.
    """
    from partglee.data.formats import get_format
    from partglee.data.formats.names import Names

    if to == "triples":
        return _export_triples(job, target, images)
    form = get_format(to)
    if form.write is None:
        raise ValueError(f"{form.title} are not written; see docs/formats.md")
    folder = _folder_of(job) if images is None else images.absolute()
    left_out: Counter[str] = Counter()

    def stream() -> Iterator[Any]:
        left_out.clear()
        for sample in samples(job):
            image = annotated(sample, folder, left_out)
            if empty or image.objects or image.loose:
                yield image

    names = Names.of(stream())
    if not names.images:
        raise ValueError(f"no region is left in {job.folder}; nothing is written (`partglee annotate report` says why)")
    form.write(stream(), target, names)
    return Exported(names.images, sum(names.objects.values()), names.num_parts, folder, left_out)


def annotated(sample: Sample, folder: Path, left_out: Counter[str]) -> Any:
    """An image as `partglee.data.prepare.files.AnnotatedImage`; regions that filters dropped are counted, not kept.

    A part hangs under the nearest region above it that is kept; a part that none is left above is loose.
    """
    from partglee.data.prepare.files import AnnotatedImage

    children: dict[int, list[int]] = {}
    for number, region in enumerate(sample.regions):
        if region.dropped:
            left_out[region.dropped.partition(":")[0]] += 1
            continue
        above = region.parent if region.level == "part" else -1
        while above >= 0 and sample.regions[above].dropped:
            above = sample.regions[above].parent
        children.setdefault(above, []).append(number)
    tops = [_region(sample.regions, number, children) for number in children.get(-1, ())]
    levels = [sample.regions[number].level for number in children.get(-1, ())]
    height, width = sample.size or (0, 0)
    return AnnotatedImage(
        _name(sample.file, folder), height, width,
        tuple(top for top, level in zip(tops, levels, strict=True) if level == "object"),
        loose=tuple(top for top, level in zip(tops, levels, strict=True) if level == "part"),
    )  # fmt: skip


def _export_triples(job: Job, target: Path, images: Path | None) -> Exported:
    from partglee.data.annotations.triples import write_triples

    folder = _folder_of(job) if images is None else images.absolute()
    counts: Counter[str] = Counter()
    left_out: Counter[str] = Counter()

    def rows() -> Iterator[dict[str, Any]]:
        for sample in samples(job):
            before = counts["object"] + counts["part"]
            for row in triples(sample, folder, left_out):
                counts[row["level"]] += 1
                yield row
            counts["images"] += counts["object"] + counts["part"] > before

    write_triples(rows(), target)
    if not counts["images"]:
        target.unlink()
        raise ValueError(f"no region with a mask is left in {job.folder}; nothing is written")
    return Exported(counts["images"], counts["object"], counts["part"], folder, left_out)


def triples(sample: Sample, folder: Path, left_out: Counter[str]) -> Iterator[dict[str, Any]]:
    """Rows of image, mask, caption and level of the regions that are kept; parts are called `object:part`."""
    height, width = sample.size or (0, 0)
    for number, region in enumerate(sample.regions):
        if region.dropped or region.mask is None or not masks.areas([region.mask])[0]:
            left_out[region.dropped.partition(":")[0] or "the lack of a mask"] += 1
            continue
        above = region.parent if region.level == "part" else -1
        while above >= 0 and sample.regions[above].dropped:
            above = sample.regions[above].parent
        top = above
        while top >= 0 and sample.regions[top].level == "part":
            top = sample.regions[top].parent
        yield {
            "image": _name(sample.file, folder), "height": height, "width": width, "mask": dict(region.mask),
            "caption": region.caption, "level": region.level, "region_id": number, "parent": above,
            "name": f"{sample.regions[top].name}:{region.name}" if top >= 0 else region.name,
        }  # fmt: skip


def _region(regions: list[Region], number: int, children: Mapping[int, list[int]]) -> Any:
    from partglee.data.prepare.regions import Region as Written

    region = regions[number]
    x0, y0, x1, y1 = region.box or masks.box_of(region.mask or {"size": [1, 1], "counts": "1"})
    segmentation, area = None, max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
    if region.mask is not None:
        segmentation = {"size": list(region.mask["size"]), "counts": region.mask["counts"]}
        area = float(masks.areas([region.mask])[0])
    extra = {"score": region.score, "caption": region.caption, **{f"{k}_score": v for k, v in region.scores.items()}}
    parts = tuple(_region(regions, child, children) for child in children.get(number, ()))
    return Written(
        region.name, (x0, y0, x1 - x0, y1 - y0), area, segmentation, parts,
        extra={key: value for key, value in extra.items() if value is not None},
    )  # fmt: skip


def _folder_of(job: Job) -> Path:
    folder = ""
    for sample in samples(job):
        own = os.path.dirname(os.path.abspath(sample.file))
        folder = own if not folder else os.path.commonpath([folder, own])
    return Path(folder or ".")


def _name(file: str, folder: Path) -> str:
    path = Path(os.path.abspath(file))
    if not path.is_file():
        raise ValueError(
            f"{file} is no file that a format of annotation tools could name; images of tars and tables are exported "
            "with `webdataset: true` in the recipe, or unpacked and annotated as files"
        )
    if not path.is_relative_to(folder):
        raise ValueError(f"{file} lies outside of {folder}; name a folder above all images")
    return path.relative_to(folder).as_posix()
