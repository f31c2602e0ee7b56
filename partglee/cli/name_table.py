"""`partglee name-table`: tables of name embeddings, made and enlarged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add this command to the command line."""
    parser = commands.add_parser("name-table", help="make a table of name embeddings, or enlarge one")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    make = actions.add_parser("make", help="encode names by the text tower of an open_clip model")
    make.add_argument("output", type=Path, metavar="OUT.npz")
    make.add_argument("--model", required=True, help="of open_clip, such as RN50 or ViT-B-32")
    make.add_argument("--pretrained", required=True, help="its weights: a tag of open_clip such as openai, or a file")
    make.add_argument("--template", default="a {}", help="what is read for a name (%(default)s)")
    make.add_argument(
        "--names", nargs="+", default=["coco", "lvis", "objects365", "paco", "pascal_part", "partimagenet", "voc"],
        help="built-in vocabularies and text files with a name on each line (default: %(default)s)",
    )  # fmt: skip
    make.set_defaults(run=_make)
    extend = actions.add_parser("extend", help="add names to a table without its text tower")
    extend.add_argument("table", type=Path, metavar="TABLE")
    extend.add_argument("output", type=Path, metavar="OUT.npz")
    extend.add_argument(
        "--bridge", type=Path, metavar="OTHER",
        help="table of another text tower: its further names come through a linear map, fitted on the common ones",
    )  # fmt: skip
    extend.add_argument("--words", nargs="+", default=[], help="placed by what they mean and how they are spelled")
    extend.set_defaults(run=_extend)


def _make(arguments: argparse.Namespace) -> int:
    from partglee.text.name_tables import encode_names, write_table

    names = _names(arguments.names)
    vectors = encode_names(names, model=arguments.model, pretrained=arguments.pretrained, template=arguments.template)
    write_table(names, vectors, arguments.output)
    print(f"{arguments.output}: {len(names)} names, {vectors.shape[1]} wide")
    return 0


def _names(sources: list[str]) -> list[str]:
    """Object names and part prompts of vocabularies, lines of files; each once."""
    from partglee.basics.files import read_text
    from partglee.structures import Vocabulary

    names: dict[str, None] = {}
    for source in sources:
        if Path(source).is_file():
            lines = read_text(source, "file of names").splitlines()
            names.update(dict.fromkeys(line.strip() for line in lines if line.strip()))
        else:
            vocabulary = Vocabulary.builtin(source)
            names.update(dict.fromkeys((*vocabulary.object_prompts, *vocabulary.part_prompts)))
    return list(names)


def _extend(arguments: argparse.Namespace) -> int:
    from partglee.text.name_tables import extended, write_table
    from partglee.text.table import read_table
    from partglee.text.word_space import sentence_encoder

    if arguments.bridge is None and not arguments.words:
        raise ValueError("nothing to add; give --bridge OTHER.npz, --words WORD ..., or both")
    encoder = sentence_encoder()
    if arguments.words and encoder is None:
        print("the extra 'words' is not installed: words are placed by their spelling alone")
    before = len(read_table(arguments.table)[0])
    names, vectors = extended(arguments.table, bridge_from=arguments.bridge, words=arguments.words, encoder=encoder)
    write_table(names, vectors, arguments.output)
    print(f"{arguments.output}: {before} names and {len(names) - before} new ones, {vectors.shape[1]} wide")
    return 0
