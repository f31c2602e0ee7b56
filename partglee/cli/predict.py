"""`partglee predict`: pictures and a JSON Lines file for images, folders, globs, addresses and videos."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from partglee.cli.arguments import add_import, asked_vocabulary, tell_missing_operators

if TYPE_CHECKING:
    from partglee.engine import Predictor
    from partglee.engine.image_input import InputImage
    from partglee.structures import Prediction, Vocabulary

DEFAULT_WEIGHTS = "partglee-tiny"
DEFAULT_OUTPUT = "partglee_output"


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser(
        "predict", help="find objects and their parts in images and videos",
        description="Find objects and their parts. `partglee predict IMAGE` needs nothing else.",
    )  # fmt: skip
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="images, videos, folders, globs, http(s) addresses")
    parser.add_argument(
        "-v", "--vocabulary",
        help='"car: wheel, door; person", a YAML file, a built-in name; default: what the weights were trained with',
    )  # fmt: skip
    parser.add_argument(
        "-w", "--weights",
        help=f"name or .safetensors file; `partglee convert` makes it from released ones; default: {DEFAULT_WEIGHTS}",
    )  # fmt: skip
    parser.add_argument("-c", "--config", help="zoo name or YAML file; default: the one that the weights name")
    parser.add_argument(
        "-o", "--output", default=DEFAULT_OUTPUT, metavar="DIR",
        help="pictures and predictions.jsonl go here; default: %(default)s",
    )  # fmt: skip
    parser.add_argument(
        "-t", "--score-threshold", type=float, metavar="P", help="objects (and parts) below it are dropped"
    )
    parser.add_argument("--part-score-threshold", type=float, metavar="P", help="for parts; default: as for objects")
    parser.add_argument("-n", "--max-objects", type=int, default=100, metavar="N")
    parser.add_argument("--max-parts", type=int, metavar="N", help="best parts kept of each object; default: all")
    parser.add_argument(
        "--all-parts-compete", action="store_true", help="ignore which object has which part (released)"
    )
    overlap = parser.add_mutually_exclusive_group()
    overlap.add_argument(
        "--across-names", action="store_true", help="of overlapping objects keep the best, whatever their names"
    )
    overlap.add_argument(
        "--keep-overlaps",
        action="store_true",
        help="keep all objects of one name in one place, and parts inside a twin",
    )
    parser.add_argument(
        "--positions", choices=("image", "own"),
        help="rename equal parts by where they are (left wheel, front door): left of the picture, or the object's own",
    )  # fmt: skip
    parser.add_argument("--stride", type=int, default=1, metavar="N", help="of videos every N-th frame")
    parser.add_argument("--no-masks", action="store_true", help="boxes alone")
    parser.add_argument("--no-pictures", action="store_true", help="predictions.jsonl alone")
    parser.add_argument("--panel", action="store_true", help="pictures with the tree of objects and parts beside them")
    parser.add_argument("--name-table", metavar="FILE", help="name embeddings, for models that read names from a table")
    parser.add_argument(
        "--strict", action="store_true", help="names that the table lacks are an error, not read as others"
    )
    parser.add_argument("-b", "--batch-size", type=int, default=1, metavar="N", help="images of one size in one pass")
    parser.add_argument("-d", "--device", help="cpu, cuda, cuda:1; default: a GPU when there is one")
    parser.add_argument(
        "--precision", default="float32", choices=("auto", "float32", "bfloat16", "float16", "mixed"),
        help="auto: what this machine is quick at; mixed: bfloat16 but for the backbone",
    )  # fmt: skip
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict; an image or a video that is broken is reported and skipped. Status 1 if any was."""
    from tqdm import tqdm

    from partglee.basics.files import whole_file, write_jpeg
    from partglee.cli.predict_video import predict_video
    from partglee.engine.image_input import FAILURES, predict_files

    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; name a folder")
    if arguments.stride < 1:
        raise ValueError(f"--stride must be at least 1, got {arguments.stride}")
    files, videos = _inputs(arguments.images)
    vocabulary = _vocabulary(arguments)
    predictor = _predictor(arguments)
    words = predictor.words(vocabulary, strict=arguments.strict)
    for sentence in words.told():
        print(f"partglee: {sentence}", file=sys.stderr)
    predict = _predict(predictor, words.vocabulary, arguments)
    predict([])  # an unknown name or a wrong option is the user's error, not each image's
    names = _output_names([*files, *videos])
    broken: list[str] = []
    stopped: KeyboardInterrupt | None = None  # Ctrl-C, or SIGTERM

    def skipped(file: str | Path, error: Exception) -> None:
        broken.append(str(file))
        tqdm.write(f"partglee: skipped {file}: {error}", file=sys.stderr)

    with whole_file(output / "predictions.jsonl") as beside, beside.open("w", encoding="utf-8") as lines:
        answers = predict_files(predictor, files, predict, batch_size=arguments.batch_size)
        try:
            for file, answer in tqdm(answers, unit="image", total=len(files), disable=None if files else True):
                try:
                    if isinstance(answer, Exception):
                        raise answer
                    if not arguments.no_pictures:
                        write_jpeg(answer.draw(panel=arguments.panel), output / names[file])
                    lines.write(answer.to_json() + "\n")
                except FAILURES as error:
                    skipped(file, error)
            for video in videos:
                picture = None if arguments.no_pictures else output / names[video]
                try:
                    predict_video(predictor, video, predict, lines, picture=picture, arguments=arguments)
                except FAILURES as error:
                    skipped(video, error)
        except KeyboardInterrupt as stop:
            stopped = stop  # what is done so far is worth keeping
    if stopped is not None:
        raise stopped
    _report(files, videos, broken, output, pictures=not arguments.no_pictures)
    return 1 if broken else 0


