"""RefCOCO, RefCOCO+ and RefCOCOg as published (`refs(unc).p`, `instances.json`) -> COCO JSON with `expressions`.

One image entry for each referred object: the same picture comes once for each of its objects, with that object alone
and the sentences that mean it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from partglee.basics.files import read_json
from partglee.data.prepare.pickles import load_plain_pickle

CATEGORIES = [{"id": 1, "name": "object", "level": "object"}]
_REF_KEYS = {"ref_id", "ann_id", "image_id", "split", "sentences"}


class ReferSet(NamedTuple):
    """One data set in its published form."""

    folder: str  # of the raw files
    by: str  # who split it
    splits: tuple[str, ...]
    name: str  # of the prepared folder, and of the registered data sets


REFER_SETS = (
    ReferSet("refcoco", "unc", ("train", "val", "testA", "testB"), "refcoco-unc"),
    ReferSet("refcoco+", "unc", ("train", "val", "testA", "testB"), "refcocoplus-unc"),
    ReferSet("refcocog", "umd", ("train", "val", "test"), "refcocog-umd"),
    ReferSet("refcocog", "google", ("train", "val"), "refcocog-google"),
)


def read_refer(raw: Path, which: ReferSet, *, train2017: bool = False) -> dict[str, dict[str, Any]]:
    """{split: COCO dict} of a raw folder with `refs(BY).p` and `instances.json`.

    Args:
        raw: folder of the set, for example `refer/refcoco`.
        which: the set.
        train2017: name the pictures as in COCO's train2017 (they are the same), relative to `coco/train2014`.

    Raises:
        ValueError: for missing or damaged files, a pickle that holds more than plain data, or refs whose annotation or
            image is not in `instances.json`.
    """
    path = raw / f"refs({which.by}).p"
    refs = load_plain_pickle(path)
    if not isinstance(refs, list) or not all(isinstance(ref, dict) and ref.keys() >= _REF_KEYS for ref in refs):
        raise ValueError(f"{path} must hold a list of dicts with {sorted(_REF_KEYS)}; download it again")
    content = read_json(raw / "instances.json", "REFER instances file")
    images = {entry["id"]: entry for entry in content["images"]}
    annotations = {entry["id"]: entry for entry in content["annotations"]}
    stray = [ref["ref_id"] for ref in refs if ref["ann_id"] not in annotations or ref["image_id"] not in images]
    if stray:
        raise ValueError(
            f"{len(stray)} of {len(refs)} refs of {path} (the first: ref_id {stray[0]}) mean an annotation or image "
            f"that {raw / 'instances.json'} does not have; take both files from one download"
        )
    made: dict[str, dict[str, Any]] = {}
    for split in which.splits:
        chosen = [ref for ref in refs if ref["split"] == split]
        made[split] = _to_coco(chosen, images, annotations, train2017=train2017)
        made[split]["info"] = {"description": f"{which.name} {split}"}
    return made


def _to_coco(
    refs: Sequence[Mapping[str, Any]],
    images: Mapping[int, Mapping[str, Any]],
    annotations: Mapping[int, Mapping[str, Any]],
    *,
    train2017: bool,
) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    objects: list[dict[str, Any]] = []
    for ref in refs:
        sentences = [" ".join(str(sentence["sent"]).split()) for sentence in ref["sentences"]]
        kept = [sentence for sentence in sentences if sentence]
        if not kept:
            continue
        # The file name of a ref ends with the annotation's id; that of the image is in the instances file.
        image, annotation = images[ref["image_id"]], annotations[ref["ann_id"]]
        name = str(image["file_name"])
        number = len(entries) + 1
        entries.append(
            {
                "id": number,
                "file_name": f"../train2017/{name.rsplit('_', 1)[-1]}" if train2017 else name,
                "height": image["height"],
                "width": image["width"],
                "expressions": kept,
                "original_id": image["id"],
                "ref_id": ref["ref_id"],
            }
        )
        objects.append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": annotation["bbox"],
                "area": annotation["area"],
                "iscrowd": 0,  # the sentences mean this very region
                "segmentation": annotation["segmentation"],
                "original_id": annotation["id"],
            }
        )
    return {"images": entries, "categories": CATEGORIES, "annotations": objects}
