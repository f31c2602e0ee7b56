"""The command lines of `datasets/prepare_*.py` for data sets of objects and of expressions."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from multiprocessing import Pool
from pathlib import Path

from partglee.basics.files import read_json, write_json
from partglee.data.annotations.expressions import count_expressions
from partglee.data.prepare.open_images import prepare_split
from partglee.data.prepare.refer import REFER_SETS, read_refer
from partglee.data.prepare.sa1b import prepare_shard
from partglee.data.prepare.visual_genome import read_official, read_phrases, write_levels
from partglee.data.spec import datasets_root

Argv = Sequence[str] | None


def refcoco_main(argv: Argv = None) -> int:
    """`datasets/prepare_refcoco.py`."""
    root = datasets_root()
    parser = argparse.ArgumentParser(description="RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO -> COCO JSON with expressions.")
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
    there = [w.name for w in REFER_SETS if (arguments.raw / w.folder / w.file).is_file()]
    chosen = arguments.sets or there
    if not chosen:
        raise ValueError(f"no refs file such as {arguments.raw / 'refcoco' / 'refs(unc).p'}; give the folder by --raw")
    for name in chosen:
        made = read_refer(arguments.raw / known[name].folder, known[name], train2017=arguments.train2017)
        for split, content in made.items():
            path = arguments.output / name / f"instances_{split}.json"
            write_json(content, path)
            told = count_expressions(image["expressions"] for image in content["images"])
            counts = {"images": len(content["images"]), "objects": len(content["annotations"]), **told}
            notes = "".join(f"; {count} {what}" for what, count in content["info"]["notes"].items())
            yield f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items()) + notes


def sa1b_main(argv: Argv = None) -> int:
    """`datasets/prepare_sa1b.py`."""
    root = datasets_root() / "SA1B"
    parser = argparse.ArgumentParser(
        description="SA-1B -> objects and parts with parents, one file for each tar. The downloads are only read. What "
        "was done before is not done again."
    )
    parser.add_argument(
        "sources", nargs="*", type=Path, metavar="SOURCE",
        help=f"tars, or folders of images and annotations in images/ (none: all of {root})",
    )  # fmt: skip
    parser.add_argument("--root", type=Path, default=root, help="folder of the data set (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (%(default)s)")
    parser.add_argument("--no-pictures", action="store_true", help="do not write the images of tars to images/")
    parser.add_argument("--again", action="store_true", help="write files anew that are there")
    return _run(parser, argv, _sa1b)


def _sa1b(arguments: argparse.Namespace) -> Iterable[str]:
    sources = arguments.sources or sorted(arguments.root.glob("*.tar")) or sorted(arguments.root.glob("images/*/"))
    if not sources:
        raise ValueError(f"no tars in {arguments.root}; name them, or the folders they were unpacked to")
    if arguments.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {arguments.workers}")
    with ExitStack() as stack:
        pool = stack.enter_context(Pool(arguments.workers)) if arguments.workers > 1 else None
        for source in sources:
            name = source.stem if source.suffix == ".tar" else source.name
            path = arguments.root / "annotations" / f"{name}.json"
            if path.is_file() and not arguments.again:
                yield f"{path}: there already"
                continue
            counts = prepare_shard(source, arguments.root, pool=pool, pictures=not arguments.no_pictures)
            yield f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def visual_genome_main(argv: Argv = None) -> int:
    """`datasets/prepare_visual_genome.py`."""
    root = datasets_root() / "visual_genome"
    parser = argparse.ArgumentParser(
        description="Visual Genome -> phrases sorted into objects and parts, parts with parents, boxes alone."
    )
    parser.add_argument(
        "source", nargs="?", type=Path, default=root,
        help="folder of objects.json and image_data.json, or an LVIS-style file with a phrase on each annotation "
        "(%(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, default=root / "annotations" / "train_joint.json", help="(%(default)s)")
    parser.add_argument(
        "--without", nargs="+", type=Path, default=[], metavar="FILE",
        help="COCO files whose images are left out, such as those you evaluate on (half of the images are COCO's)",
    )  # fmt: skip
    return _run(parser, argv, _visual_genome)


def _visual_genome(arguments: argparse.Namespace) -> Iterable[str]:
    if arguments.source.is_dir():
        left_out: set[int] = set()
        for path in arguments.without:
            left_out |= {int(image["id"]) for image in read_json(path, "COCO file")["images"]}
        found = read_official(arguments.source, wanted=lambda coco_id: coco_id not in left_out)
    elif arguments.without:
        raise ValueError("--without needs the folder of objects.json and image_data.json, which knows COCO's image ids")
    else:
        found = read_phrases(arguments.source)
    counts = write_levels(found, arguments.output)
    yield f"{arguments.output}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


def openimages_main(argv: Argv = None) -> int:
    """`datasets/prepare_openimages.py`."""
    root = datasets_root() / "openimages"
    parser = argparse.ArgumentParser(
        description="Open Images -> 588 objects and 13 parts of the human body with parents, boxes alone."
    )
    parser.add_argument("folder", nargs="?", type=Path, default=root, help="of CSV files and images (%(default)s)")
    parser.add_argument("--splits", nargs="+", choices=("train", "validation"), default=["train", "validation"])
    parser.add_argument("--workers", type=int, default=16, help="threads that read image sizes (%(default)s)")
    return _run(parser, argv, _openimages)


def _openimages(arguments: argparse.Namespace) -> Iterable[str]:
    for split in arguments.splits:
        name = {"train": "train", "validation": "val"}[split]
        path = arguments.folder / "annotations" / f"openimage_joint_{name}.json"
        counts = prepare_split(arguments.folder, split, path, workers=arguments.workers)
        yield f"{path}: " + ", ".join(f"{count} {what}" for what, count in counts.items() if count)


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
