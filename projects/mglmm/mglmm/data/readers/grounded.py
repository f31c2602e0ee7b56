"""Captions whose phrases have masks: GranDf's four sub-sets, and MGSCData. Each file -> checked records."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mglmm.data.make import union
from mglmm.data.marked import Span
from mglmm.data.readers.common import entries_of, naming
from mglmm.data.record import Record, RegionMask, Said
from partglee.basics.files import read_json
from partglee.data.images import image_size

_KEY = re.compile(r"<([^<>/]+)>(.*?)</\1>", re.DOTALL)


def read_grandf(file: str | Path) -> list[Record]:
    """`GranDf_HA_GCG_*.json`, `OpenPsgGCG_*.json`: a list of {file_name, caption, groundings {phrase: {token_positives
    [start, end] in characters, rle_masks}}}."""
    records = []
    for number, entry in enumerate(entries_of(file, list)):
        with naming(file, number, entry.get("file_name")):
            found = []
            for phrase, ground in entry["groundings"].items():
                shapes = ground["rle_masks"]
                if shapes:
                    size = _size(shapes[0])
                    found.append(
                        (_place(ground.get("token_positives"), entry["caption"], phrase), phrase, shapes, size)
                    )
            records.append(_grounded(f"{Path(file).stem}/{number}", entry["file_name"], entry["caption"], found))
    return [record for record in records if record is not None]


def read_refcocog_gcg(file: str | Path, images: str | Path) -> list[Record]:
    """`RefCOCOg_GCG_*.json`: a dict id -> {img_file_name, caption, refs [{sentence, segmentation}]}. The size of an
    image is read from it where masks are polygons."""
    records = []
    for key, entry in _mapping(file).items():
        with naming(file, key, entry.get("img_file_name")):
            shapes = [ref["segmentation"] for ref in entry["refs"]]
            size = next((_size(one) for one in shapes if isinstance(one, Mapping)), None)
            size = size or image_size(Path(images) / entry["img_file_name"])
            found = [
                (_place(None, entry["caption"], ref["sentence"]), ref["sentence"], [ref["segmentation"]], size)
                for ref in entry["refs"]
            ]
            records.append(_grounded(f"{Path(file).stem}/{key}", entry["img_file_name"], entry["caption"], found))
    return [record for record in records if record is not None]


def read_flickr_gcg(file: str | Path) -> list[Record]:
    """`flickr_mergedGT_GCG_*.json`: COCO's form, `caption` on the image, `tokens_positive` and `sam_mask` on its
    annotations."""
    content = _mapping(file)
    of_image: dict[Any, list[Mapping[str, Any]]] = {}
    for entry in content["annotations"]:
        of_image.setdefault(entry["image_id"], []).append(entry)
    records = []
    for image in content["images"]:
        with naming(file, image.get("id"), image.get("file_name")):
            caption, size = image["caption"], (int(image["height"]), int(image["width"]))
            phrases: dict[tuple[int, int], list[Any]] = {}
            for entry in of_image.get(image["id"], ()):
                for start, end in entry["tokens_positive"]:
                    phrases.setdefault((int(start), int(end)), []).append(entry["sam_mask"])
            found = [(place, caption[slice(*place)], shapes, size) for place, shapes in phrases.items()]
            records.append(_grounded(f"{Path(file).stem}/{image['id']}", image["file_name"], caption, found))
    return [record for record in records if record is not None]


def read_gcg_truth(captions: str | Path, masks: str | Path) -> list[Record]:
    """`{val,test}_gcg_coco_caption_gt.json` (COCO captions with `labels`) and `..._mask_gt.json` (COCO, one category):
    an image's masks belong to its labels in order. Image ids are file names without their end.

    Raises:
        ValueError: for an image with another number of masks than of labels.
    """
    shapes: dict[Any, list[Any]] = {}
    for entry in _mapping(masks)["annotations"]:
        shapes.setdefault(entry["image_id"], []).append(entry["segmentation"])
    records = []
    for number, entry in enumerate(_mapping(captions)["annotations"]):
        with naming(captions, number, entry.get("image_id")):
            own, labels = shapes.get(entry["image_id"], []), [str(label) for label in entry["labels"]]
            if len(own) != len(labels):
                raise ValueError(f"{len(labels)} labels, but {len(own)} masks in '{masks}'")
            caption = entry["caption"]
            found = [
                (_place(None, caption, label), label, [shape], _size(shape))
                for label, shape in zip(labels, own, strict=True)
            ]
            name = f"{Path(captions).stem.partition('_')[0]}_gcg/{entry['image_id']}"
            records.append(_grounded(name, f"{entry['image_id']}.jpg", caption, found))
    return [record for record in records if record is not None]


def read_mgsc(files: str | Path | Iterable[str | Path], names: Sequence[str] | None = None) -> list[Record]:
    """MGSCData, as its loader expects it (the data themselves are not released): each file a list of {file_name, type,
    label "root" or "subtree:NAME", gcg_caption with <key>...</key>, gcg_labels, and {label, mask} under each key},
    masks as JSON text of run lengths.

    Args:
        files: JSON files, or their folder.
        names: of files that belong to a split (`MGLMM_train_split.txt`); None = all.
    """
    folder = Path(files) if isinstance(files, (str, Path)) else None
    paths = sorted(folder.glob("*.json")) if folder and folder.is_dir() else [Path(one) for one in _several(files)]
    records = []
    for path in paths:
        if names is not None and path.name not in names and path.stem not in names:
            continue
        for number, entry in enumerate(entries_of(path, list)):
            with naming(path, number, entry.get("file_name")):
                records.append(_mgsc(entry, f"{path.stem}_{number}"))
    return records


def _mgsc(entry: Mapping[str, Any], name: str) -> Record:
    text, last, size = "", 0, (0, 0)
    spans: list[Span] = []
    masks: list[RegionMask] = []
    caption = entry["gcg_caption"]
    for match in _KEY.finditer(caption):
        key, phrase = match.group(1), match.group(2).strip()
        shape = json.loads(entry[key]["mask"])
        size = _size(shape)
        text += caption[last : match.start()]
        spans.append(Span(len(text), len(text) + len(phrase), len(masks)))
        text += phrase
        masks.append(RegionMask(shape, str(entry[key]["label"])))
        last = match.end()
    if lost := [key for key in entry["gcg_labels"] if key not in {match.group(1) for match in _KEY.finditer(caption)}]:
        raise ValueError(f"gcg_labels name {lost[0]!r}, which the caption does not")
    label = str(entry["label"])
    root = label == "root"
    about = label.partition(":")[2].strip()
    return Record(
        name=name, image=entry["file_name"], size=size, task="mgsc_root" if root else "mgsc_subtree",
        turns=(Said("user", wording="mgsc_root" if root else "mgsc_subtree", about=about),
               Said("assistant", text + caption[last:], tuple(spans))),
        masks=tuple(masks),
    ).check()  # fmt: skip


def _grounded(
    name: str, image: str, caption: str, found: Sequence[tuple[tuple[int, int] | None, str, Sequence[Any], Any]]
) -> Record | None:
    """A record of the phrases that stand in the caption; of two over each other the first stays."""
    kept: list[tuple[int, int, Any, str]] = []
    for place, phrase, shapes, size in sorted(
        (one for one in found if one[0] is not None), key=lambda one: one[0] or ()
    ):
        assert place is not None
        if not kept or place[0] >= kept[-1][1]:
            kept.append((*place, union(shapes, size, f"phrase {phrase!r}"), phrase))
    if not kept:
        return None
    size = _size(kept[0][2])
    return Record(
        name=name, image=image, size=size, task="gcg",
        turns=(
            Said("user", wording="gcg"),
            Said("assistant", caption, tuple(Span(start, end, row) for row, (start, end, _, _) in enumerate(kept))),
        ),
        masks=tuple(RegionMask(shape, phrase) for _, _, shape, phrase in kept),
    ).check()  # fmt: skip


def _place(positions: Any, caption: str, phrase: str) -> tuple[int, int] | None:
    """Where a phrase stands: as the file says, or else where it is found."""
    if positions:
        start, end = (int(value) for value in positions)
        return start, end
    start = caption.lower().find(phrase.lower())
    return (start, start + len(phrase)) if start >= 0 and phrase else None


def _size(shape: Mapping[str, Any]) -> tuple[int, int]:
    height, width = shape["size"]
    return int(height), int(width)


def _mapping(file: str | Path) -> Mapping[str, Any]:
    content = read_json(file, "annotation file")
    if not isinstance(content, Mapping):
        raise ValueError(f"annotation file '{file}' must be an object, got {type(content).__name__}")
    return content


def _several(files: Any) -> Iterable[str | Path]:
    return [files] if isinstance(files, (str, Path)) else files
