#!/usr/bin/env python
"""Time and memory of mask and box AP on predictions of PACO-test size, ours against pycocotools in the same run.

The annotations and predictions are synthetic: ellipses at random places, a share of the predictions near an
annotation, the rest anywhere and of any class. Each scorer runs in a process of its own, so that its peak
memory is its own.

    python tools/benchmark_evaluation.py --images 900 --rounds 3 --scorers partglee hotcoco pycocotools
    python tools/benchmark_evaluation.py --scorers partglee pycocotools-chunked  # 9,443 images, 531 classes, 300 each

pycocotools needs more than 18 GB for the whole of that size. AP is of each category, so `pycocotools-chunked`
loads, evaluates, accumulates and frees a share of the categories at a time: the numbers are those of the whole.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import multiprocessing
import os
import platform
import queue
import resource
import statistics
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle

from partglee.basics.arguments import ArgumentParser

SIZE = (480, 640)
Files = tuple[Path, Path]  # annotations, results


def make(args: argparse.Namespace, folder: Path) -> list[Files]:
    """Write annotations and results; returns their files, and then those of each chunk of the categories."""
    rng = np.random.default_rng(0)
    # Shapes come from a pool: encoding millions of masks would take longer than scoring them.
    pool = _shapes(rng, 4000)
    frequency = "fcr"
    categories = [{"id": k + 1, "name": f"c{k}", "frequency": frequency[k % 3]} for k in range(args.classes)]
    images, annotations = [], []
    places = ["whole", *range(args.chunks if "pycocotools-chunked" in args.scorers else 0)]
    files = [(folder / f"truth_{place}.json", folder / f"found_{place}.json") for place in places]
    chunk_of = np.arange(-1, args.classes) * args.chunks // args.classes  # of a category id
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(found.open("w")) for _, found in files]
        for stream in streams:
            stream.write("[")
        begun = [False] * len(streams)

        def write(rows: list[str], place: int) -> None:
            if rows:
                streams[place].write(("," if begun[place] else "") + ",".join(rows))
                begun[place] = True

        for i in range(args.images):
            images.append({"id": i + 1, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i + 1}.jpg",
                           "neg_category_ids": [], "not_exhaustive_category_ids": []})  # fmt: skip
            own = [
                (int(rng.integers(0, len(pool))), int(rng.integers(1, args.classes + 1))) for _ in range(args.truths)
            ]
            for shape, category in own:
                annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": category,
                                    "iscrowd": 0, **pool[shape]})  # fmt: skip
            rows: dict[int, list[str]] = {}
            for j in range(args.detections):
                near = j < args.detections // 4
                shape, category = own[j % len(own)] if near else (int(rng.integers(0, len(pool))), 0)
                if near and rng.random() < 0.5:
                    shape = int(np.clip(shape + rng.integers(-2, 3), 0, len(pool) - 1))
                category = category or int(rng.integers(1, args.classes + 1))
                row = {"image_id": i + 1, "category_id": category, "score": round(float(rng.random()), 6)}
                if args.kind == "segm":
                    row["segmentation"] = pool[shape]["segmentation"]
                else:
                    row["bbox"] = pool[shape]["bbox"]
                rows.setdefault(int(chunk_of[category]), []).append(json.dumps(row))
            write([text for texts in rows.values() for text in texts], 0)
            for chunk in rows if len(files) > 1 else ():
                write(rows[chunk], chunk + 1)
        for stream in streams:
            stream.write("]")
    for place, (truth, _) in enumerate(files):
        kept = [c for c in categories if place in (0, chunk_of[c["id"]] + 1)]
        own = [a for a in annotations if place in (0, chunk_of[a["category_id"]] + 1)]
        truth.write_text(json.dumps({"images": images, "annotations": own, "categories": kept}))
    return files


def _shapes(rng: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """Ellipses that change a little from one to the next, so that neighbours overlap; every 20th is new."""
    limits = np.array([[10, 10, 0, 0], [200, 200, *SIZE]])  # height, width, centre
    shapes: list[dict[str, Any]] = []
    place = np.zeros(4)
    while len(shapes) < count:
        new = len(shapes) % 20 == 0
        place = rng.uniform(*limits) if new else place * [*rng.normal(1, 0.08, 2), 1, 1]
        place[2:] += 0 if new else rng.normal(0, 0.06, 2) * place[:2]
        h, w, y, x = place = place.clip(*limits)
        rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
        mask = ((rows - y) / (h / 2)) ** 2 + ((columns - x) / (w / 2)) ** 2 <= 1
        entry = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
        if rle.area(entry) == 0:
            continue
        shapes.append({
            "segmentation": {"size": [int(v) for v in entry["size"]], "counts": entry["counts"].decode()},
            "bbox": [float(v) for v in rle.toBbox(entry)], "area": float(rle.area(entry)),
        })  # fmt: skip
    return shapes


def score_ours(files: list[Files], kind: str, lvis: bool) -> dict[str, float]:
    """Our evaluator, from the files to the numbers."""
    from partglee.evaluation import CocoEvaluator, LvisEvaluator, score_file

    truth, found = files[0]

    evaluator = (LvisEvaluator if lvis else CocoEvaluator)(ground_truth=truth, kinds=(kind,))
    results = score_file(found, evaluator)
    return {key: results[f"{kind}/{key}"] / 100 for key in ("AP", "AP50", "AP75")}


def score_pycocotools(files: list[Files], kind: str, lvis: bool) -> dict[str, float]:
    """pycocotools, from the files to the numbers."""
    return _pycocotools(files[:1], kind, lvis)


def score_chunked(files: list[Files], kind: str, lvis: bool) -> dict[str, float]:
    """pycocotools on one chunk of the categories after the other."""
    return _pycocotools(files[1:], kind, lvis)


def _pycocotools(files: list[Files], kind: str, lvis: bool) -> dict[str, float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if lvis:
        raise ValueError("pycocotools has no LVIS rules")
    precision = []  # (thresholds, recalls, categories) of each chunk, at all areas and 100 detections
    for truth, found in files:
        gt = COCO(str(truth))
        scorer = COCOeval(gt, gt.loadRes(str(found)), kind)
        scorer.evaluate()
        scorer.accumulate()
        precision.append(scorer.eval["precision"][:, :, :, 0, -1].copy())
        del gt, scorer
        gc.collect()
    table = np.concatenate(precision, axis=2)
    chosen = {"AP": table, "AP50": table[:1], "AP75": table[5:6]}
    return {key: float(values[values > -1].mean()) for key, values in chosen.items()}


def score_faster(files: list[Files], kind: str, lvis: bool) -> dict[str, float]:
    """faster-coco-eval, from the files to the numbers."""
    from faster_coco_eval import COCO, COCOeval_faster

    truth, found = files[0]
    gt = COCO(str(truth))
    scorer = COCOeval_faster(gt, gt.loadRes(str(found)), kind, lvis_style=lvis, print_function=lambda *_: None)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return dict(zip(("AP", "AP50", "AP75"), map(float, scorer.stats[:3]), strict=True))


def score_hotcoco(files: list[Files], kind: str, lvis: bool) -> dict[str, float]:
    """hotcoco, from the files to the numbers; not a requirement of ours."""
    from hotcoco import COCO, COCOeval

    truth, found = files[0]
    gt = COCO(str(truth))
    scorer = COCOeval(gt, gt.load_res(str(found)), kind, lvis_style=lvis)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return dict(zip(("AP", "AP50", "AP75"), map(float, scorer.stats[:3]), strict=True))


SCORERS = {
    "partglee": score_ours, "hotcoco": score_hotcoco, "faster-coco-eval": score_faster,
    "pycocotools": score_pycocotools, "pycocotools-chunked": score_chunked,
}  # fmt: skip


def _child(name: str, arguments: tuple[Any, ...], answer: Any) -> None:
    start = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        values = SCORERS[name](*arguments)
    seconds = time.perf_counter() - start
    usage = resource.getrusage(resource.RUSAGE_SELF)
    answer.put((seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20, values))


def measure(name: str, arguments: tuple[Any, ...]) -> tuple[float, float, float, dict[str, float]] | None:
    """(seconds, processor seconds, peak GiB, numbers) of one scorer in a fresh process; None when it died."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_child, args=(name, arguments, answer))
    process.start()
    while True:
        try:
            result = answer.get(timeout=1)
            break
        except queue.Empty:  # look whether the process still lives
            if not process.is_alive():
                print(f"{name:<20} died, exit code {process.exitcode} (-9: killed, often for memory)", flush=True)
                result = None
                break
    process.join()
    return result


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=9443)
    parser.add_argument("--classes", type=int, default=531)
    parser.add_argument("--detections", type=int, default=300, help="for each image")
    parser.add_argument("--truths", type=int, default=14, help="annotations for each image (PACO-LVIS test: 14)")
    parser.add_argument("--kind", choices=("segm", "bbox"), default="segm")
    parser.add_argument("--scorers", nargs="+", choices=tuple(SCORERS), default=["partglee", "pycocotools"])
    parser.add_argument("--rounds", type=int, default=1, help="of all scorers in turn; medians and spread of several")
    parser.add_argument("--lvis", action="store_true", help="LVIS rules (not pycocotools)")
    parser.add_argument("--chunks", type=int, default=12, help="of the categories, for pycocotools-chunked")
    args = parser.parse_args()
    if not 1 <= args.chunks <= args.classes:
        parser.error(f"--chunks must lie between 1 and the number of classes, {args.classes}")
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    print(f"{args.images} images, {args.classes} classes, {args.detections} predictions and {args.truths} annotations each, "  # noqa: E501
          f"{args.kind}{', LVIS rules' if args.lvis else ''}; {platform.machine()}, {os.cpu_count()} cores, "
          f"Python {platform.python_version()}, numpy {np.__version__}, pycocotools {version('pycocotools')}", flush=True)  # fmt: skip  # noqa: E501
    if "pycocotools-chunked" in args.scorers:
        print(f"pycocotools-chunked takes the categories in {args.chunks} chunks, one after the other in one process: each is "  # noqa: E501
              "loaded from files of its own, evaluated, accumulated and freed; writing these files is not timed", flush=True)  # fmt: skip  # noqa: E501
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        files = make(args, Path(folder))
        size = files[0][1].stat().st_size / 2**30
        print(f"files written in {time.perf_counter() - start:.0f} s ({size:.2f} GiB of predictions)", flush=True)
        times: dict[str, list[tuple[float, float, float]]] = {}
        for _ in range(args.rounds):
            for name in args.scorers:  # in turns: a slow minute of the machine hits all
                measured = measure(name, (files, args.kind, args.lvis))
                if measured is None:
                    continue
                times.setdefault(name, []).append(measured[:3])
                numbers = ", ".join(f"{key} {value:.6f}" for key, value in measured[3].items())
                print(_line(name, *map(str, map(_short, measured[:3]))) + f"  {numbers}", flush=True)
        if args.rounds > 1:
            print(f"medians of {args.rounds} rounds (least to most)")
            for name, rounds in times.items():
                print(_line(name, *(_spread(list(values)) for values in zip(*rounds, strict=True))))
        for name in times:
            if name != "partglee" and "partglee" in times:
                wall, cpu, _ = _medians(times[name]) / _medians(times["partglee"])
                print(f"partglee is {wall:.2f} times as fast as {name} ({cpu:.2f} times in processor seconds)")


def _line(name: str, wall: str, cpu: str, peak: str) -> str:
    return f"{name:<20} {wall:>8} s  {cpu:>8} s CPU  {peak:>6} GiB peak"


def _short(value: float) -> float:
    return round(value, 2 if value < 10 else 1)


def _spread(values: list[float]) -> str:
    return f"{_short(statistics.median(values))} ({_short(min(values))} to {_short(max(values))})"


def _medians(rounds: list[tuple[float, float, float]]) -> NDArray[np.float64]:
    return np.median(np.array(rounds), axis=0)


if __name__ == "__main__":
    main()
