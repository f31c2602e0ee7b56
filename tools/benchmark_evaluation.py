#!/usr/bin/env python
"""Time and memory of mask and box AP on predictions of PACO-test size, ours against pycocotools in the same run.

The annotations and predictions are synthetic: ellipses at random places, a share of the predictions near an
annotation, the rest anywhere and of any class. Each scorer runs in a process of its own, so that its peak
memory is its own.

    python tools/benchmark_evaluation.py --images 500
    python tools/benchmark_evaluation.py                      # 9,443 images, 531 classes, 300 predictions each
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import platform
import queue
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

SIZE = (480, 640)


def make(args: argparse.Namespace, folder: Path) -> tuple[Path, Path]:
    """Write annotations and results; returns their files."""
    rng = np.random.default_rng(0)
    # Shapes come from a pool: encoding millions of masks would take longer than scoring them.
    pool = [_shape(rng) for _ in range(4000)]
    frequency = "fcr"
    categories = [{"id": k + 1, "name": f"c{k}", "frequency": frequency[k % 3]} for k in range(args.classes)]
    images, annotations = [], []
    truth_file, found_file = folder / "truth.json", folder / "found.json"
    with found_file.open("w") as stream:
        stream.write("[")
        for i in range(args.images):
            images.append({"id": i + 1, "height": SIZE[0], "width": SIZE[1], "file_name": f"{i + 1}.jpg",
                           "neg_category_ids": [], "not_exhaustive_category_ids": []})  # fmt: skip
            own = [
                (int(rng.integers(0, len(pool))), int(rng.integers(1, args.classes + 1))) for _ in range(args.truths)
            ]
            for shape, category in own:
                annotations.append({"id": len(annotations) + 1, "image_id": i + 1, "category_id": category,
                                    "iscrowd": 0, **pool[shape]})  # fmt: skip
            rows = []
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
                rows.append(json.dumps(row))
            stream.write(("," if i else "") + ",".join(rows))
        stream.write("]")
    truth_file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return truth_file, found_file


def _shape(rng: np.random.Generator) -> dict[str, Any]:
    """An ellipse; neighbours in the pool overlap because the centre moves slowly."""
    height, width = SIZE
    h, w = rng.integers(10, 200, 2)
    y, x = rng.integers(h // 2, height - h // 2), rng.integers(w // 2, width - w // 2)
    rows, columns = np.ogrid[:height, :width]
    mask = ((rows - y) / (h / 2)) ** 2 + ((columns - x) / (w / 2)) ** 2 <= 1
    entry = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": {"size": [int(v) for v in entry["size"]], "counts": entry["counts"].decode()},
        "bbox": [float(v) for v in rle.toBbox(entry)], "area": float(rle.area(entry)),
    }  # fmt: skip


def score_ours(truth: Path, found: Path, kind: str, lvis: bool) -> dict[str, float]:
    """Our evaluator, from the files to the numbers."""
    from partglee.evaluation import CocoEvaluator, LvisEvaluator, score_file

    evaluator = (LvisEvaluator if lvis else CocoEvaluator)(ground_truth=truth, kinds=(kind,))
    results = score_file(found, evaluator)
    return {key: results[f"{kind}/{key}"] / 100 for key in ("AP", "AP50", "AP75")}


def score_pycocotools(truth: Path, found: Path, kind: str, lvis: bool) -> dict[str, float]:
    """pycocotools, from the files to the numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    if lvis:
        raise ValueError("pycocotools has no LVIS rules")
    gt = COCO(str(truth))
    scorer = COCOeval(gt, gt.loadRes(str(found)), kind)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return dict(zip(("AP", "AP50", "AP75"), map(float, scorer.stats[:3]), strict=True))


def score_faster(truth: Path, found: Path, kind: str, lvis: bool) -> dict[str, float]:
    """faster-coco-eval, from the files to the numbers."""
    from faster_coco_eval import COCO, COCOeval_faster

    gt = COCO(str(truth))
    scorer = COCOeval_faster(gt, gt.loadRes(str(found)), kind, lvis_style=lvis, print_function=lambda *_: None)
    scorer.evaluate()
    scorer.accumulate()
    scorer.summarize()
    return dict(zip(("AP", "AP50", "AP75"), map(float, scorer.stats[:3]), strict=True))


SCORERS = {"partglee": score_ours, "faster-coco-eval": score_faster, "pycocotools": score_pycocotools}


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
                print(f"{name:<18} died, exit code {process.exitcode} (-9: killed, often for memory)", flush=True)
                result = None
                break
    process.join()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=9443)
    parser.add_argument("--classes", type=int, default=531)
    parser.add_argument("--detections", type=int, default=300, help="for each image")
    parser.add_argument("--truths", type=int, default=14, help="annotations for each image (PACO-LVIS test: 14)")
    parser.add_argument("--kind", choices=("segm", "bbox"), default="segm")
    parser.add_argument("--scorers", nargs="+", choices=tuple(SCORERS), default=["partglee", "pycocotools"])
    parser.add_argument("--lvis", action="store_true", help="LVIS rules (not pycocotools)")
    args = parser.parse_args()
    print(f"{args.images} images, {args.classes} classes, {args.detections} predictions and {args.truths} annotations each, "  # noqa: E501
          f"{args.kind}{', LVIS rules' if args.lvis else ''}; {platform.machine()}, {os.cpu_count()} cores, "
          f"Python {platform.python_version()}, numpy {np.__version__}", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        truth, found = make(args, Path(folder))
        print(
            f"files written in {time.perf_counter() - start:.0f} s ({found.stat().st_size / 2**30:.2f} GiB)", flush=True
        )
        times: dict[str, tuple[float, float]] = {}
        for name in args.scorers:
            measured = measure(name, (truth, found, args.kind, args.lvis))
            if measured is None:
                continue
            times[name] = measured[:2]
            numbers = ", ".join(f"{key} {value:.6f}" for key, value in measured[3].items())
            print(
                f"{name:<18} {measured[0]:8.1f} s  {measured[1]:8.1f} s CPU  {measured[2]:6.2f} GiB peak  {numbers}",
                flush=True,
            )
        for name in times:
            if name != "partglee" and "partglee" in times:
                wall, cpu = (theirs / ours for theirs, ours in zip(times[name], times["partglee"], strict=True))
                print(f"partglee is {wall:.2f} times as fast as {name} ({cpu:.2f} times in processor seconds)")


if __name__ == "__main__":
    main()
