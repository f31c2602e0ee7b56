"""`partglee annotate`: a recipe over any number of images, and what it made."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from partglee.basics.arguments import ArgumentParser
from partglee.cli.arguments import add_import

_ACTIONS = ("run", "export", "report", "list")


class _Parser(ArgumentParser):
    """Takes `annotate RECIPE INPUT OUT` for `annotate run RECIPE INPUT OUT`."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(args or [])
        if words and words[0] not in (*_ACTIONS, "-h", "--help"):
            words.insert(0, "run")
        return super().parse_known_args(words, namespace)


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    command = commands.add_parser(
        "annotate", help="annotate images in bulk: objects, parts, captions, trees", add_help=True
    )
    command.__class__ = _Parser
    actions = command.add_subparsers(
        title="actions", metavar="RECIPE INPUT... OUT | export | report | list", required=True,
        parser_class=ArgumentParser,
    )  # fmt: skip
    _add_run(actions)
    export = actions.add_parser("export", help="what a job made, in another format")
    export.add_argument("job", type=Path, metavar="DIR", help="folder of a job")
    export.add_argument("target", type=Path, metavar="OUT", help="a file, or a new folder")
    export.add_argument(
        "--to",
        default="coco",
        metavar="FORMAT",
        help="coco, cvat, labelstudio, labelme, ... (docs/formats.md), or triples",
    )
    export.add_argument("--images", type=Path, metavar="DIR", help="folder that file names are relative to")
    export.add_argument("--empty", action="store_true", help="also images without a region")
    export.set_defaults(run=run_export)
    report = actions.add_parser("report", help="what a job made, as one HTML page")
    report.add_argument("job", type=Path, metavar="DIR", help="folder of a job")
    report.add_argument("--output", type=Path, metavar="FILE", help="default: report.html in the folder")
    report.add_argument("--pictures", type=int, default=12, metavar="N", help="random images, and drops of each filter")
    report.add_argument("--seed", type=int, default=0)
    report.set_defaults(run=run_report)
    listed = actions.add_parser("list", help="recipes and stages that are known")
    add_import(listed)
    listed.set_defaults(run=run_list)


def _add_run(actions: Any) -> None:
    run = actions.add_parser("run", help="run a recipe (the word may be left out)")
    run.add_argument("recipe", metavar="RECIPE", help="a name (`partglee annotate list`) or a YAML file")
    run.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="files, folders, globs, COCO JSON, dataset:NAME, *.tar, *.parquet"
    )
    run.add_argument("output", type=Path, metavar="OUT", help="folder of the job; one that was begun goes on")
    run.add_argument("--images", metavar="DIR", help="folder of the images of a COCO file")
    run.add_argument("--masks", action="store_true", help="the annotations of the input bring their masks")
    run.add_argument("--set", dest="overrides", action="append", default=[], metavar="STAGE.KEY=VALUE")
    run.add_argument("--workers", type=int, default=1, metavar="N", help="processes; each loads all models")
    run.add_argument("--threads", type=int, default=1, metavar="N", help="of each process")
    run.add_argument("--retry-failed", action="store_true", help="also run images again that failed")
    run.add_argument(
        "--max-errors", type=float, default=0.1, metavar="N", help="the job ends beyond; below 1 a share (%(default)s)"
    )
    run.add_argument("--engine", choices=("local", "ray"), default="local")
    run.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster; default: one on this machine")
    run.add_argument("--check", action="store_true", help="say whether the recipe fits the input, and run nothing")
    add_import(run)
    run.set_defaults(run=run_job)


