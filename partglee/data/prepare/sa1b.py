"""SA-1B: tars (or folders they were unpacked to) -> one hierarchical COCO file for each, masks sorted into levels.

The files of the download are only read. Each tar is gone through once, in order; its images are written out on the way,
its masks are sorted into levels by other processes. A tar whose file is there is not read again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import whole_file
from partglee.basics.masks import decode
from partglee.data.prepare.command import Argv, run
from partglee.data.prepare.files import streamed_file
from partglee.data.segmentation import damaged_run_lengths
from partglee.data.spec import datasets_root

CATEGORIES = [
    {"id": 1, "name": "object", "level": "object"},
    {"id": 2, "name": "part", "level": "part", "owners": ["object"], "prompt": "part"},
]
_BATCH = 256  # images whose masks wait at a time
STEP = 8  # masks are compared at 1/8 of their size: every eighth pixel of every eighth row
OVERLAP = 0.5
_MEMBER = re.compile(r"sa_\d+\.(jpg|json)")
_LARGEST = 64 << 20  # bytes of a file of the download, whose largest have a few
_MOST_MASKS = 4000  # of an image, whose largest have some hundreds
_MOST_PIXELS = 1 << 26


class RawImage(NamedTuple):
    """One annotation file of the download."""

    name: str  # "sa_1"
    content: bytes
    has_picture: bool


def prepare_shard(source: Path, root: Path, *, pool: Pool | None = None, pictures: bool = True) -> Counter[str]:
    """Write `root/annotations/NAME.json` of one tar or folder NAME, and the images of a tar to `root/images/NAME/`.

    Args:
        source: `sa_000000.tar`, or the folder `root/images/sa_000000`.
        root: folder of the data set.
        pool: processes that sort masks into levels; None = this one does.
        pictures: write the images of a tar out; without, they must be in `root/images/NAME/` to be used.

    Returns:
        How many "images", "objects", "parts", "parts without parent", and what was left out and why.

    Raises:
        ValueError: for a tar that is cut off, a source without annotations, or a folder at another place.
    """
    name = source.stem if source.is_file() else source.name
    folder = root / "images" / name
    raw = _of_tar(source, folder, write=pictures) if source.is_file() else _of_folder(source, folder)
    counts: Counter[str] = Counter()
    path = root / "annotations" / f"{name}.json"
    with streamed_file(path, categories=CATEGORIES, description=f"SA-1B {name}, objects and parts") as file:
        number = 0
        for image, annotations in _sorted(raw, counts, pool):
            file.images.append({**image, "file_name": f"{name}/{image['file_name']}"})
            for entry in annotations:
                row, parent = entry.pop("row"), entry.pop("parent")
                link = {} if parent < 0 else {"parent_id": number + parent + 1}
                full = {"id": number + row + 1, "image_id": image["id"], **entry, **link}
                file.add(full)
                _count(counts, full)
            number += len(annotations)
        if not file.images:
            raise ValueError(f"{source} holds no images with annotations (sa_*.jpg with sa_*.json): {dict(counts)}")
        counts["images"] = len(file.images)
    return counts


def _count(counts: Counter[str], entry: dict[str, Any]) -> None:
    counts["objects" if entry["category_id"] == 1 else "parts"] += 1
    counts["parts without parent"] += entry["category_id"] == 2 and "parent_id" not in entry


def _sorted(
    raw: Iterable[RawImage], counts: Counter[str], pool: Pool | None
) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    stream = iter(raw)
    run: Callable[..., Iterable[Any]] = map if pool is None else pool.map
    while batch := list(islice(stream, _BATCH)):
        counts["left out: annotations without their image"] += sum(not one.has_picture for one in batch)
        with_picture = [one for one in batch if one.has_picture]
        for one, made in zip(with_picture, run(levels_of, [one.content for one in with_picture]), strict=True):
            if isinstance(made, str):
                counts[f"left out: {one.name}.json, {made}"] += 1
            else:
                yield made


def masks_of(content: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]] | str:
    """The image entry and annotations of one file of the download, without empty masks; or what is wrong with it."""
    try:
        raw = json.loads(content)
        image = raw["image"]
        size = [int(image["height"]), int(image["width"])]
        if not _MEMBER.fullmatch(str(image["file_name"])):
            return f"file name {image['file_name']!r:.40}"
        if not (0 < size[0] <= _MOST_PIXELS and 0 < size[1] <= _MOST_PIXELS and size[0] * size[1] <= _MOST_PIXELS):
            return f"an image of {size[0]:.3g} x {size[1]:.3g} pixels"
        entry = {
            "id": int(image["image_id"]), "file_name": str(image["file_name"]), "height": size[0], "width": size[1]
        }  # fmt: skip
        masks = [one for one in raw["annotations"] if one["area"] > 0]
        if any(list(one["segmentation"]["size"]) != size for one in masks):
            return "masks of another size than the image"
        if len(masks) > _MOST_MASKS:
            return f"{len(masks)} masks"
        counts = [str(one["segmentation"]["counts"]).encode() for one in masks]
        if damaged := damaged_run_lengths(counts, [size[0] * size[1]] * len(counts)):
            return f"{len(damaged)} damaged masks"
        if not all(len(one["bbox"]) == 4 and np.isfinite(one["bbox"]).all() for one in masks):
            return "boxes that are not four numbers"
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        return f"not as SA-1B's files are ({error!r:.80})"
    return entry, masks


def levels_of(content: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]] | str:
    """As `masks_of`, the annotations with their level, their `row`, and the row of their `parent` (-1 for none)."""
    found = masks_of(content)
    if isinstance(found, str):
        return found
    entry, masks = found
    small = np.stack([shrink(one["segmentation"]) for one in masks]) if masks else np.zeros((0, 1, 1), bool)
    levels = hierarchy(small, [one["area"] for one in masks])
    annotations = [
        {
            "row": row, "category_id": 2 if levels.is_part[row] else 1, "bbox": one["bbox"], "area": one["area"],
            "iscrowd": 0, "segmentation": one["segmentation"], "parent": int(levels.parent[row]),
        }
        for row, one in enumerate(masks)
    ]  # fmt: skip
    return entry, annotations


def _of_tar(source: Path, folder: Path, *, write: bool) -> Iterator[RawImage]:
    try:
        with tarfile.open(source, "r:*") as tar:
            members = [m for m in tar.getmembers() if m.isfile() and _MEMBER.fullmatch(Path(m.name).name)]
            if large := [m.name for m in members if m.size > _LARGEST or m.issparse()]:
                raise ValueError(f"{source}: {large[0]!r:.60} is larger than the files of SA-1B are; download it again")
            pictures = {Path(m.name).stem for m in members if m.name.endswith(".jpg")}
            for member in members:
                name = Path(member.name)  # its folder is not used: a tar may name any place
                stream = tar.extractfile(member)
                assert stream is not None
                if name.suffix == ".json":
                    there = name.stem in pictures if write else (folder / f"{name.stem}.jpg").is_file()
                    yield RawImage(name.stem, stream.read(), there)
                elif write and not _same_size(folder / name.name, member.size):
                    with whole_file(folder / name.name) as beside, beside.open("wb") as file:
                        shutil.copyfileobj(stream, file)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ValueError(f"{source} is no tar or is cut off ({error}); download it again") from error


def _same_size(file: Path, size: int) -> bool:
    return file.is_file() and file.stat().st_size == size


def _of_folder(source: Path, folder: Path) -> Iterator[RawImage]:
    if not source.is_dir():
        raise ValueError(f"{source} does not exist; give a tar of SA-1B, or the folder it was unpacked to")
    if source.resolve() != folder.resolve():
        raise ValueError(f"the folder {source} must be {folder}, where the images are read from; move or link it there")
    for entry in sorted(os.scandir(source), key=lambda entry: entry.name):
        path = Path(entry.path)
        if path.suffix == ".json" and _MEMBER.fullmatch(path.name):
            yield RawImage(path.stem, path.read_bytes(), path.with_suffix(".jpg").is_file())


# -- the rule: N masks of one image, H x W its size ------------------------------------------------------------------


class Hierarchy(NamedTuple):
    """Levels of the N masks."""

    is_part: NDArray[np.bool_]  # (N,)
    parent: NDArray[np.int64]  # (N,) row of the mask that a part lies in, an object or another part; -1 for none


def hierarchy(masks: NDArray[np.bool_], areas: Sequence[float] | NDArray[np.floating[Any]]) -> Hierarchy:
    """PartGLEE's rule for the levels, and ours for the parents.

    A mask is a part if some mask of larger area overlaps it by 0.5, where overlap is the largest of IoU and the two
    shares of the intersection in the masks. That larger mask may itself be a part. The parent of a part is the smallest
    larger mask that holds half of it or more. Of masks of equal area the first counts as larger.

    Args:
        masks: (N, h, w) at the size of the comparison, see `shrink`.
        areas: (N,) pixels at full size.
    """
    if not len(masks):
        return Hierarchy(np.zeros(0, bool), np.zeros(0, np.int64))
    order = np.argsort(-np.asarray(areas, np.float64), kind="stable")
    flat = masks.reshape(len(masks), -1)[order].astype(np.float32)
    inter = np.triu(flat @ flat.T, k=1)  # [larger, smaller] pixels, exact below 2**24
    pixels = flat.sum(1)
    # The largest of IoU and both shares is the share of the mask with fewer pixels. A mask that vanishes at this size
    # has no overlap with anything and counts as an object.
    overlap = (inter > 0) & (inter >= OVERLAP * np.minimum(pixels[:, None], pixels[None]))
    holds = (inter > 0) & (inter >= OVERLAP * pixels[None])
    smallest = len(order) - 1 - holds[::-1].argmax(0)  # the last row that holds the mask
    is_part = np.zeros(len(order), bool)
    parent = np.full(len(order), -1, np.int64)
    is_part[order] = overlap.any(0)
    parent[order] = np.where(holds.any(0) & overlap.any(0), order[smallest], -1)
    return Hierarchy(is_part, parent)


def shrink(segmentation: dict[str, Any]) -> NDArray[np.bool_]:
    """(H // 8, W // 8) of a compressed run-length mask, by the nearest pixel."""
    height, width = segmentation["size"]
    small = decode(segmentation, height, width)[::STEP, ::STEP][: height // STEP, : width // STEP]
    return small


# -- the script -----------------------------------------------------------------------------------------------------


def main(argv: Argv = None) -> int:
    """`datasets/prepare_sa1b.py`."""
    root = datasets_root() / "SA1B"
    parser = ArgumentParser(
        description="SA-1B -> objects and parts with parents, one file for each tar. The downloads are only read. What "
        "was done before is not done again."
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCE",
        help=f"tars, or folders of images and annotations in images/ (none: all of {root})",
    )  # fmt: skip
    parser.add_argument("--root", type=Path, default=root, help="folder of the data set (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--no-pictures", action="store_true", help="do not write the images of tars to images/")
    parser.add_argument("--again", action="store_true", help="write files anew that are there")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterable[str]:
    sources = arguments.sources or sorted(arguments.root.glob("*.tar")) or sorted(arguments.root.glob("images/*/"))
    if not sources:
        raise ValueError(f"no tars in {arguments.root}; name them, or the folders they were unpacked to")
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {arguments.workers}")
    with ExitStack() as stack:
        pool = stack.enter_context(multiprocessing.Pool(arguments.workers)) if arguments.workers > 1 else None
        for source in sources:
            name = source.stem if source.suffix == ".tar" else source.name
            path = arguments.root / "annotations" / f"{name}.json"
            if path.is_file() and not arguments.again:
                yield f"{path}: there already"
                continue
            counts = prepare_shard(source, arguments.root, pool=pool, pictures=not arguments.no_pictures)
            yield f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)