def _report(files: list[str | Path], videos: list[Path], broken: list[str], output: Path, *, pictures: bool) -> None:
    whole = {str(file) for file in broken}
    said = []
    for many, unit in ((files, "image"), (videos, "video")):
        if many:
            done = sum(str(file) not in whole for file in many)
            said.append(f"{done} of {len(many)} {unit}{'s' * (len(many) != 1)}")
    print(f"{' and '.join(said)} -> {output / 'predictions.jsonl'}" + (", pictures beside it" if pictures else ""))
    if broken:
        print(f"skipped {len(broken)}: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}", file=sys.stderr)


def _inputs(given: list[str]) -> tuple[list[str | Path], list[Path]]:
    """Images and addresses, and videos, in the order given and each once."""
    from partglee.data.images import IMAGE_SUFFIXES, list_images
    from partglee.data.video import VIDEO_SUFFIXES
    from partglee.data.web import is_url

    images: dict[str | Path, None] = {}
    videos: dict[Path, None] = {}
    for entry in given:
        if is_url(entry):
            images[entry] = None
            continue
        for file in list_images(entry, suffixes=IMAGE_SUFFIXES | VIDEO_SUFFIXES):
            if file.suffix.lower() in VIDEO_SUFFIXES:
                videos[file] = None
            else:
                images[file] = None
    return list(images), list(videos)


def _vocabulary(arguments: argparse.Namespace) -> Vocabulary:
    weights = arguments.weights or ("" if arguments.config else DEFAULT_WEIGHTS)
    return asked_vocabulary(arguments.vocabulary, weights or arguments.config)


def _predict(
    predictor: Predictor, vocabulary: Vocabulary, arguments: argparse.Namespace
) -> Callable[[list[InputImage]], list[Prediction]]:
    """Images, read, to predictions."""
    from partglee.structures.positions import PositionRules, with_positions

    rules = PositionRules(frame=arguments.positions) if arguments.positions else None

    def predict(images: list[InputImage]) -> list[Prediction]:
        found = predictor(
            images,
            vocabulary,
            score_threshold=arguments.score_threshold,
            part_score_threshold=arguments.part_score_threshold,
            max_objects=arguments.max_objects,
            max_parts_per_object=arguments.max_parts,
            restrict_parts=not arguments.all_parts_compete,
            object_overlap=None if arguments.keep_overlaps else 0.7,
            across_names=arguments.across_names,
            part_inside=None if arguments.keep_overlaps else 0.9,
            masks=not arguments.no_masks,
            batch_size=arguments.batch_size,
        )
        return found if rules is None else [with_positions(prediction, rules=rules) for prediction in found]

    return predict


def _predictor(arguments: argparse.Namespace) -> Predictor:
    from partglee.engine import Predictor

    overrides = ["MODEL.TEXT.TABLE.FILE", arguments.name_table] if arguments.name_table else []
    if arguments.config:
        predictor = Predictor.from_config(
            arguments.config, arguments.weights, device=arguments.device, precision=arguments.precision,
            overrides=overrides,
        )  # fmt: skip
    else:
        predictor = Predictor.from_pretrained(
            arguments.weights or DEFAULT_WEIGHTS, device=arguments.device, precision=arguments.precision,
            overrides=overrides,
        )  # fmt: skip
    tell_missing_operators(predictor.model.device)
    return predictor


def _output_names(files: list[str | Path]) -> dict[str | Path, str]:
    """A `.jpg` name for each image, `.mp4` for each video; equal stems of different folders get a number."""
    from partglee.data.video import VIDEO_SUFFIXES

    names: dict[str | Path, str] = {}
    taken: set[str] = set()
    for file in files:
        path = Path(urlsplit(file).path) if isinstance(file, str) else file  # an address
        suffix = ".mp4" if not isinstance(file, str) and path.suffix.lower() in VIDEO_SUFFIXES else ".jpg"
        stem = path.stem or "image"
        name, number = f"{stem}{suffix}", 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}{suffix}"
        taken.add(name)
        names[file] = name
    return names
