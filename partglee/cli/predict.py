"""`partglee predict`: pictures and a JSON Lines file for images, folders and globs."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

from partglee.cli.arguments import add_import


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("predict", help="find objects and their parts in images")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, globs")
    parser.add_argument("--vocabulary", required=True, help='"car: wheel, door; person", a YAML file, a built-in name')
    parser.add_argument("--weights", help=".safetensors file; `partglee convert` makes it from released ones")
    parser.add_argument("--config", help="zoo name or YAML file; default: the one that the weights name")
    parser.add_argument("--output", required=True, metavar="DIR", help="pictures and predictions.jsonl go here")
    parser.add_argument("--score-threshold", type=float, metavar="P", help="objects (and parts) below it are dropped")
    parser.add_argument("--part-score-threshold", type=float, metavar="P", help="for parts; default: as for objects")
    parser.add_argument("--max-objects", type=int, default=100, metavar="N")
    parser.add_argument("--max-parts", type=int, metavar="N", help="best parts kept of each object; default: all")
    parser.add_argument(
        "--all-parts-compete", action="store_true", help="ignore which object has which part (released)"
    )
    parser.add_argument("--no-masks", action="store_true", help="boxes alone")
    parser.add_argument("--no-pictures", action="store_true", help="predictions.jsonl alone")
    parser.add_argument("--name-table", metavar="FILE", help="name embeddings, for models that read names from a table")
    parser.add_argument(
        "--strict", action="store_true", help="names that the table lacks are an error, not read as others"
    )
    parser.add_argument("--batch-size", type=int, default=1, metavar="N", help="images of one size in one pass")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU when there is one")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    add_import(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict; a broken image is reported and skipped. Status 1 if any was."""
    from tqdm import tqdm

    from partglee.basics.files import whole_file, write_jpeg
    from partglee.data.images import list_images
    from partglee.engine.image_input import FAILURES, predict_files
    from partglee.structures import Vocabulary

    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; name a folder")
    files = list_images(arguments.images)
    vocabulary = Vocabulary.parse(arguments.vocabulary)
    predictor = _predictor(arguments)
    words = predictor.words(vocabulary, strict=arguments.strict)
    for sentence in words.told():
        print(f"partglee: {sentence}", file=sys.stderr)
    predict = partial(
        predictor,
        vocabulary=words.vocabulary,
        score_threshold=arguments.score_threshold,
        part_score_threshold=arguments.part_score_threshold,
        max_objects=arguments.max_objects,
        max_parts_per_object=arguments.max_parts,
        restrict_parts=not arguments.all_parts_compete,
        masks=not arguments.no_masks,
        batch_size=arguments.batch_size,
    )
    predict([])  # an unknown name or a wrong option is the user's error, not each image's
    pictures = _picture_names(files)
    broken: list[str] = []
    stopped: KeyboardInterrupt | None = None  # Ctrl-C, or SIGTERM
    with whole_file(output / "predictions.jsonl") as beside, beside.open("w", encoding="utf-8") as lines:
        answers = predict_files(predictor, files, predict, batch_size=arguments.batch_size)
        try:
            for file, answer in tqdm(answers, unit="image", total=len(files), disable=None):
                try:
                    if isinstance(answer, Exception):
                        raise answer
                    if not arguments.no_pictures:
                        write_jpeg(answer.draw(), output / pictures[file])
                    lines.write(answer.to_json() + "\n")
                except FAILURES as error:
                    broken.append(str(file))
                    tqdm.write(f"partglee: skipped {file}: {error}", file=sys.stderr)
        except KeyboardInterrupt as stop:
            stopped = stop  # what is done so far is worth keeping
    if stopped is not None:
        raise stopped
    done = len(files) - len(broken)
    print(
        f"{done} of {len(files)} images -> {output / 'predictions.jsonl'}"
        + ("" if arguments.no_pictures else ", pictures beside it")
    )
    if broken:
        print(f"skipped {len(broken)}: {', '.join(broken[:5])}{' ...' if len(broken) > 5 else ''}", file=sys.stderr)
    return 1 if broken else 0


def _predictor(arguments: argparse.Namespace) -> Any:
    from partglee.engine import Predictor

    overrides = ["MODEL.TEXT.TABLE.FILE", arguments.name_table] if arguments.name_table else []
    options = {"device": arguments.device, "precision": arguments.precision, "overrides": overrides}
    if arguments.config:
        return Predictor.from_config(arguments.config, arguments.weights, **options)
    if not arguments.weights:
        raise ValueError("pass --weights FILE (see MODEL_ZOO.md), or --config NAME to run a model without any")
    return Predictor.from_pretrained(arguments.weights, **options)


def _picture_names(files: list[Path]) -> dict[Path, str]:
    """One `.jpg` name for each image; equal stems of different folders get a number."""
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        name, number = f"{file.stem}.jpg", 1
        while name in taken:
            number += 1
            name = f"{file.stem}_{number}.jpg"
        taken.add(name)
        names[file] = name
    return names
