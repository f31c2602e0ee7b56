#!/usr/bin/env python
"""Every exported format beside eager PyTorch: what it finds, what a photo costs, how large the file is.

    python tools/benchmark_export.py partglee-tiny PHOTO ... --int8 FOLDER_OF_PHOTOS

Graphs are drawn into a folder (`--folder` keeps them, and takes what it holds already). Photos are fitted into one size
first, so that no resizing differs; then all take turns photo by photo, reading included, on as many threads. Prints the
machine, versions, the commit, and a table: rows that are the same as eager's, the largest difference of a box and a
score among those, medians, spreads, ratios.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import onnxruntime
import openvino
import torch
from benchmark_model import commit_here, processor
from benchmark_photo import in_turns
from PIL import Image

from partglee import Predictor
from partglee.basics.arguments import ArgumentParser
from partglee.data.images import list_images, read_image
from partglee.export import ExportedPredictor, export_model, quantize
from partglee.ops import status
from partglee.structures import Prediction, Vocabulary

ENDINGS = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments say."""
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", help="a .safetensors file, or the name of weights")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--vocabulary", default="partglee_tiny")
    parser.add_argument("--formats", nargs="+", choices=tuple(ENDINGS), default=list(ENDINGS))
    parser.add_argument("--int8", metavar="PHOTOS", help="also int8, with ranges found on these photos")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 384), metavar=("H", "W"))
    parser.add_argument("--folder", type=Path, help="where graphs are kept")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=5, help="rounds over the photos, after one to warm up")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        files = _draw(given, folder)
        eager = Predictor.from_pretrained(given.weights, device="cpu")
        exported = {name: ExportedPredictor.open(file, threads=given.threads) for name, file in files.items()}
        photos = [_fitted(photo, tuple(given.size), Path(scratch)) for photo in given.photos]
        print(f"{processor()}, {given.threads} threads; torch {torch.__version__}, onnxruntime "
              f"{onnxruntime.__version__}, openvino {openvino.__version__.split('-')[0]}, commit {commit_here()}; "
              f"deformable attention in eager: {status()['cpu path']}")  # fmt: skip
        candidates: dict[str, Callable[[Path], Prediction]] = {
            "eager": lambda photo: eager(photo, given.vocabulary), **exported
        }  # fmt: skip
        times = in_turns(candidates, photos, rounds=given.repeat)["wall"]
        print(f"{len(photos)} photos of {given.size[0]} x {given.size[1]}, {given.repeat} rounds\n")
        print(
            "| | MiB | rows as eager's | box, px | score | ms (spread) | times eager |\n|---|---|---|---|---|---|---|"
        )
        wanted = [candidates["eager"](photo) for photo in photos]
        for name, run in candidates.items():
            pairs = [(run(photo), target) for photo, target in zip(photos, wanted, strict=True)]
            parity = "other rows | - | -" if name.endswith("int8") else _parity(pairs)
            size = _size(files[name]) if name in files else "-"
            ratio = statistics.median(a / b for a, b in zip(times["eager"], times[name], strict=True))
            print(f"| {name} | {size} | {parity} | {_time(times[name])} | {ratio:.2f}x |")
    return 0


def _draw(given: argparse.Namespace, folder: Path) -> dict[str, Path]:
    """{format: its file}, drawn where the folder does not hold it."""
    vocabulary, files = Vocabulary.parse(given.vocabulary), {}
    for kind in given.formats:
        files[kind] = folder / f"graph{ENDINGS[kind]}"
        if not files[kind].exists():
            print(f"drawing {files[kind].name}", flush=True)
            export_model(given.weights, files[kind], format=kind, vocabulary=vocabulary)
    if given.int8 is not None:
        files["onnx int8"] = folder / "graph8.onnx"
        if not files["onnx int8"].exists():
            quantize(files["onnx"], files["onnx int8"], photos=list_images(given.int8))
    return files


def _fitted(photo: Path, size: tuple[int, int], folder: Path) -> Path:
    """A photo cut and resized to the size, so that its network input is itself."""
    image = Image.fromarray(read_image(photo))
    scale = max(size[0] / image.height, size[1] / image.width)
    image = image.resize((max(size[1], round(image.width * scale)), max(size[0], round(image.height * scale))))
    file = folder / f"{photo.stem}.png"
    image.crop((0, 0, size[1], size[0])).save(file)
    return file


def _parity(pairs: Sequence[tuple[Prediction, Prediction]]) -> str:
    """Rows of the same place, name and object; among those the largest differences."""
    same, rows, box, score = 0, 0, 0.0, 0.0
    for found, wanted in pairs:
        rows += len(wanted.labels)
        for place in range(min(len(found.labels), len(wanted.labels))):
            if (found.names[place], int(found.parent[place])) == (wanted.names[place], int(wanted.parent[place])):
                same += 1
                box = max(box, float((found.boxes[place] - wanted.boxes[place]).abs().max()))
                score = max(score, float((found.scores[place] - wanted.scores[place]).abs()))
    return f"{same} of {rows} | {box:.1e} | {score:.1e}"


def _time(times: Sequence[float]) -> str:
    middle = statistics.median(times)
    return f"{middle:.0f} ({100 * (max(times) - min(times)) / middle:.0f} %)"


def _size(file: Path) -> str:
    files = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file]
    return f"{sum(one.stat().st_size for one in files) / 2**20:.1f}"


if __name__ == "__main__":
    raise SystemExit(main())
