"""Images in tars: WebDataset's, and SA-1B as it is downloaded, in tars or unpacked.

A tar is listed by its headers alone; a member is read where it lies, so that any worker can read any image.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from partglee.annotate.item import Item
from partglee.annotate.masks import box_of
from partglee.annotate.sample import Region

SA1B_COLUMNS = ("region.name", "region.level", "region.box", "region.score", "region.mask", "region.scores.stability")
_MOST_JSON = 64 << 20  # bytes; the largest of SA-1B have a few


def of_tars(files: Sequence[Path]) -> Iterator[Item]:
    """Every image, with the id TAR/MEMBER."""
    from partglee.data.images import IMAGE_SUFFIXES

    for path in files:
        for name, place in _members(path):
            if Path(name).suffix.lower() in IMAGE_SUFFIXES:
                yield Item(f"{path.stem}/{name}", f"{path}/{name}", place)


def of_sa1b(places: Sequence[Path]) -> Iterator[Item]:
    """Images with their `NAME.json`, of tars (one at a time in memory) or folders; an image or a JSON file that is
    alone comes too, and fails when it is read."""
    for path in places:
        if path.is_dir():
            files = sorted(p for p in path.iterdir() if p.suffix in (".jpg", ".json") and p.is_file())
            there = [(file.name, {"file": str(file.absolute())}) for file in files]
        else:
            there = [entry for entry in _members(path) if entry[0].endswith((".jpg", ".json"))]
        pairs: dict[str, dict[str, dict[str, Any]]] = {}
        for name, place in there:
            stem, suffix = posixpath.splitext(posixpath.basename(name))
            pairs.setdefault(stem, {})[suffix] = place
        if not pairs:
            raise ValueError(f"{path} holds no images of SA-1B (sa_1.jpg with sa_1.json)")
        for stem, pair in pairs.items():
            file = f"{path}/{stem}.jpg"
            if ".jpg" in pair and ".json" in pair:
                yield Item(f"{path.stem}/{stem}.jpg", file, {**pair[".jpg"], "sa1b": pair[".json"]})
            else:
                missing = ".json" if ".jpg" in pair else ".jpg"
                yield Item(f"{path.stem}/{stem}.jpg", file, {"fails": f"{stem}{missing} is not beside it"})


def content(place: Mapping[str, Any]) -> bytes:
    """Of a file, or of a member of a tar.

    Raises:
        ValueError: when the tar has become shorter.
    """
    if "file" in place:
        return Path(place["file"]).read_bytes()
    with open(place["tar"], "rb") as stream:
        stream.seek(place["at"])
        found = stream.read(place["bytes"])
    if len(found) < place["bytes"]:
        raise ValueError(f"{place['tar']} ends within the image; it was cut off after it was listed")
    return found


def sa1b_regions(place: Mapping[str, Any], size: tuple[int, int]) -> list[Region]:
    """The masks of an annotation file, all of them objects until a stage sorts them.

    Args:
        size: (height, width) of the image.

    Raises:
        ValueError: for a file that is not as SA-1B's are, or of an image of another size.
    """
    from partglee.data.prepare.sa1b import masks_of

    if place.get("bytes", 0) > _MOST_JSON:
        raise ValueError(f"its annotations have {place['bytes']} bytes, more than SA-1B's files have")
    found = masks_of(content(place))
    if isinstance(found, str):
        raise ValueError(f"its annotations: {found}")
    entry, masks = found
    if (entry["height"], entry["width"]) != size:
        raise ValueError(f"its annotations are of {entry['height']} x {entry['width']} pixels, it has {size}")
    regions = []
    for one in masks:
        mask = {"size": [int(side) for side in one["segmentation"]["size"]], "counts": one["segmentation"]["counts"]}
        region = Region(name="object", mask=mask, box=box_of(mask), score=float(one.get("predicted_iou", 1.0)))
        region.scores["stability"] = float(one.get("stability_score", 1.0))
        regions.append(region)
    return regions


def _members(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, how to read it) of each file of a tar."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile():
                    name = posixpath.normpath(f"/{member.name}").lstrip("/")  # within the tar, whatever ".." it has
                    yield name, {"tar": str(path.absolute()), "at": member.offset_data, "bytes": member.size}
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{path} is no tar, or is cut off ({error}); uncompressed tars are read") from error