def run_job(arguments: argparse.Namespace) -> int:
    """Run or go on; status 1 when images failed."""
    from partglee.annotate import Job, open_source, read_recipe
    from partglee.annotate.extras import of_tables

    for name in ("workers", "threads"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(arguments, name)}")
    if not arguments.max_errors >= 0:
        raise ValueError(f"--max-errors must be at least 0, got {arguments.max_errors}")
    if arguments.address and arguments.engine != "ray":
        raise ValueError("--address is of a Ray cluster; add --engine ray")
    recipe = read_recipe(arguments.recipe, arguments.overrides)
    source = open_source(arguments.inputs, images=arguments.images, masks=arguments.masks)
    recipe.check(source.columns)
    of_tables(recipe.tables)  # what is not installed is told before anything runs
    if arguments.check:
        print(f"{recipe.name}: {' -> '.join(['read', *(stage.name for stage in recipe.stages), 'write'])}; it fits")
        return 0
    job = Job(folder=arguments.output, recipe=recipe)
    job.prepare(source.items)
    if job.repeated:
        print(f"partglee: {job.repeated} images are named more than once; they run once", file=sys.stderr)
    summary = _run(job, arguments)
    print(
        f"{summary.rows} of {job.num_images} images with {summary.regions} regions -> {job.folder}; "
        f"{summary.ran} ran now" + (f", {summary.restarts} workers were started anew" if summary.restarts else "")
    )
    if summary.failed:
        print(
            f"{summary.failed} images failed: {job.folder / 'errors.jsonl'}; --retry-failed runs them again",
            file=sys.stderr,
        )
    return 1 if summary.failed else 0


def _run(job: Any, arguments: argparse.Namespace) -> Any:
    from tqdm import tqdm

    with tqdm(total=job.num_images, unit="image", disable=None) as bar:

        def progress(rows: int, failed: int) -> None:
            bar.n = rows + failed
            bar.set_postfix(failed=failed, refresh=False)
            bar.refresh()

        common = {"retry_failed": arguments.retry_failed, "max_errors": arguments.max_errors, "progress": progress}
        if arguments.engine == "ray":
            from partglee.annotate.ray_engine import run_ray

            return run_ray(
                job, address=arguments.address, workers=arguments.workers, imports=arguments.imports, **common
            )
        from partglee.annotate import run_local

        return run_local(job, workers=arguments.workers, threads=arguments.threads, **common)


def run_export(arguments: argparse.Namespace) -> int:
    """Export, and say what was written and left out."""
    from partglee.annotate import open_job
    from partglee.annotate.export import export

    done = export(
        open_job(arguments.job), arguments.target, to=arguments.to, images=arguments.images, empty=arguments.empty
    )
    counts = f"{done.images} images, {done.objects} objects, {done.parts} parts"
    print(f"{counts} -> {arguments.target}; images in {done.folder}")
    for name, count in done.left_out.most_common():
        print(f"left out: {count} regions that {name} dropped")
    return 0


def run_report(arguments: argparse.Namespace) -> int:
    """Write the page, and the main counts to the terminal."""
    from partglee.annotate import open_job
    from partglee.annotate.report import write_report

    if arguments.pictures < 0:
        raise ValueError(f"--pictures must be at least 0, got {arguments.pictures}")
    target = arguments.output or arguments.job / "report.html"
    found = write_report(open_job(arguments.job), target, pictures=arguments.pictures, seed=arguments.seed)
    print(
        f"{found.images} images, {found.regions['object']} objects, {found.regions['part']} parts, "
        f"{sum(found.lengths.values())} expressions of {found.mean_length:.2f} words -> {target}"
    )
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    """Recipes with what they do, stages with their columns."""
    from partglee.annotate import list_recipes, list_stages
    from partglee.annotate.recipe import RECIPES
    from partglee.annotate.stage import stage_class
    from partglee.basics.files import read_yaml

    del arguments
    print("recipes")
    for name in list_recipes():
        print(f"  {name:18} {read_yaml(RECIPES / f'{name}.yaml', 'recipe').get('about', '')}")
    print("stages")
    for kind in list_stages():
        words = _first_sentence(stage_class(kind).__doc__ or "")
        print(f"  {kind:18} {words}")
    return 0


def _first_sentence(text: str) -> str:
    lines: Sequence[str] = text.split("\n\n")[0].split()
    return " ".join(lines).partition(". ")[0].rstrip(".")
