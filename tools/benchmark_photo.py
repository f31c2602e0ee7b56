#!/usr/bin/env python
"""What a photo costs, against a small detector: `python tools/benchmark_photo.py WEIGHTS yolox_nano.onnx PHOTO ...`.

Ours: the default call with all names that the weights were trained with (boxes, masks, parts), image reading included.
The rival: YOLOX-Nano at 416 x 416 in onnxruntime, image reading, letterbox, decoding and suppression included. They
take turns photo by photo, on as many threads. Prints the machine, versions, the commit, medians, spreads and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import onnxruntime
import torch
from benchmark_model import commit_here, processor

from partglee import Predictor
from partglee.basics.arguments import ArgumentParser
from partglee.data.images import read_image
from partglee.data.prepare.teachers import YoloxNano
from partglee.ops import status


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments say."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a .safetensors file, or the name of weights")
    parser.add_argument("rival", type=Path, help="yolox_nano.onnx")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--vocabulary", default="partglee_tiny")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3, help="rounds over the photos, after one to warm up")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY VALUE", help="values of the configuration")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    predictor = Predictor.from_pretrained(given.weights, overrides=given.set)
    rival = YoloxNano(given.rival)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = given.threads
    rival.session = onnxruntime.InferenceSession(str(given.rival), options, providers=["CPUExecutionProvider"])
    print(f"{processor()}, {given.threads} threads; torch {torch.__version__}, onnxruntime {onnxruntime.__version__}, "
          f"commit {commit_here()}; deformable attention: {status()['cpu path']}")  # fmt: skip
    candidates: dict[str, Callable[[Path], object]] = {
        "partglee": lambda photo: predictor(photo, given.vocabulary),
        "YOLOX-Nano": lambda photo: rival(read_image(photo)),
    }
    for clock, of in in_turns(candidates, given.photos, rounds=given.repeat).items():
        ratio = statistics.median(a / b for a, b in zip(of["partglee"], of["YOLOX-Nano"], strict=True))
        told = ", ".join(
            f"{name} {statistics.median(v):.0f} ms ({min(v):.0f} to {max(v):.0f})" for name, v in of.items()
        )
        print(f"{clock}: {told}, ratio {ratio:.2f}")
    return 0


def in_turns(
    candidates: Mapping[str, Callable[[Path], object]], photos: Sequence[Path], *, rounds: int
) -> dict[str, dict[str, list[float]]]:
    """{clock: {candidate: milliseconds of each photo and round}}, after a round to warm up."""
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    times: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in candidates} for clock in clocks}
    for round_ in range(rounds + 1):
        for photo in photos:
            for name, run in candidates.items():
                start = {clock: now() for clock, now in clocks.items()}
                run(photo)
                if round_:
                    for clock, now in clocks.items():
                        times[clock][name].append(1000 * (now() - start[clock]))
    return times


if __name__ == "__main__":
    raise SystemExit(main())
