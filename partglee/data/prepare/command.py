"""What the prepare scripts share: `datasets/prepare_NAME.py` runs the `main` of a module of this folder."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json
from partglee.data.prepare.files import AnnotatedImage, write_set, write_splits
from partglee.data.prepare.mapping import NameMapping, load_mapping
from partglee.data.spec import datasets_root

Argv = Sequence[str] | None
Work = Callable[[argparse.Namespace], Iterable[str]]
"""Does what the arguments say, and yields a line for each file that it wrote."""
T = TypeVar("T")


def run(parser: argparse.ArgumentParser, argv: Argv, work: Work) -> int:
    """Print what was written, line by line; status 2 with the reason when something is wrong."""
    arguments = parser.parse_args(argv)
    try:
        for line in work(arguments):
            print(line, flush=True)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def shown(images: Iterable[T]) -> Iterable[T]:
    """The images, with a progress bar where somebody looks."""
    bar: Iterable[T] = tqdm(images, unit=" images", disable=not sys.stderr.isatty())
    return bar


# -- train.json and val.json, split by share ------------------------------------------------------------------------


def share_parser(title: str, folder: str, *, raw: str) -> argparse.ArgumentParser:
    """A parser of scripts that read one raw folder; `folder` is that of the data set, `raw` lies in it."""
    parser = ArgumentParser(description=f"{title} -> hierarchical COCO JSON: train.json and val.json.")
    default = datasets_root() / folder / raw
    parser.add_argument("raw", nargs="?", type=Path, default=default, help=f"raw folder (default: {default})")
    add_output(parser, folder)
    return parser


def add_output(parser: argparse.ArgumentParser, folder: str) -> None:
    """`--output` and `--val-share`, which `write_shares` reads."""
    default = datasets_root() / folder
    parser.add_argument("--output", type=Path, default=default, help=f"where the files go (default: {default})")
    parser.add_argument("--val-share", type=float, default=0.1, help="last share of the images, kept for validation")


def mapped_parser(title: str, folder: str, *, raw: str) -> argparse.ArgumentParser:
    """As `share_parser`, with `--mapping`, by default the built-in one of the folder's name."""
    parser = share_parser(title, folder, raw=raw)
    parser.add_argument(
        "--mapping", default=folder, help="YAML file of names, or the built-in one (default: %(default)s)"
    )
    return parser


def run_mapped(
    argv: Argv, title: str, folder: str, *, raw: str, read: Callable[[Path, NameMapping], Iterable[AnnotatedImage]]
) -> int:
    """A script whose raw names are renamed by a mapping, the built-in one of the folder's name or `--mapping`."""

    def work(arguments: argparse.Namespace) -> Iterable[str]:
        mapping = load_mapping(arguments.mapping)
        images = read(arguments.raw, mapping)
        return write_shares(images, arguments, categories=mapping.categories(), description=title)

    return run(mapped_parser(title, folder, raw=raw), argv, work)


def write_shares(
    images: Iterable[AnnotatedImage],
    arguments: argparse.Namespace,
    *,
    categories: Sequence[Mapping[str, Any]],
    description: str,
) -> Iterator[str]:
    """Write both files; a line for each."""
    paths = write_splits(
        shown(images), arguments.output, categories=categories, description=description, val_share=arguments.val_share
    )
    for split, path in paths.items():
        yield f"{split}: {path}: {_counted(read_json(path, 'written file'))}"
    yield "Look at them: partglee data check FILE"


def write_apart(
    chosen: Mapping[str, Sequence[AnnotatedImage]],
    output: Path,
    *,
    categories: Sequence[Mapping[str, Any]],
    description: str,
) -> Iterator[str]:
    """Write `NAME.json` for each name with its images; a line for each."""
    for name, images in chosen.items():
        path = output / f"{name}.json"
        content = write_set(images, path, categories=categories, description=f"{description}, {name}", replace=True)
        yield f"{name}: {path}: {_counted(content)}"


# -- a file for each registered name --------------------------------------------------------------------------------


def add_raw_and_splits(parser: argparse.ArgumentParser, default: str) -> None:
    """The raw folder, `--splits`, and `--replace`, which `write_named` reads."""
    parser.add_argument("raw", nargs="?", type=Path, help=f"raw folder (default: {default}); the files go there too")
    parser.add_argument("--splits", nargs="+", default=["train", "val"], metavar="SPLIT", help="default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="overwrite files that came from elsewhere")


def each_split(arguments: argparse.Namespace, folder: str) -> Iterator[tuple[Path, str, Counter[str]]]:
    """(raw folder, split, notes) of each split that is asked for; `folder` is that of the data set."""
    for split in arguments.splits:
        yield arguments.raw or datasets_root() / folder, split, Counter()


def write_named(
    images: Iterable[AnnotatedImage],
    file: Path,
    categories: Sequence[Mapping[str, Any]],
    description: str,
    notes: Mapping[str, int],
    arguments: argparse.Namespace,
) -> Iterator[str]:
    """Write one file; a line of what is in it, and one for each note."""
    content = write_set(
        shown(images), file, categories=categories, description=description, notes=notes, replace=arguments.replace
    )
    text = f"{file}: {_counted(content)}"
    if any(entry["level"] == "object" for entry in categories):
        text += f", {content['info']['parts_without_parent']} parts without a parent"
    yield text
    for what, count in notes.items():
        yield f"  {count} x {what}"


def _counted(content: Mapping[str, Any]) -> str:
    level = {entry["id"]: entry["level"] for entry in content["categories"]}
    parts = sum(level[entry["category_id"]] == "part" for entry in content["annotations"])
    return f"{len(content['images'])} images, {len(content['annotations']) - parts} objects, {parts} parts"
