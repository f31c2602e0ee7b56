"""RefCOCO, RefCOCO+, RefCOCOg (`refs(unc).p`) and gRefCOCO (`grefs(unc).json`), each with its `instances.json` -> COCO
JSON with `expressions`.

One entry for each image, with the objects that its sentences mean. A sentence of gRefCOCO means any number of them.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from partglee.basics.arguments import ArgumentParser
from partglee.basics.files import read_json, write_json
from partglee.data.annotations.expressions import count_expressions
from partglee.data.annotations.values import flag
from partglee.data.prepare.command import Argv, run
from partglee.data.prepare.raw_files import load_plain_pickle
from partglee.data.spec import datasets_root

CATEGORIES = [{"id": 1, "name": "object", "level": "object"}]
_REF_KEYS = {"ref_id", "ann_id", "image_id", "split", "sentences"}
_NOTHING = [-1]  # the annotation ids of a ref that means nothing


class ReferSet(NamedTuple):
    """One data set in its published form."""

    folder: str  # of the raw files
    by: str  # who split it
    splits: tuple[str, ...]
    name: str  # of the prepared folder, and of the registered data sets
    generalized: bool = False  # several targets or none (gRefCOCO)

    @property
    def file(self) -> str:
        """Name of the refs file."""
        return f"grefs({self.by}).json" if self.generalized else f"refs({self.by}).p"


REFER_SETS = (
    ReferSet("refcoco", "unc", ("train", "val", "testA", "testB"), "refcoco-unc"),
    ReferSet("refcoco+", "unc", ("train", "val", "testA", "testB"), "refcocoplus-unc"),
    ReferSet("refcocog", "umd", ("train", "val", "test"), "refcocog-umd"),
    ReferSet("refcocog", "google", ("train", "val"), "refcocog-google"),
    ReferSet("grefcoco", "unc", ("train", "val", "testA", "testB"), "grefcoco-unc", generalized=True),
)


def read_refer(raw: Path, which: ReferSet, *, train2017: bool = False) -> dict[str, dict[str, Any]]:
    """{split: COCO dict} of a raw folder with the refs file and `instances.json`; `info` counts what was left out.

    Args:
        raw: folder of the set, for example `refer/refcoco`.
        which: the set.
        train2017: name the pictures as in COCO's train2017 (they are the same), relative to `coco/train2014`.

    Raises:
        ValueError: for missing or damaged files, a pickle that holds more than plain data, refs whose annotation or
            image is not in `instances.json` or whose annotation is of another image, and refs that say in one place
            that they have a target and in another that they have none.
    """
    path = raw / which.file
    refs = read_json(path, "gRefCOCO refs file") if which.generalized else load_plain_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) and ref.keys() >= _REF_KEYS for ref in refs):
        raise ValueError(f"{path} must hold a list of dicts with {sorted(_REF_KEYS)}; download it again")
    content = read_json(raw / "instances.json", "REFER instances file")
    images = {entry["id"]: entry for entry in content["images"]}
    annotations = {entry["id"]: entry for entry in content["annotations"]}
    meant = [_targets(ref, path, generalized=which.generalized) for ref in refs]
    stray = [
        ref["ref_id"]
        for ref, ids in zip(refs, meant, strict=True)
        if ref["image_id"] not in images or any(key not in annotations for key in ids)
    ]
    if stray:
        raise ValueError(
            f"{len(stray)} of {len(refs)} refs of {path} (the first: ref_id {stray[0]}) mean an annotation or image "
            f"that {raw / 'instances.json'} does not have; take both files from one download"
        )
    made: dict[str, dict[str, Any]] = {}
    for split in which.splits:
        maker = _Split(images, annotations, skip_crowds=which.generalized, train2017=train2017)
        for ref, ids in zip(refs, meant, strict=True):
            if ref["split"] == split:
                maker.add(ref, ids, path)
        made[split] = maker.content(f"{which.name} {split}")
    return made


def _targets(ref: Mapping[str, Any], path: Path, *, generalized: bool) -> list[int]:
    """Annotation ids that a ref means, checked against its flag."""
    given = ref["ann_id"]
    ids = list(given) if isinstance(given, (list, tuple)) else [given]
    what = f"ref_id {ref['ref_id']} of {path}"
    if not ids or not all(isinstance(key, int) and not isinstance(key, bool) for key in ids):
        raise ValueError(f"{what}: ann_id must be a whole number or a list of them, got {given!r:.60}")
    if not generalized:
        if len(ids) > 1:
            raise ValueError(f"{what} means {len(ids)} annotations; is it a file of gRefCOCO, grefs(unc).json?")
        return ids
    none, flag = ids == _NOTHING, ref.get("no_target", False)
    if not isinstance(flag, (bool, int)) or bool(flag) != none or (-1 in ids and not none):
        raise ValueError(
            f"{what} contradicts itself: ann_id {given!r:.60}, no_target {flag!r:.20}; ann_id [-1] and no_target true "
            "belong together. Is the file whole?"
        )
    return [] if none else ids


class _Split:
    """One split in the making."""

    def __init__(
        self,
        images: Mapping[int, Mapping[str, Any]],
        annotations: Mapping[int, Mapping[str, Any]],
        *,
        skip_crowds: bool,
        train2017: bool,
    ) -> None:
        self._images, self._annotations = images, annotations
        self._skip_crowds, self._train2017 = skip_crowds, train2017
        self._entries: dict[int, dict[str, Any]] = {}
        self._objects: dict[int, dict[str, Any]] = {}
        self._notes: Counter[str] = Counter()

    def add(self, ref: Mapping[str, Any], ids: Sequence[int], path: Path) -> None:
        """The sentences of a ref."""
        what = f"ref_id {ref['ref_id']} of {path}"
        for key in ids:
            if self._annotations[key]["image_id"] != ref["image_id"]:
                raise ValueError(
                    f"{what} means annotation {key} of image {self._annotations[key]['image_id']}, but is a ref of "
                    f"image {ref['image_id']}; take both files from one download"
                )
        kept = [
            key for key in ids if not (self._skip_crowds and flag(self._annotations[key].get("iscrowd"), "iscrowd"))
        ]
        self._note("targets that are crowds", len(ids) - len(kept))
        if ids and not kept:
            self._note("expressions of crowds alone", len(ref["sentences"]))
            return
        told = []
        for sentence in ref["sentences"]:
            if not isinstance(sentence, Mapping) or not isinstance(sentence.get("sent"), str):
                raise ValueError(f"{what}: each of its sentences must have a text `sent`, got {sentence!r:.60}")
            text = " ".join(sentence["sent"].split())
            self._note("empty sentences", not text)
            if text:
                told.append(
                    {"text": text, "objects": kept, "parts": [], "no_target": not kept,
                     "id": int(sentence.get("sent_id", 0)), "ref_id": ref["ref_id"]}
                )  # fmt: skip
        if told:
            self._entry(ref["image_id"])["expressions"] += told
            for key in kept:
                self._objects.setdefault(key, self._object(key))

    def content(self, description: str) -> dict[str, Any]:
        """The COCO dict."""
        return {
            "info": {"description": description, "notes": dict(self._notes)},
            "images": list(self._entries.values()),
            "categories": CATEGORIES,
            "annotations": list(self._objects.values()),
        }

    def _note(self, what: str, count: int) -> None:
        if count:
            self._notes[f"{what} (left out)"] += count

    def _entry(self, image_id: int) -> dict[str, Any]:
        # The file name of a ref ends with the annotation's id; that of the image is in the instances file.
        image = self._images[image_id]
        name = str(image["file_name"])
        return self._entries.setdefault(
            image_id,
            {
                "id": image_id,
                "file_name": f"../train2017/{name.rsplit('_', 1)[-1]}" if self._train2017 else name,
                "height": image["height"],
                "width": image["width"],
                "expressions": [],
            },
        )

    def _object(self, key: int) -> dict[str, Any]:
        annotation = self._annotations[key]
        return {
            "id": key,
            "image_id": annotation["image_id"],
            "category_id": 1,
            "bbox": annotation["bbox"],
            "area": annotation["area"],
            "iscrowd": 0,  # of RefCOCO: the sentences mean this very region
            "segmentation": annotation["segmentation"],
        }


def main(argv: Argv = None) -> int:
    """`datasets/prepare_refcoco.py`."""
    root = datasets_root()
    parser = ArgumentParser(description="RefCOCO, RefCOCO+, RefCOCOg, gRefCOCO -> COCO JSON with expressions.")
    parser.add_argument(
        "sets", nargs="*", metavar="SET",
        help=f"of {', '.join(which.name for which in REFER_SETS)}; none: all whose refs file is there",
    )  # fmt: skip
    parser.add_argument("--raw", type=Path, default=root / "refer", help="folder of refcoco/, ... (%(default)s)")
    parser.add_argument("--output", type=Path, default=root / "annotations", help="(%(default)s)")
    parser.add_argument(
        "--train2017", action="store_true", help="read the pictures from coco/train2017 instead of 2014"
    )
    return run(parser, argv, _prepare)


def _prepare(arguments: argparse.Namespace) -> Iterable[str]:
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
