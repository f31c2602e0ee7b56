"""Captions whose phrases have masks: GranDf's four sub-sets, and MGSCData. Each file -> checked records."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mglmm.data import values
from mglmm.data.make import union
from mglmm.data.marked import Span
from mglmm.data.readers.common import entries_of, image_size_of, naming, objects_of
from mglmm.data.record import Record, RegionMask, Said
from partglee.basics.files import read_json
from partglee.data.images import image_size

_KEY = re.compile(r"<([^<>/]+)>(.*?)</\1>", re.DOTALL)
_TAG = re.compile(r"</?[^<>/\s][^<>/]*>")


class Phrase(NamedTuple):
    """A phrase that has masks."""

    text: str
    place: tuple[int, int] | None  # characters of the caption; None: the file does not say
    shapes: Sequence[Any]  # segmentations, united


def read_grandf(file: str | Path) -> list[Record]:
    """`GranDf_HA_GCG_*.json`, `OpenPsgGCG_*.json`: a list of {file_name, caption, groundings {phrase: {token_positives
    [start, end] in characters, rle_masks}}}."""
    records = []
    for number, entry in enumerate(entries_of(file, list)):
        with naming(file, number, entry.get("file_name")):
            found = [
                Phrase(phrase, _ends(said) if (said := ground.get("token_positives")) else None, ground["rle_masks"])
                for phrase, ground in entry["groundings"].items()
                if ground["rle_masks"]
            ]
            records.append(_grounded(f"{Path(file).stem}/{number}", entry["file_name"], entry["caption"], found))
    return [record for record in records if record is not None]


def read_refcocog_gcg(file: str | Path, images: str | Path) -> list[Record]:
    """`RefCOCOg_GCG_*.json`: a dict id -> {img_file_name, caption, refs [{sentence, segmentation}]}. The size of an
    image is read from it where masks are polygons."""
    records = []
    for key, entry in _mapping(file).items():
        with naming(file, key, entry.get("img_file_name") if isinstance(entry, Mapping) else None):
            found = [
                Phrase(values.text(ref["sentence"], "sentence"), None, [ref["segmentation"]]) for ref in entry["refs"]
            ]
            size = None
            if not any(isinstance(one.shapes[0], Mapping) for one in found):
                size = image_size(Path(images) / entry["img_file_name"])
            name = f"{Path(file).stem}/{key}"
            records.append(_grounded(name, entry["img_file_name"], entry["caption"], found, size=size))
    return [record for record in records if record is not None]


def read_flickr_gcg(file: str | Path) -> list[Record]:
    """`flickr_mergedGT_GCG_*.json`: COCO's form, `caption` on the image, `tokens_positive` and `sam_mask` on its
    annotations."""
    content = _mapping(file)
    of_image = _by_image(objects_of(content, "annotations", file), file)
    records = []
    for image in objects_of(content, "images", file):
        with naming(file, image.get("id"), image.get("file_name")):
            caption, size = image["caption"], image_size_of(image)
            phrases: dict[tuple[int, int], list[Any]] = {}
            for entry in of_image.get(image["id"], ()):
                for positions in entry["tokens_positive"]:
                    phrases.setdefault(_ends(positions), []).append(entry["sam_mask"])
            found = [Phrase(caption[slice(*place)], place, shapes) for place, shapes in phrases.items()]
            name = f"{Path(file).stem}/{image['id']}"
            records.append(_grounded(name, image["file_name"], caption, found, size=size))
    return [record for record in records if record is not None]


def read_gcg_truth(captions: str | Path, masks: str | Path) -> list[Record]:
    """`{val,test}_gcg_coco_caption_gt.json` (COCO captions with `labels`) and `..._mask_gt.json` (COCO, one category):
    an image's masks belong to its labels in order. Image ids are file names without their end. Labels that have no
    place of their own in the caption keep their masks, which no phrase announces; a second caption of an image is
    SPLIT_gcg/IMAGE/1.

    Raises:
        ValueError: for an image with another number of masks than of labels.
    """
    shapes = _by_image(objects_of(_mapping(masks), "annotations", masks), masks)
    records = []
    seen = Counter[str]()
    for number, entry in enumerate(objects_of(_mapping(captions), "annotations", captions)):
        with naming(captions, number, entry.get("image_id")):
            own = [one["segmentation"] for one in shapes.get(entry["image_id"], ())]
            labels = [values.text(label, "a label") for label in values.several(entry["labels"], "labels")]
            if len(own) != len(labels):
                raise ValueError(f"{len(labels)} labels, but {len(own)} masks in '{masks}'")
            found = [Phrase(label, None, [shape]) for label, shape in zip(labels, own, strict=True)]
            name = f"{Path(captions).stem.partition('_')[0]}_gcg/{entry['image_id']}"
            again = f"/{seen[name]}" if seen[name] else ""
            seen[name] += 1
            image = f"{entry['image_id']}.jpg"
            records.append(_grounded(f"{name}{again}", image, entry["caption"], found, every=True))
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
        masks.append(RegionMask(shape, values.text(entry[key]["label"], f"label of {key!r}")))
        last = match.end()
    text += caption[last:]
    if tag := _TAG.search(text):
        raise ValueError(f"the caption has {tag.group()} that is not closed, opened, or stands inside another")
    if not masks:
        raise ValueError("the caption announces nothing: expected <key>phrase</key>")
    if lost := [key for key in entry["gcg_labels"] if key not in {match.group(1) for match in _KEY.finditer(caption)}]:
        raise ValueError(f"gcg_labels name {lost[0]!r}, which the caption does not")
    label = values.text(entry["label"], "label")
    root = label == "root"
    about = label.partition(":")[2].strip()
    return Record(
        name=name, image=entry["file_name"], size=size, task="mgsc_root" if root else "mgsc_subtree",
        turns=(Said("user", wording="mgsc_root" if root else "mgsc_subtree", about=about),
               Said("assistant", text, tuple(spans))),
        masks=tuple(masks),
    ).check()  # fmt: skip


def _grounded(
    name: str,
    image: str,
    caption: str,
    found: Sequence[Phrase],
    *,
    size: tuple[int, int] | None = None,
    every: bool = False,
) -> Record | None:
    """A record of the phrases that stand in the caption.

    Args:
        size: of the image; None: that of the first run lengths.
        every: the other phrases keep their masks too, which no span means: an evaluation must count them.
    """
    values.text(caption, "caption")
    size = size or next((_size(shape) for one in found for shape in one.shapes if isinstance(shape, Mapping)), None)
    places = _placed(caption, found)
    kept = sorted(places, key=lambda row: places[row])
    rows = [*kept, *(row for row in range(len(found)) if every and row not in places)]
    if not rows or size is None:
        return None
    spans = tuple(Span(*places[row], mask) for mask, row in enumerate(kept))
    masks = [RegionMask(union(found[row].shapes, size, f"phrase {found[row].text!r}"), found[row].text) for row in rows]
    return Record(
        name=name, image=image, size=size, task="gcg",
        turns=(Said("user", wording="gcg"), Said("assistant", caption, spans)), masks=tuple(masks),
    ).check()  # fmt: skip


def _placed(caption: str, found: Sequence[Phrase]) -> dict[int, tuple[int, int]]:
    """Row -> where the phrase stands: as the file says, of two over each other the first, or else where its words are
    found. Long phrases take their places before short ones that may be words of them, and phrases that come twice one
    place after the other; one without a free place is left out."""
    places: dict[int, tuple[int, int]] = {}

    def is_free(place: tuple[int, int]) -> bool:
        return all(place[1] <= start or end <= place[0] for start, end in places.values())

    said = [(place, row) for row, one in enumerate(found) if (place := one.place) is not None]
    for place, row in sorted(said):
        if is_free(place):
            places[row] = place
    for row in sorted(range(len(found)), key=lambda row: -len(found[row].text)):
        words = found[row].text.strip()
        if found[row].place is None and words:
            matches = re.finditer(rf"(?<!\w){re.escape(words)}(?!\w)", caption, re.IGNORECASE)
            free = next((match.span() for match in matches if is_free(match.span())), None)
            if free is not None:
                places[row] = free
    return places


def _ends(positions: Any) -> tuple[int, int]:
    start, end = (values.whole(value, "each position of a phrase") for value in values.several(positions, "positions"))
    return start, end


def _by_image(entries: Iterable[Mapping[str, Any]], file: str | Path) -> dict[Any, list[Mapping[str, Any]]]:
    """Annotations of each image."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for number, entry in enumerate(entries):
        with naming(file, number, entry.get("image_id")):
            found.setdefault(entry["image_id"], []).append(entry)
    return found


def _size(shape: Mapping[str, Any]) -> tuple[int, int]:
    return values.size(shape["size"], "size of a mask")


def _mapping(file: str | Path) -> Mapping[str, Any]:
    content = read_json(file, "annotation file")
    if not isinstance(content, Mapping):
        raise ValueError(f"annotation file '{file}' must be an object, got {type(content).__name__}")
    return content


def _several(files: Any) -> Iterable[str | Path]:
    return [files] if isinstance(files, (str, Path)) else files
