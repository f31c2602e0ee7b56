"""The command lines of `datasets/prepare_*.py` for data sets of objects and of expressions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from partglee.data.catalog import datasets_root
from partglee.data.files import write_json
from partglee.data.prepare.refer import REFER_SETS, read_refer

Argv = Sequence[str] | None


def refcoco_main(argv: Argv = None) -> int:
    """`datasets/prepare_refcoco.py`."""
    root = datasets_root()
    parser = argparse.ArgumentParser(description="RefCOCO, RefCOCO+, RefCOCOg -> COCO JSON with expressions.")
    parser.add_argument(
        "sets", nargs="*", metavar="SET",
        help=f"of {', '.join(which.name for which in REFER_SETS)}; none: all whose refs file is there",
    )  # fmt: skip
    parser.add_argument("--raw", type=Path, default=root / "refer", help="folder of refcoco/, ... (%(default)s)")
    parser.add_argument("--output", type=Path, default=root / "annotations", help="(%(default)s)")
    parser.add_argument(
        "--train2017", action="store_true", help="read the pictures from coco/train2017 instead of 2014"
    )
    return _run(parser, argv, _refcoco)


def _refcoco(arguments: argparse.Namespace) -> Iterable[str]:
    known = {which.name: which for which in REFER_SETS}
    if unknown := [name for name in arguments.sets if name not in known]:
        raise ValueError(f"no set {unknown[0]!r}; there are {', '.join(known)}")
    there = [w.name for w in REFER_SETS if (arguments.raw / w.folder / f"refs({w.by}).p").is_file()]
    chosen = arguments.sets or there
    if not chosen:
        raise ValueError(f"no refs file such as {arguments.raw / 'refcoco' / 'refs(unc).p'}; give the folder by --raw")
    for name in chosen:
        made = read_refer(arguments.raw / known[name].folder, known[name], train2017=arguments.train2017)
        for split, content in made.items():
            path = arguments.output / name / f"instances_{split}.json"
            write_json(content, path)
            sentences = sum(len(image["expressions"]) for image in content["images"])
            yield f"{path}: {len(content['images'])} objects, {sentences} expressions"


def _run(parser: argparse.ArgumentParser, argv: Argv, work: Callable[[argparse.Namespace], Iterable[str]]) -> int:
    """Print what was written, line by line; status 2 with the reason when something is wrong."""
    arguments = parser.parse_args(argv)
    try:
        for line in work(arguments):
            print(line, flush=True)
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0
