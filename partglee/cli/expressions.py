"""The command of a project whose model answers expressions: train, predict, eval, export, words, and its own."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from partglee.basics.arguments import ArgumentParser
from partglee.cli.arguments import add_import


@dataclass(frozen=True, kw_only=True)
class ExpressionCommand:
    """`python -m NAME`.

    Args:
        name: of the project: its module, which has `Predictor` and registers a recipe of this name.
        description: one line.
        options: arguments of `predict` -> keywords of `add_argument`; `dest` is a field of the predictor's options.
        more: each adds a command of the project's own to the subparsers; it sets `run`.
    """

    name: str
    description: str
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    more: Sequence[Callable[[Any], None]] = ()

    def main(self, argv: Sequence[str] | None = None) -> int:
        """Run one command; returns the exit status. Bad input ends with one line on stderr and status 2."""
        arguments = list(sys.argv[1:] if argv is None else argv)
        if arguments[:1] == ["train"]:
            from partglee.cli import main as library

            return library(["train", "--import", self.name, *arguments[1:]])
        parsed = self._parser().parse_args(arguments)
        try:
            status: int = parsed.run(parsed)
            return status
        except (ValueError, TypeError, OSError) as error:
            print(f"{self.name}: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print(f"{self.name}: interrupted", file=sys.stderr)
            return 130

    def _parser(self) -> argparse.ArgumentParser:
        parser = ArgumentParser(prog=self.name, description=self.description)
        commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
        about = f"as `partglee train`, with the recipe {self.name} known"
        commands.add_parser("train", help=about, add_help=False)
        for add in (self._add_predict, self._add_eval, self._add_export, self._add_words, *self.more):
            add(commands)
        return parser

    # -- predict -----------------------------------------------------------------------------------------------------

    def _add_predict(self, commands: Any) -> None:
        parser = commands.add_parser("predict", help="pictures and a JSON Lines file for images, folders and globs")
        parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, globs")
        parser.add_argument("--expression", action="append", required=True, help='"the two dogs"; may be repeated')
        parser.add_argument("--output", required=True, metavar="DIR", help="pictures and answers.jsonl go here")
        parser.add_argument("--no-pictures", action="store_true", help="answers.jsonl alone")
        parser.add_argument("--objects", metavar="VOCABULARY", help='instances are objects of partglee: "dog; person"')
        parser.add_argument("--object-weights", default="partglee-tiny", help="of partglee, for --objects")
        for name, keywords in self.options.items():
            parser.add_argument(name, **keywords)
        _add_weights(parser)
        parser.set_defaults(run=self._predict)

    def _predict(self, arguments: argparse.Namespace) -> int:
        from partglee.basics.files import whole_file, write_jpeg
        from partglee.data.images import list_images
        from partglee.engine.expression_predictor import check_expressions
        from partglee.engine.image_input import FAILURES, predict_files

        output = Path(arguments.output)
        if output.exists() and not output.is_dir():
            raise ValueError(f"--output {output} is a file; name a folder")
        files = list_images(arguments.images)
        check_expressions(arguments.expression)
        predictor = self._predictor(arguments)
        chosen = {str(keywords["dest"]): getattr(arguments, keywords["dest"]) for keywords in self.options.values()}
        options = {name: value for name, value in chosen.items() if value is not None}
        predictor.options_with(options)  # what they cannot be is told once, not of each image
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
                    print(f"{self.name}: skipped {file}: {error}", file=sys.stderr)
        print(f"{len(files) - broken} of {len(files)} images -> {output / 'answers.jsonl'}")
        return 1 if broken else 0

    def _predictor(self, arguments: argparse.Namespace) -> Any:
        from functools import partial

        objects = None
        if getattr(arguments, "objects", None):
            import partglee

            finder = partglee.Predictor.from_pretrained(arguments.object_weights, device=arguments.device)
            objects = partial(finder, vocabulary=arguments.objects)
        return import_module(self.name).Predictor.from_pretrained(
            arguments.weights, device=arguments.device, precision=arguments.precision, overrides=arguments.overrides,
            objects=objects,
        )  # fmt: skip

    # -- eval --------------------------------------------------------------------------------------------------------

    def _add_eval(self, commands: Any) -> None:
        parser = commands.add_parser("eval", help="answer every expression of data sets, and score the answers")
        parser.add_argument(
            "--dataset", nargs="+", required=True, metavar="NAME", help="of the catalog (`partglee data`)"
        )
        parser.add_argument("--output", required=True, metavar="DIR", help="NAME.jsonl goes here")
        add_import(parser)
        _add_weights(parser)
        parser.set_defaults(run=self._eval)

    def _eval(self, arguments: argparse.Namespace) -> int:
        from partglee.basics.plugins import load_plugins
        from partglee.engine.build import build_accelerator
        from partglee.engine.evaluate import evaluate
        from partglee.engine.recipe import get_recipe
        from partglee.engine.weight_files import config_of, find_weights

        load_plugins(arguments.imports)
        predictor = self._predictor(arguments)
        defaults = get_recipe(self.name).defaults
        cfg = config_of(find_weights(arguments.weights), arguments.overrides, defaults=defaults)
        cfg.DATASETS.TEST = list(arguments.dataset)
        accelerator = build_accelerator(cfg, cpu=predictor.model.device.type == "cpu")
        folder = Path(arguments.output)
        results, _ = evaluate(cfg, predictor.model, accelerator, answerer=lambda cfg, model: predictor, folder=folder)
        for name, value in results.items():
            print(f"{name}: {value:.2f}")
        return 0

    # -- export, words -----------------------------------------------------------------------------------------------

    def _add_export(self, commands: Any) -> None:
        parser = commands.add_parser("export", help="weights of a run with their vocabulary inside, as one file")
        parser.add_argument("input", metavar="IN.safetensors", help="such as OUTPUT_DIR/model_best.safetensors")
        parser.add_argument("output", metavar="OUT.safetensors")
        parser.set_defaults(run=self._export)

    def _export(self, arguments: argparse.Namespace) -> int:
        from partglee.engine.expression_weights import export_with_words

        import_module(self.name)
        export_with_words(arguments.input, arguments.output, recipe=self.name)
        print(f"wrote {arguments.output}, {os.path.getsize(arguments.output) / 1e6:.1f} MB")
        return 0

    def _add_words(self, commands: Any) -> None:
        parser = commands.add_parser("words", help="a vocabulary file from the expressions of data sets")
        parser.add_argument("output", metavar="OUT.txt")
        parser.add_argument("--dataset", nargs="+", default=[], metavar="NAME", help="of the catalog")
        parser.add_argument("--config-file", metavar="FILE", help="DATASETS.TRAIN of a configuration")
        parser.add_argument("--images", type=int, default=20000, metavar="N", help="of each data set at most")
        parser.set_defaults(run=self._words)

    def _words(self, arguments: argparse.Namespace) -> int:
        from partglee.basics.files import whole_file
        from partglee.data.catalog import get_dataset, register_custom
        from partglee.text.word_pieces import word_list

        if not (folder := Path(arguments.output).parent).is_dir():
            raise ValueError(f"{arguments.output}: there is no folder {folder}; make it, or name another file")
        load_config = import_module(self.name).load_config
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


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", required=True, help=".safetensors file of convert, export or training")
    parser.add_argument("--device", help="cpu, cuda, cuda:1; default: a GPU when there is one")
    parser.add_argument(
        "--precision", default="float32", choices=("auto", "float32", "bfloat16", "float16", "mixed"),
        help="auto: what this machine is quick at; mixed: bfloat16 but for the backbone",
    )  # fmt: skip
    parser.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="KEY VALUE", help="on top of the configuration"
    )
