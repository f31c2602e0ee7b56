#!/usr/bin/env python
"""Writes the word files of the library from WordNet 3.0 and the categories of LVIS.

    python tools/make_word_files.py /usr/share/wordnet lvis_v0.5_val.json coco_to_synset.json --imagenet PHOTOS

`partglee/text/word_lists/synonyms.txt`: for each known name the nouns that mean it or a kind of it;
`partglee/text/word_lists/plurals.txt`: irregular plurals; `partglee/data/mappings/imagenet_names.json`: what each of
ImageNet's 1000 classes is in COCO's names and in all. WordNet is Debian's `wordnet-base`; LVIS (version 0.5) and COCO's
synsets come with the LVIS API.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import whole_file, write_json
from partglee.structures import Vocabulary
from partglee.text import plain_name

ROOT = Path(__file__).parents[1] / "partglee"
LISTS = ROOT / "text" / "word_lists"
PART_OF = 9  # stands where the steps do: the noun is a part of the known thing
KINDS_DEEP = 4  # steps from a name up to the known name of which it is a kind


class Synset(NamedTuple):
    lemmas: tuple[str, ...]
    above: tuple[int, ...]  # hypernyms
    whole: tuple[int, ...]  # what it is a part of


class WordNet:
    """Nouns of WordNet's own files."""

    def __init__(self, folder: Path) -> None:
        self.synsets: dict[int, Synset] = {}
        for line in (folder / "data.noun").read_text().splitlines():
            if line.startswith(" "):
                continue
            fields = line.split(" | ")[0].split()
            count = int(fields[3], 16)
            lemmas = tuple(re.sub(r"\(.*\)", "", word).replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
            pointers = fields[5 + 2 * count :]
            above = tuple(
                int(pointers[i + 1]) for i, f in enumerate(pointers) if f in ("@", "@i") and pointers[i + 2] == "n"
            )
            whole = tuple(int(pointers[i + 1]) for i, f in enumerate(pointers) if f == "#p" and pointers[i + 2] == "n")
            self.synsets[int(fields[0])] = Synset(lemmas, above, whole)
        self.senses: dict[str, tuple[int, ...]] = {}
        for line in (folder / "index.noun").read_text().splitlines():
            if line.startswith(" "):
                continue
            fields = line.split()
            count = int(fields[2])
            self.senses[fields[0].replace("_", " ")] = tuple(map(int, fields[-count:]))
        self.plurals = dict(line.split()[:2] for line in (folder / "noun.exc").read_text().splitlines())

    def synset(self, name: str) -> int | None:
        """`wheel.n.01` -> its offset."""
        word, _, sense = name.rpartition(".n.")
        senses = self.senses.get(word.replace("_", " ").lower(), ())
        return senses[int(sense) - 1] if sense.isdigit() and int(sense) <= len(senses) else None


def known_synsets(wordnet: WordNet, lvis: Path, coco: Path) -> dict[int, str]:
    """Synset -> the plain name that a table has of it: COCO's before LVIS's before the others'."""
    found: dict[int, str] = {}

    def add(synset: int | None, name: str) -> None:
        if synset is not None:
            found.setdefault(synset, plain_name(name))

    for name, entry in json.loads(coco.read_text()).items():
        add(wordnet.synset(entry["synset"]), name)
    names = set(Vocabulary.builtin("lvis").object_names)
    for entry in json.loads(lvis.read_text())["categories"]:
        if entry["name"] in names:
            add(wordnet.synset(entry["synset"]), entry["name"])
    parts = {
        plain_name(part)
        for vocabulary in ("pascal_part", "paco", "partimagenet")
        for part in Vocabulary.builtin(vocabulary).part_names
    }
    for name in sorted(parts) + sorted(plain_name(name) for name in Vocabulary.builtin("objects365").object_names):
        add(next(iter(wordnet.senses.get(name, ())), None), name)
    return found


def depth_to_known(wordnet: WordNet, synset: int, known: dict[int, str], *, but: str = "") -> tuple[int, str] | None:
    """Steps up to the nearest synset that has a known name other than `but`, and the name."""
    level, seen = [synset], {synset}
    for depth in range(KINDS_DEEP + 1):
        for one in level:
            if known.get(one, but) != but:
                return depth, known[one]
        level = [up for one in level for up in wordnet.synsets[one].above if up not in seen]
        seen.update(level)
    return None


def synonyms(wordnet: WordNet, known: dict[int, str]) -> dict[str, dict[int, list[str]]]:
    """Known name -> steps (0 = the same) -> nouns. The second sense of a noun counts as two steps further away. Nouns
    of what is a part of the known thing stand apart. A known name also stands under the next one, for tables that lack
    it."""
    groups: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for word, senses in sorted(wordnet.senses.items()):
        if len(word.split()) > 3 or not re.fullmatch(r"[a-z][a-z' -]*", word):
            continue
        ways = [(hit[0] + 2 * rank, hit[0], hit[1]) for rank, sense in enumerate(senses[:2])
                if (hit := depth_to_known(wordnet, sense, known, but=word))]  # fmt: skip
        if ways and min(ways)[0] <= KINDS_DEEP:
            _, depth, name = min(ways)
            groups[name][depth].append(word)
        wholes = {known[whole] for sense in senses[:2] for whole in wordnet.synsets[sense].whole if whole in known}
        for name in wholes:
            groups[name][PART_OF].append(word)
    return groups


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wordnet", type=Path)
    parser.add_argument("lvis", type=Path)
    parser.add_argument("coco", type=Path)
    parser.add_argument("--imagenet", type=Path, help="folder of files nXXXXXXXX_name.jpg, one of each class")
    arguments = parser.parse_args()
    wordnet = WordNet(arguments.wordnet)
    known = known_synsets(wordnet, arguments.lvis, arguments.coco)
    groups = synonyms(wordnet, known)
    with whole_file(LISTS / "synonyms.txt") as beside:
        lines = [
            f"{name}\t{depth}\t{','.join(words)}"
            for name, of in sorted(groups.items())
            for depth, words in sorted(of.items())
        ]
        beside.write_text("\n".join(lines) + "\n")
    usable = {k: v for k, v in wordnet.plurals.items() if "_" not in k and v + "s" != k and v in wordnet.senses}
    with whole_file(LISTS / "plurals.txt") as beside:
        beside.write_text("".join(f"{plural}\t{single}\n" for plural, single in sorted(usable.items())))
    nouns = sum(len(words) for of in groups.values() for words in of.values())
    print(f"{len(known)} known synsets, {nouns} nouns, {len(usable)} plurals")
    if arguments.imagenet:
        write_imagenet(wordnet, known, arguments.imagenet, arguments.coco)


def write_imagenet(wordnet: WordNet, known: dict[int, str], photos: Path, coco: Path) -> None:
    """Class -> name of COCO above it, the nearest object's name at most a step above it, whether it is an animal."""
    objects = {
        plain_name(name) for one in ("coco", "lvis", "objects365") for name in Vocabulary.builtin(one).object_names
    }
    of_coco = {wordnet.synset(entry["synset"]): name for name, entry in json.loads(coco.read_text()).items()}
    animal = wordnet.synset("animal.n.01")
    classes = {}
    for file in sorted(photos.glob("n*.jpg")):
        wnid = file.name.split("_")[0]
        ups, level = [], [int(wnid[1:])]
        while level:
            ups += level
            level = [up for one in level for up in wordnet.synsets[one].above]
        hit = depth_to_known(wordnet, int(wnid[1:]), known)
        near = hit[1] if hit and hit[0] <= 1 and hit[1] in objects else None
        classes[wnid] = [next((of_coco[one] for one in ups if one in of_coco), None), near, animal in ups]
    write_json(classes, ROOT / "data" / "mappings" / "imagenet_names.json")
    told = [sum(bool(entry[column]) for entry in classes.values()) for column in range(3)]
    print(f"{len(classes)} classes: {told[0]} kinds of COCO's names, {told[1]} with a known name, {told[2]} animals")


if __name__ == "__main__":
    main()
