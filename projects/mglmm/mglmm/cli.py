"""The `python -m mglmm` command: ask, train, eval, measure, annotate."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partglee.basics.arguments import ArgumentParser

if TYPE_CHECKING:
    from mglmm.data.source import Source


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status. Bad input ends with one line on stderr and status 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["train"]:
        from partglee.cli import main as library

        return library(["train", "--import", "mglmm", *_with_own_configurations(given[1:])])
    if given[:1] == ["annotate"] and given[1:2] != ["uscdf"]:
        from partglee.cli import main as library

        return library(["annotate", *given[1:], *(["--import", "mglmm"] if given[1:2] == ["run"] else [])])
    arguments = _parser().parse_args(given)
    try:
        status: int = arguments.run(arguments)
        return status
    except (ValueError, TypeError, OSError) as error:
        print(f"mglmm: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("mglmm: interrupted", file=sys.stderr)
        return 130


def _with_own_configurations(given: Sequence[str]) -> list[str]:
    """`--config-file mglmm_toy` as the file of this project's configuration."""
    from mglmm.config import CONFIGS, list_configs

    option = "--config-file"
    own = {name: str(CONFIGS / f"{name}.yaml") for name in list_configs()}
    words = list(given)
    for place, word in enumerate(words):
        before, _, name = word.partition("=")
        if before == option and name in own:
            words[place] = f"{option}={own[name]}"
        elif place and words[place - 1] == option:
            words[place] = own.get(word, word)
    return words


def _parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(prog="mglmm", description="Describe images in sentences whose phrases have masks.")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    commands.add_parser("train", help="as `partglee train`, with the recipe mglmm known", add_help=False)

    ask = commands.add_parser("ask", help="questions about an image; several are turns of one conversation")
    ask.add_argument("image", metavar="IMAGE", help="a picture file")
    ask.add_argument(
        "question",
        nargs="+",
        metavar="QUESTION",
        help="in quotes; each knows the questions before it and their answers",
    )
    ask.add_argument("--output", type=Path, metavar="DIR", help="picture and page of each answer go here")
    ask.add_argument(
        "--temperature",
        type=float,
        default=0.0,
        help="0 (default): the most likely token each time; above, tokens are drawn: 1 as the model says, more = odder",
    )
    ask.add_argument(
        "--seed", type=int, metavar="N", help="with a temperature: the same answers each time; default: other ones"
    )
    _add_weights(ask)
    ask.set_defaults(run=_ask)

    annotate = commands.add_parser(
        "annotate",
        help="`run`, `export`, `report` as of `partglee annotate`, with the stage mgsc_label; `uscdf` its own",
    )
    actions = annotate.add_subparsers(title="actions", metavar="ACTION", required=True)
    uscdf = actions.add_parser("uscdf", help="descriptions of a job as records of USCDF")
    uscdf.add_argument("job", type=Path, metavar="JOB")
    uscdf.add_argument("target", type=Path, metavar="OUT.uscdf.jsonl")
    uscdf.set_defaults(run=_uscdf)

    scored = commands.add_parser("eval", help="score a predictions file; with --weights write it first")
    scored.add_argument("protocol", help="gcg, mgsc, res, gres, reasonseg or captions")
    scored.add_argument("predictions", type=Path, metavar="FILE.jsonl")
    scored.add_argument("--truth", required=True, metavar="FILE", help="USCDF, or the name of a source (toy_mgsc_val)")
    scored.add_argument("--images", type=Path, metavar="DIR", help="of a USCDF file; default: beside it")
    scored.add_argument("--most", type=int, metavar="N", help="the first N records alone")
    scored.add_argument(
        "--java", action="store_true", help="of captions also METEOR's jar, and SPICE where its parser is installed"
    )
    scored.add_argument(
        "--teacher-forced",
        action="store_true",
        help="with --weights: give the model the true text, masks alone are its own",
    )
    _add_weights(scored, required=False)
    scored.set_defaults(run=_eval)

    measured = commands.add_parser("measure", help="what a model learned of toy scenes, by their scene graphs")
    measured.add_argument("weights", metavar="WEIGHTS")
    measured.add_argument("--scenes", type=int, default=100, metavar="N")
    measured.add_argument("--json", type=Path, metavar="FILE", help="the numbers go here too")
    measured.add_argument("--pictures", type=Path, metavar="DIR", help="the answers to every scene go here")
    measured.add_argument("--device", help="default: a GPU where there is one")
    measured.set_defaults(run=_measure, overrides=[])
    return parser


def _measure(arguments: argparse.Namespace) -> int:
    from mglmm.evaluation import table
    from mglmm.toy.measure import measure
    from partglee.basics.files import write_json

    if arguments.scenes < 1:
        raise ValueError(f"--scenes must be at least 1, got {arguments.scenes}")
    results = measure(_loaded(arguments), arguments.scenes, pictures=arguments.pictures)
    print(table(f"{arguments.scenes} toy scenes", results))
    if arguments.json is not None:
        write_json(results, arguments.json)
    return 0


def _uscdf(arguments: argparse.Namespace) -> int:
    from mglmm.mgsc import export_uscdf

    done = export_uscdf(arguments.job, arguments.target)
    print(f"{done.records} records of {done.images} images -> {arguments.target}")
    for why, count in done.left_out.most_common():
        print(f"left out: {count} images: {why}")
    return 0


