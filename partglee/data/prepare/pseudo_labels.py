"""Unlabelled photos -> objects with masks, as several teachers see them together.

What the teachers say goes line by line into a file beside the output, so that a run which stops goes on where it was,
and the limits between positive, ignored and nothing can change without looking at the photos again.

N boxes, C = 80 names of COCO, h x w a photo.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import JSON_ERRORS, read_json, write_json
from partglee.data.images import list_images, read_image
from partglee.data.prepare.command import Argv, run
from partglee.data.prepare.files import AnnotatedImage, to_coco
from partglee.data.prepare.regions import Mask, Region, region_from_mask
from partglee.data.prepare.teachers import (
    BoxSegmenter,
    CenterNet,
    Detections,
    Pixels,
    SsdMobileNet,
    Teacher,
    YoloxNano,
    pair_iou,
)
from partglee.data.spec import datasets_root
from partglee.structures.vocabulary_files import read_builtin

POSITIVE, IGNORED = 0.35, 0.10  # fused scores: an object from the first on, a region to ignore from the second on
IMAGENET_NAMES = Path(__file__).parents[1] / "mappings" / "imagenet_names.json"
_ANIMALS = ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe")  # of COCO
_SURELY_SOMETHING = 0.3  # objectness of the box that takes the photo's name
_MASKED = 0.25  # lines keep the mask of boxes from this score on
_MAIN_SHARE = 0.05  # of the photo, at least, for the box that may take the photo's own name

Segmenter = Callable[[Pixels, NDArray[np.float64]], Sequence[Mask]]
Objectness = Callable[[Pixels], tuple[NDArray[np.float64], NDArray[np.float64]]]


class Fused(NamedTuple):
    """What the teachers say together, best first."""

    boxes: NDArray[np.float64]  # (N, 4) xyxy pixels
    scores: NDArray[np.float64]  # (N,) mean over the teachers, 0 for those that do not see it
    labels: NDArray[np.int64]  # (N,)
    soft: NDArray[np.float64]  # (N, C) mean over the teachers of their best score of each name at this box


def fuse(views: Sequence[Detections], *, num_names: int = 80, overlap: float = 0.55) -> Fused:
    """Weighted boxes fusion (Solovyev et al., 2021), name by name.

    Boxes of one name that overlap by more than `overlap` (intersection over union) with what they have become so far
    are one object: its box is their mean weighted by score, its score the sum of each teacher's best over the number
    of teachers.
    """
    boxes = np.concatenate([view.boxes for view in views]).reshape(-1, 4)
    scores = np.concatenate([view.scores for view in views])
    labels = np.concatenate([view.labels for view in views])
    teacher = np.repeat(np.arange(len(views)), [len(view.scores) for view in views])
    groups: list[list[int]] = []
    merged: list[NDArray[np.float64]] = []
    for row in np.argsort(-scores, kind="stable").tolist():
        same = [place for place, members in enumerate(groups) if labels[members[0]] == labels[row]]
        overlaps = pair_iou(boxes[row : row + 1], np.array([merged[place] for place in same]).reshape(-1, 4))[0]
        if len(same) and overlaps.max() > overlap:
            place = same[int(overlaps.argmax())]
            groups[place].append(row)
        else:
            place = len(groups)
            groups.append([row])
            merged.append(boxes[row])
        members = groups[place]
        merged[place] = np.average(boxes[members], axis=0, weights=scores[members])
    together = np.array([_by_teacher(scores[rows], teacher[rows], len(views)) for rows in groups])
    order = np.argsort(-together, kind="stable").astype(int)
    kept = np.array(merged).reshape(-1, 4)[order]
    soft = np.zeros((len(kept), num_names))
    near = pair_iou(kept, boxes) > overlap
    for row in range(len(kept)):
        for label in np.unique(labels[near[row]]):
            seen = near[row] & (labels == label)
            soft[row, label] = _by_teacher(scores[seen], teacher[seen], len(views))
    return Fused(kept, together[order], np.array([labels[groups[place][0]] for place in order], np.int64), soft)


def _by_teacher(scores: NDArray[np.float64], teacher: NDArray[np.int64], count: int) -> float:
    best = np.zeros(count)
    np.maximum.at(best, teacher, scores)
    return float(best.sum() / count)


def look_at(
    pixels: Pixels, teachers: Sequence[Teacher], *, names: Sequence[str], objectness: Objectness | None = None
) -> list[dict[str, Any]]:
    """One photo -> its entries: name, box (xyxy), score, and the names' soft scores.

    Args:
        names: C.
        objectness: boxes (M, 4) and how surely each is something (M,). The surest large one is an entry without a name:
            what the photo as a whole is said to show, if it is said.
    """
    fused = fuse([teacher(pixels) for teacher in teachers], num_names=len(names))
    entries: list[dict[str, Any]] = []
    for row in np.flatnonzero(fused.scores >= IGNORED).tolist():
        seen = np.flatnonzero(fused.soft[row] >= 0.02).tolist()
        soft = {names[label]: round(float(fused.soft[row, label]), 3) for label in seen}
        entry = {"name": names[fused.labels[row]], "score": float(fused.scores[row]), "soft": soft}
        entries.append({**entry, "box": fused.boxes[row].tolist()})
    if objectness is not None:
        entries += _main_thing(pixels, *objectness(pixels))
    return [{**entry, "box": [round(value, 1) for value in entry["box"]]} for entry in entries]


def add_masks(pixels: Pixels, entries: Sequence[dict[str, Any]], segment: Segmenter) -> list[dict[str, Any]]:
    """The entries of `look_at`, those that are likely or have no name with the mask of their box."""
    wanted = [row for row, entry in enumerate(entries) if not entry["name"] or entry["score"] >= _MASKED]
    masks = segment(pixels, np.array([entries[row]["box"] for row in wanted]).reshape(-1, 4)) if wanted else []
    found = list(entries)
    for row, mask in zip(wanted, masks, strict=True):
        if mask.any():
            name = entries[row]["name"] or "thing"
            found[row] = {**entries[row], "segmentation": region_from_mask(name, mask).segmentation}
    return found


def _main_thing(pixels: Pixels, boxes: NDArray[np.float64], sure: NDArray[np.float64]) -> list[dict[str, Any]]:
    share = (boxes[:, 2:] - boxes[:, :2]).clip(min=0).prod(-1) / (pixels.shape[0] * pixels.shape[1])
    sure = np.where(share >= _MAIN_SHARE, sure, 0.0)
    best = int(sure.argmax()) if len(sure) else -1
    if best < 0 or sure[best] < IGNORED:
        return []
    return [{"name": "", "score": float(sure[best]), "soft": {}, "box": boxes[best].tolist()}]


# ---------------------------------------------------------------------- files


def make_lines(
    files: Sequence[Path],
    root: Path,
    lines: Path,
    look: Callable[[Pixels], list[dict[str, Any]]],
    segment: Segmenter | None = None,
) -> Iterator[Path]:
    """Look at the photos that `lines` does not have yet; one line is written for each, at once. Yields each photo.

    A line that was cut off by an end of the program is taken away, and its photo looked at again. With `segment` the
    photos whose line has no masks get a second line with them, which counts.
    """
    done = read_lines(lines, repair=True)
    lines.parent.mkdir(parents=True, exist_ok=True)
    with lines.open("a", encoding="utf-8") as stream:
        for file in files:
            name = file.relative_to(root).as_posix()
            line = done.get(name)
            if line is None or (segment is not None and not line.get("masks")):
                pixels = read_image(file)
                entries = look(pixels) if line is None else line["entries"]
                if segment is not None:
                    entries = add_masks(pixels, entries, segment)
                size = [pixels.shape[0], pixels.shape[1]]
                line = {"file": name, "size": size, "masks": segment is not None, "entries": entries}
                stream.write(json.dumps(line, separators=(",", ":")) + "\n")
                stream.flush()
            yield file


def read_lines(lines: Path, *, repair: bool = False) -> dict[str, dict[str, Any]]:
    """What `make_lines` has written: {file: line}, the last one of each.

    Raises:
        ValueError: for a line that is not JSON, with its number; the last one is left out instead, as its end may be
            missing. `repair` also takes it out of the file.
    """
    if not lines.is_file():
        return {}
    content = lines.read_bytes()
    whole, _, rest = content.rpartition(b"\n")
    if rest and repair:
        with lines.open("r+b") as stream:
            stream.truncate(len(content) - len(rest))
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            entry = json.loads(line)
            found[entry["file"]] = entry
        except (*JSON_ERRORS, KeyError, TypeError) as error:
            raise ValueError(
                f"{lines}, line {number}: {error}; remove the line, its photo is looked at again"
            ) from error
    return found


class PhotoName(NamedTuple):
    """What a photo as a whole is said to show: a class of ImageNet, which its file name tells."""

    coco: str | None  # the name of COCO that it is a kind of
    known: str | None  # the nearest name that tables have
    animal: bool


def photo_names(file: Path = IMAGENET_NAMES) -> dict[str, PhotoName]:
    """{"n02165456": ...} of the file that the library has."""
    return {wnid: PhotoName(*entry) for wnid, entry in read_json(file, "file of ImageNet's names").items()}


def write_pseudo_labels(
    lines: Path, output: Path, *, teachers: Mapping[str, Path], positive: float = POSITIVE, ignored: float = IGNORED
) -> dict[str, int]:
    """Lines -> a COCO file of positive objects and regions to ignore (`iscrowd`); `info` says where it comes from.

    Each object keeps its `score` and the `soft_scores` of its names, see `judge`. A box without a mask stays a box.
    Photos without an object are left out: as their background is not labelled, nothing is learned from them.

    Returns:
        How many photos, photos with objects, objects and regions to ignore there are, and how many objects and regions
        became so by the name of their photo.

    Raises:
        ValueError: without any line, or for limits that are not 0 < ignored <= positive <= 1.
    """
    if not 0 < ignored <= positive <= 1:
        raise ValueError(f"expected 0 < ignored <= positive <= 1, got {ignored} and {positive}")
    looked_at = read_lines(lines)
    if not looked_at:
        raise ValueError(f"{lines} has no photo yet; run the command without --assemble")
    told = photo_names()
    counts = dict.fromkeys(("photos", "photos with objects", "objects", "ignored", "confirmed", "named", "refuted"), 0)
    images: list[tuple[int, AnnotatedImage]] = []
    for number, (file, line) in enumerate(sorted(looked_at.items()), 1):
        name = told.get(Path(file).name.partition("_")[0])
        judged = list(judge(line["entries"], name, positive=positive, ignored=ignored))
        regions = [_region(entry, verdict) for entry, verdict in judged]
        crowds = sum(region.crowd for region in regions)
        if len(regions) > crowds:
            images.append((number, AnnotatedImage(file, line["size"][0], line["size"][1], tuple(regions))))
        counts["photos"] += 1
        counts["photos with objects"] += len(regions) > crowds
        counts["objects"] += len(regions) - crowds
        counts["ignored"] += crowds
        for _, verdict in judged:
            if verdict in ("confirmed", "named", "refuted"):
                counts[verdict] += 1
    names = list(read_builtin("coco").objects)
    names += sorted({region.name for _, image in images for region in image.objects} - set(names))
    categories = [{"id": number, "name": name, "level": "object"} for number, name in enumerate(names, 1)]
    content = to_coco(images, categories, description="objects of unlabelled photos, as several teachers see them")
    content["info"].update(
        teachers={name: {"file": path.name, "sha256": _digest(path)} for name, path in teachers.items()},
        limits={"positive": positive, "ignored": ignored},
        counts=counts,
    )
    write_json(content, output)
    return counts


def judge(
    entries: Iterable[Mapping[str, Any]], told: PhotoName | None, *, positive: float, ignored: float
) -> Iterator[tuple[Mapping[str, Any], str]]:
    """The entries that count, each with why: "positive" or "ignored" by its score; by what the photo is said to show
    "confirmed" (its name, `ignored` is enough), "refuted" (another animal than the photo's, to be ignored), or "named":
    the thing without a name, which takes the photo's where it is surely something and no object that counts lies there.
    """
    taken: list[Sequence[float]] = []
    for entry in entries:
        name, score = entry["name"], entry["score"]
        if score < ignored or entry["box"][2] - entry["box"][0] < 1 or entry["box"][3] - entry["box"][1] < 1:
            continue
        if not name:
            nameless = told is not None and (told.coco or told.known)
            free = not taken or pair_iou(np.array([entry["box"]]), np.array(taken)).max() < 0.5
            if nameless and free and score >= _SURELY_SOMETHING:
                yield {**entry, "name": nameless}, "named"
        elif told is not None and told.animal and name in _ANIMALS and name != told.coco:
            yield entry, "refuted"
        elif score >= positive or (told is not None and name == told.coco):
            taken.append(entry["box"])
            yield entry, "positive" if score >= positive else "confirmed"
        else:
            yield entry, "ignored"


def _region(entry: Mapping[str, Any], verdict: str) -> Region:
    x0, y0, x1, y1 = entry["box"]
    ignored = verdict in ("ignored", "refuted")
    extra = {"score": round(entry["score"], 3), "soft_scores": entry["soft"], "verdict": verdict}
    box, area = (x0, y0, x1 - x0, y1 - y0), (x1 - x0) * (y1 - y0)
    return Region(entry["name"], box, area, None if ignored else entry.get("segmentation"), crowd=ignored, extra=extra)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


# ---------------------------------------------------------------------- command line


def main(argv: Argv = None) -> int:
    """`datasets/prepare_pseudo_labels.py`."""
    root = datasets_root() / "photos"
    parser = ArgumentParser(
        description="Unlabelled photos -> objects with masks, as detectors of COCO's names and a segmenter see them. A "
        "run that was stopped goes on where it was."
    )
    parser.add_argument("photos", nargs="?", type=Path, default=root, help="folder of folders of photos (%(default)s)")
    parser.add_argument(
        "--teachers", type=Path, default=root / "teachers", metavar="DIR",
        help="of the teachers' files; those that are there take part (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=root / "pseudo_labels.json", help="(%(default)s)")
    parser.add_argument(
        "--boxes", action="store_true",
        help="look without the segmenter, which takes most of the time; a run without this option adds the masks",
    )  # fmt: skip
    parser.add_argument("--assemble", action="store_true", help="write the file from the photos looked at so far")
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterator[str]:
    folder: Path = arguments.teachers
    files = {
        "yolox_nano": folder / "yolox_nano.onnx",
        "centernet": folder / "centernet.json",
        "ssd_mobilenet_v2": folder / "frozen_inference_graph.pb",
        "segmenter": folder / "encoder.onnx",
    }
    files = {name: file for name, file in files.items() if file.is_file()}
    if "segmenter" not in files or len(files) < 2:
        raise ValueError(
            f"{folder} must have a detector (yolox_nano.onnx, centernet.json, frozen_inference_graph.pb) and the "
            "segmenter (encoder.onnx, sam.onnx); datasets/README.md says where they come from"
        )
    lines = arguments.output.with_suffix(".jsonl")
    if not arguments.assemble:
        folders = sorted({file.parent for file in arguments.photos.glob("*/*.jpg")})
        if not folders:
            raise ValueError(f"no photos in folders of {arguments.photos}; put each source into a folder of its own")
        photos = list_images([str(one) for one in folders])
        segment = None if arguments.boxes else BoxSegmenter(files["segmenter"].parent)
        for number, _ in enumerate(make_lines(photos, arguments.photos, lines, _looker(files), segment), 1):
            if number % 100 == 0 or number == len(photos):
                yield f"{number} of {len(photos)} photos"
    counts = write_pseudo_labels(lines, arguments.output, teachers=files)
    yield f"{arguments.output}: " + ", ".join(f"{count} {what}" for what, count in counts.items())


def _looker(files: dict[str, Path]) -> Callable[[Any], list[dict[str, Any]]]:
    """The teachers of these files as one function of a photo."""
    makers: dict[str, Callable[[Path], Teacher]] = {
        "yolox_nano": YoloxNano, "centernet": CenterNet, "ssd_mobilenet_v2": lambda file: SsdMobileNet(file.parent),
    }  # fmt: skip
    teachers = {name: make(files[name]) for name, make in makers.items() if name in files}
    yolox = teachers.get("yolox_nano")
    return partial(
        look_at,
        teachers=list(teachers.values()),
        names=list(read_builtin("coco").objects),
        objectness=(lambda pixels: yolox.raw(pixels)[:2]) if isinstance(yolox, YoloxNano) else None,
    )
