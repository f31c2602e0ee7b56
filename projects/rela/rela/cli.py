"""The `python -m rela` command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partglee.cli.arguments import add_import


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input ends with one line on stderr and status 2."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["train"]:
        from partglee.cli import main as library

        return library(["train", "--import", "rela", *arguments[1:]])
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.run(parsed)
        return status
    except (ValueError, TypeError, OSError) as error:
        print(f"rela: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("rela: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rela", description="Segment what a sentence means: one thing, many or none.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("train", help="as `partglee train`, with the recipe rela known", add_help=False)
    for add in (_add_predict, _add_eval, _add_convert, _add_export, _add_words):
        add(commands)
    return parser


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help=".safetensors file of convert, export or training")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU when there is one")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="KEY VALUE", help="on top of the configuration"
    )


# -- predict ---------------------------------------------------------------------------------------------------------


def _add_predict(commands: Any) -> None:
    parser = commands.add_parser("predict", help="pictures and a JSON Lines file for images, folders and globs")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, globs")
    parser.add_argument("--expression", action="append", required=True, help='"the two dogs"; may be repeated')
    parser.add_argument("--output", required=True, metavar="DIR", help="pictures and answers.jsonl go here")
    parser.add_argument("--no-pictures", action="store_true", help="answers.jsonl alone")
    parser.add_argument("--no-target", choices=("classifier", "pixels", "either"), help="who says that there is none")
    parser.add_argument("--objects", metavar="VOCABULARY", help='instances are objects of partglee: "dog; person"')
    parser.add_argument("--object-weights", default="partglee-tiny", help="of partglee, for --objects")
    _add_weights(parser)
    parser.set_defaults(run=_predict)


def _predict(arguments: argparse.Namespace) -> int:
    from partglee.basics.files import whole_file, write_jpeg
    from partglee.data.images import list_images
    from partglee.engine.image_input import FAILURES, predict_files
    from rela.predictor import check_expressions

    output = Path(arguments.output)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; name a folder")
    files = list_images(arguments.images)
    check_expressions(arguments.expression)
    predictor = _predictor(arguments)
    options = {} if arguments.no_target is None else {"no_target": arguments.no_target}
    output.mkdir(parents=True, exist_ok=True)
    broken = 0
    with whole_file(output / "answers.jsonl") as beside, beside.open("w", encoding="utf-8") as lines:
        answered = predict_files(
            predictor, files, lambda images: [predictor(image, arguments.expression, **options) for image in images]
        )
        for number, (file, answers) in enumerate(answered):
            try:
                if isinstance(answers, Exception):
                    raise answers
                for place, answer in enumerate(answers):
                    lines.write(json.dumps({**answer.to_dict(), "expression": place}) + "\n")
                    if not arguments.no_pictures:
                        write_jpeg(answer.draw(), output / f"{number:04d}_{Path(file).stem}_{place}.jpg")
                    print(f"{file}: {answer}")
            except FAILURES as error:
                broken += 1
                print(f"rela: skipped {file}: {error}", file=sys.stderr)
    print(f"{len(files) - broken} of {len(files)} images -> {output / 'answers.jsonl'}")
    return 1 if broken else 0


def _predictor(arguments: argparse.Namespace) -> Any:
    from functools import partial

    from rela.predictor import Predictor

    objects = None
    if getattr(arguments, "objects", None):
        import partglee

        finder = partglee.Predictor.from_pretrained(arguments.object_weights, device=arguments.device)
        objects = partial(finder, vocabulary=arguments.objects)
    return Predictor.from_pretrained(
        arguments.weights, device=arguments.device, precision=arguments.precision, overrides=arguments.overrides,
        objects=objects,
    )  # fmt: skip


# -- eval ------------------------------------------------------------------------------------------------------------


def _add_eval(commands: Any) -> None:
    parser = commands.add_parser("eval", help="answer every expression of data sets, and score the answers")
    parser.add_argument("--dataset", nargs="+", required=True, metavar="NAME", help="of the catalog (`partglee data`)")
    parser.add_argument("--output", required=True, metavar="DIR", help="NAME.jsonl goes here")
    add_import(parser)
    _add_weights(parser)
    parser.set_defaults(run=_eval)


def _eval(arguments: argparse.Namespace) -> int:
    from partglee.basics.plugins import load_plugins
    from partglee.checkpoint import read_metadata
    from partglee.config import config_from_text
    from partglee.engine.build import build_accelerator
    from partglee.engine.evaluate import evaluate
    from partglee.engine.weight_files import CONFIG_TEXT, find_weights
    from rela.config import rela_defaults

    load_plugins(arguments.imports)
    predictor = _predictor(arguments)
    metadata = read_metadata(find_weights(arguments.weights))
    cfg = config_from_text(metadata[CONFIG_TEXT], arguments.overrides, defaults=rela_defaults)
    cfg.DATASETS.TEST = list(arguments.dataset)
    accelerator = build_accelerator(cfg, cpu=predictor.model.device.type == "cpu")
    folder = Path(arguments.output)
    results, _ = evaluate(cfg, predictor.model, accelerator, answerer=lambda cfg, model: predictor, folder=folder)
    for name, value in results.items():
        print(f"{name}: {value:.2f}")
    return 0


# -- convert, export, words ------------------------------------------------------------------------------------------


def _add_convert(commands: Any) -> None:
    parser = commands.add_parser("convert", help="released ReLA weights to our format")
    parser.add_argument("input", metavar="IN", help=".pth or .safetensors file")
    parser.add_argument("output", metavar="OUT.safetensors")
    parser.add_argument("--vocabulary", metavar="FILE", help="BERT's vocab.txt or tokenizer.json, to travel along")
    parser.add_argument("--config", metavar="NAME", help="configuration that they are for; default: by backbone")
    parser.set_defaults(run=_convert)


def _convert(arguments: argparse.Namespace) -> int:
    from rela.convert import convert_file

    report, config = convert_file(
        arguments.input, arguments.output, vocabulary=arguments.vocabulary, config=arguments.config
    )
    print(report)
    print(f"wrote {arguments.output}; fits {config}: every parameter is there, nothing is left over")
    return 0


def _add_export(commands: Any) -> None:
    parser = commands.add_parser("export", help="weights of a run with their vocabulary inside, as one file")
    parser.add_argument("input", metavar="IN.safetensors", help="such as OUTPUT_DIR/model_best.safetensors")
    parser.add_argument("output", metavar="OUT.safetensors")
    parser.set_defaults(run=_export)


def _export(arguments: argparse.Namespace) -> int:
    from rela.convert import export_file

    export_file(arguments.input, arguments.output)
    print(f"wrote {arguments.output}, {os.path.getsize(arguments.output) / 1e6:.1f} MB")
    return 0


def _add_words(commands: Any) -> None:
    parser = commands.add_parser("words", help="a vocabulary file from the expressions of data sets")
    parser.add_argument("output", metavar="OUT.txt")
    parser.add_argument("--dataset", nargs="+", default=[], metavar="NAME", help="of the catalog")
    parser.add_argument("--config-file", metavar="FILE", help="DATASETS.TRAIN of a configuration")
    parser.add_argument("--images", type=int, default=20000, metavar="N", help="of each data set at most")
    parser.set_defaults(run=_words)


def _words(arguments: argparse.Namespace) -> int:
    import rela.recipe  # noqa: F401  toy scenes are known by it
    from partglee.basics.files import whole_file
    from partglee.data.catalog import get_dataset, register_custom
    from rela.config import load_config
    from rela.words import word_list

    texts: list[str] = []
    names = list(arguments.dataset)
    if arguments.config_file:
        cfg = load_config(arguments.config_file)
        register_custom(cfg)
        names += cfg.DATASETS.TRAIN
    if not names:
        raise ValueError("name data sets, --dataset NAME, or a configuration, --config-file FILE")
    for name in names:
        records = get_dataset(name).read()
        for row in range(min(len(records), arguments.images)):
            texts += [said.text for said in records[row].expressions]
    words = word_list(texts)
    with whole_file(Path(arguments.output)) as beside:
        beside.write_text("\n".join(words) + "\n", encoding="utf-8")
    print(f"{len(words)} WordPieces of {len(texts)} expressions -> {arguments.output}; MODEL.TEXT.BERT.NUM_WORDS "
          f"must be {len(words)} or more")  # fmt: skip
    return 0
