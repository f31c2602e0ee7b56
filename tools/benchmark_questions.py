"""What ten questions of one image cost, against one: `python tools/benchmark_questions.py rela rela_toy rela_swint`.

The first word is the project, `partglee` the library itself (names of the zoo, or shipped weights; its questions are
vocabularies of ten objects, of which the first is in the photo; `--expressions` asks sentences). Weights are random
where no file is named, which costs the same. Prints the machine, versions, the commit, and for each configuration the
median and the spread of one and of ten questions, image included, and their ratio on both clocks. Both are asked in
turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_model import commit_here, processor
from PIL import Image

from partglee.basics.arguments import ArgumentParser
from partglee.ops import status

SENTENCES = [
    "the two people on the left", "everyone but the blue shirt", "a zebra", "the red car", "both dogs", "all cups",
    "the largest boat", "the bicycle without a saddle", "the man in the middle", "the second bottle",
]  # fmt: skip
VOCABULARIES = [
    {"person": ["hair"]}, {"car": ["wheel"]}, {"dog": ["head"]}, {"bicycle": ["wheel"]}, {"cat": ["head"]},
    {"horse": ["leg"]}, {"bird": ["wing"]}, {"bus": ["door"]}, {"bottle": ["cap"]}, {"cow": ["leg"]},
]  # fmt: skip
PHOTO = Path(__file__).resolve().parents[1] / "docs" / "photos" / "astronaut.jpg"  # a person


def main() -> None:
    """Measure what the arguments say."""
    parser = ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("project", help="partglee, rela, unires: a module with a Predictor")
    parser.add_argument("config", nargs="+", help="names or files of configurations; partglee-tiny")
    parser.add_argument("--expressions", action="store_true", help="partglee: sentences in place of vocabularies")
    parser.add_argument("--one-by-one", action="store_true", help="partglee: a call for each vocabulary")
    parser.add_argument(
        "--score-threshold", type=float, help="partglee: of vocabularies; 0: all find objects, and 100 rows get masks"
    )
    parser.add_argument("--size", default="480x640", help="height x width of the photo")
    parser.add_argument("--set", dest="overrides", nargs="+", default=[], metavar="KEY VALUE")
    parser.add_argument("--repeat", type=int, default=7, help="runs of each, after one to warm up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{processor()}, {arguments.threads} threads, {arguments.device}; torch {torch.__version__}, "
          f"commit {commit_here()}; deformable attention: {status()['cpu path']}")  # fmt: skip
    height, width = (int(side) for side in arguments.size.split("x"))
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize((width, height)))
    for config in arguments.config:
        ask = asker(arguments.project, config, arguments, photo)
        for clock, (one, ten) in measure(ask, arguments).items():
            ratio = statistics.median(b / a for a, b in zip(one, ten, strict=True))
            print(f"{config} {' '.join(map(str, arguments.overrides))} {clock}: one {_told(one)}, ten {_told(ten)}, "
                  f"ratio {ratio:.2f}", flush=True)  # fmt: skip


def asker(project: str, config: str, arguments: argparse.Namespace, photo: Any) -> Callable[[int], object]:
    """Asks so many questions of the photo, which is encoded for them."""
    module = importlib.import_module(project)
    overrides = list(arguments.overrides)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if config == "partglee-tiny":  # a table without a file has no names to ask for
            predictor = module.Predictor.from_pretrained(config, device=arguments.device)
        else:
            if project != "partglee":
                overrides = ["MODEL.WEIGHTS", "", *bert_from_scratch(module, config), *overrides]
            predictor = module.Predictor.from_config(config, device=arguments.device, overrides=overrides)
    if project != "partglee":
        return lambda count: predictor(photo, SENTENCES[:count])

    def ask(count: int) -> None:
        encoded = predictor.encode_image(photo)
        if arguments.expressions:
            predictor.ground(encoded, SENTENCES[:count])
        elif arguments.one_by_one:
            for vocabulary in VOCABULARIES[:count]:
                predictor(encoded, vocabulary, score_threshold=arguments.score_threshold)
        else:
            vocabularies = VOCABULARIES[:count]
            predictor.decode(encoded, vocabularies=vocabularies, score_threshold=arguments.score_threshold)

    return ask


def bert_from_scratch(module: Any, config: str) -> list[Any]:
    """Where words are BERT's, a tower of that size with a vocabulary that is at hand."""
    if module.load_config(config).MODEL.TEXT.BACKEND != "bert":
        return []
    return ["MODEL.TEXT.BERT.PRETRAINED", "", "MODEL.TEXT.BERT.VOCABULARY", "toy"]


def measure(ask: Callable[[int], object], arguments: argparse.Namespace) -> dict[str, tuple[list[float], list[float]]]:
    """Seconds of one and of ten questions, run by run, on each clock."""
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    times: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in clocks}
    for run in range(arguments.repeat + 1):
        for place, count in enumerate((1, 10)):
            start = {name: clock() for name, clock in clocks.items()}
            ask(count)
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            if run:
                for name, clock in clocks.items():
                    times[name][place].append(clock() - start[name])
    return times


def _told(times: list[float]) -> str:
    return f"{1000 * statistics.median(times):.0f} ms ({1000 * min(times):.0f} to {1000 * max(times):.0f})"


if __name__ == "__main__":
    main()