def _eval(arguments: argparse.Namespace) -> int:
    from mglmm.evaluation import predict, questions, score, table
    from mglmm.metrics.java import why_no_spice

    _check_eval(arguments)
    source = _source(arguments.truth, arguments.images)
    records = list(questions(source, most=arguments.most))
    if not records:
        raise ValueError(f"{arguments.truth} has no record to ask about")
    if arguments.weights:
        count = predict(
            _loaded(arguments), records, arguments.predictions, images=source.images,
            teacher_forced=arguments.teacher_forced,
        )  # fmt: skip
        print(f"{count} answers -> {arguments.predictions}")
    print(
        table(
            f"{arguments.protocol} of {arguments.predictions}",
            score(arguments.protocol, arguments.predictions, records, java=arguments.java),
        )
    )
    if arguments.java and (lacking := why_no_spice()):
        print(lacking, file=sys.stderr)
    return 0


def _check_eval(arguments: argparse.Namespace) -> None:
    """Everything that can be known before a model is asked for hours and the predictions file written."""
    from mglmm.evaluation import CAPTIONS, PROTOCOLS
    from mglmm.metrics.java import scorer_folder

    if arguments.protocol not in PROTOCOLS:
        raise ValueError(f"no protocol {arguments.protocol!r}; there are {', '.join(PROTOCOLS)}")
    if arguments.java and arguments.protocol not in CAPTIONS:
        raise ValueError(
            f"{arguments.protocol} scores no captions, so --java has nothing to add; it is for {', '.join(CAPTIONS)}"
        )
    if arguments.java:
        scorer_folder()
    if arguments.most is not None and arguments.most < 1:
        raise ValueError(f"--most must be at least 1, got {arguments.most}; leave it out for all records")
    if arguments.teacher_forced and not arguments.weights:
        raise ValueError("--teacher-forced is about answers that a model gives: name it by --weights, or leave it out")
    if arguments.overrides and not arguments.weights:
        raise ValueError("--set is about the model that --weights names; name it, or leave --set out")
    if arguments.images is not None and not Path(arguments.truth).is_file():
        raise ValueError(
            f"--images is for a file of USCDF; {arguments.truth} is none, and a source knows its own folder"
        )
    if arguments.predictions.is_dir():
        raise ValueError(f"{arguments.predictions} is a folder; name the predictions file in it")
    if not arguments.weights and not arguments.predictions.is_file():
        raise ValueError(f"no predictions file {arguments.predictions}; --weights FILE lets a model write it")


def _source(truth: str, images: Path | None) -> Source:
    """A file of USCDF, or a source by its name."""
    from mglmm.data.record import SUFFIX
    from mglmm.data.source import uscdf_source
    from partglee.basics.names import nearest
    from partglee.data.catalog import get_dataset, list_datasets

    if Path(truth).is_file():
        return uscdf_source(truth, images or Path(truth).parent)
    if truth.endswith((SUFFIX, ".jsonl", ".json")):
        raise ValueError(f"--truth: no file {truth}; it takes a file of USCDF ({SUFFIX}), or the name of a source")
    opened = get_dataset(truth).options.get("opened")
    if opened is None:
        sources = [name for name in list_datasets() if "opened" in get_dataset(name).options]
        near = nearest(truth, sources) or f"; there are {', '.join(sources)}."
        raise ValueError(
            f"data set {truth!r} is none of conversations{near} --truth takes the name of a source, or a file of USCDF"
        )
    source: Source = opened()
    return source


def _add_weights(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    parser.add_argument(
        "--weights", required=required, metavar="FILE", help="that a run wrote, or its folder: model_final.safetensors"
    )
    parser.add_argument("--device", help="default: a GPU where there is one")
    parser.add_argument(
        "--set", dest="overrides", nargs=2, action="append", default=[], metavar=("KEY", "VALUE"),
        help="of the weights' configuration, such as TEST.MAX_TOKENS 100; may come several times",
    )  # fmt: skip


def _loaded(arguments: argparse.Namespace) -> Any:
    from mglmm.segcap import SegCap

    overrides = [value for pair in arguments.overrides for value in pair]
    return SegCap.from_pretrained(arguments.weights, device=arguments.device, overrides=overrides)


def _ask(arguments: argparse.Namespace) -> int:
    from mglmm.generate import check_options
    from partglee.basics.files import whole_file, write_jpeg
    from partglee.data.images import read_image

    check_options(max_tokens=None, temperature=arguments.temperature, seed=arguments.seed)
    photo = read_image(arguments.image)  # before a model is loaded for it
    talk = _loaded(arguments).dialogue(photo)
    for number, question in enumerate(arguments.question):
        answer = talk.ask(question, temperature=arguments.temperature, seed=arguments.seed)
        print(answer.text)
        for phrase in answer.phrases:
            owner = f", of {answer.phrases[phrase.parent].text!r}" if phrase.parent >= 0 else ""
            pixels, said = int(phrase.mask.sum()), f"{phrase.confidence:.2f}"
            print(f"  {phrase.text!r}: {pixels} pixels, confidence {said}{owner}")
        if answer.no_target:
            print("  no masks")
        if not answer.whole:
            print("  (cut off at TEST.MAX_TOKENS, or where MODEL.LANGUAGE.MAX_TOKENS are full)")
        if not answer.well_formed:
            print("  (ill-formed: not every mask stands directly behind a phrase of its own)")
        if arguments.output is not None:
            picture = arguments.output / f"{Path(arguments.image).stem}_{number}.jpg"
            page = picture.with_suffix(".html")
            write_jpeg(answer.draw(), picture)
            with whole_file(page) as beside:
                beside.write_text(answer.to_html(), encoding="utf-8")
            print(f"  -> {picture}, {page}")
    return 0
