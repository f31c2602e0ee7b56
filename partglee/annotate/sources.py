"""Where images come from: files, COCO files and data sets by name, tars, SA-1B, tables. Listing costs no image; `load`
reads one, in the process that works on it.
"""

from __future__ import annotations

import glob
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partglee.annotate import source_tables, source_tars
from partglee.annotate.item import Item
from partglee.annotate.sample import Pixels, Region, Sample
from partglee.basics import patterns

DATASET = "dataset:"  # before the name of a registered data set
SA1B = "sa1b:"  # before a tar, a folder or a pattern of SA-1B's download
_REGIONS = ("region.name", "region.level", "region.box", "region.parent")


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input, to be listed."""

    columns: tuple[str, ...]  # that its images come with, beside their pixels
    items: Iterable[Item] = field(repr=False)


def open_source(inputs: str | Sequence[str], *, images: str | None = None, masks: bool = False) -> Source:
    """Everything that the inputs name, in order.

    Args:
        inputs: files, folders, globs; `annotations.json` (COCO's form); `dataset:NAME`; `*.tar` of WebDataset;
            `sa1b:PLACE`, a tar or folder of SA-1B with its masks; `*.parquet`, or folders of them, or `*.lance`, with a
            column `image` (bytes, or a path) and perhaps `image_id`.
        images: folder of the images of a COCO file; None = the file's own folder.
        masks: annotations bring their masks too, and one without is that image's failure.

    Raises:
        ValueError: for no inputs, or inputs of different kinds.
        FileNotFoundError: for an input that matches nothing.
    """
    named = [inputs] if isinstance(inputs, str) else list(inputs)
    if not named:
        raise ValueError("no input; name files, folders, a COCO file, tars, tables, or dataset:NAME")
    kinds = {_kind(entry) for entry in named}
    if len(kinds) > 1:
        raise ValueError(f"inputs of one job are of one kind, got {', '.join(sorted(kinds))}; run a job for each")
    kind = kinds.pop()
    if kind != "coco" and images is not None:
        raise ValueError(f"a folder of images goes with a COCO file, the input is {kind}")
    if kind == "coco":
        columns = (*_REGIONS, "region.mask") if masks else _REGIONS
        return Source(columns=columns, items=_annotated(named, images, masks))
    if masks:
        raise ValueError(f"masks=True (--masks) goes with a COCO file, the input is {kind}")
    if kind == "sa1b":
        places = [entry.removeprefix(SA1B) for entry in named]
        return Source(columns=source_tars.SA1B_COLUMNS, items=_listed(source_tars.of_sa1b, places))
    if kind == "tars":
        return Source(columns=(), items=_listed(source_tars.of_tars, named))
    if kind == "lance":
        return Source(columns=(), items=_listed(source_tables.of_lance, named))
    if kind == "tables":
        return Source(columns=(), items=_listed(source_tables.of_parquet, named, source_tables.PARQUET))
    return Source(columns=(), items=_of_files(named))


def _kind(entry: str) -> str:
    suffix = Path(entry).suffix.lower()
    if entry.startswith(DATASET) or suffix == ".json":
        return "coco"
    if entry.startswith(SA1B):
        return "sa1b"
    if suffix == ".tar":
        return "tars"
    if suffix == source_tables.LANCE:
        return "lance"
    if suffix in source_tables.PARQUET or (Path(entry).is_dir() and _with(Path(entry), source_tables.PARQUET)):
        return "tables"
    return "files"


def _with(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    return sorted(child for child in folder.iterdir() if child.suffix in suffixes)


def _of_files(named: Sequence[str]) -> Iterator[Item]:
    from partglee.data.images import list_images

    for entry in named:
        base = _fixed_folder(entry)
        for path in list_images(entry):
            name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.as_posix()
            yield Item(name, str(path), {"file": str(path.absolute())})


def _fixed_folder(entry: str) -> Path:
    """What all matches of a pattern lie in: ids are relative to it."""
    path = Path(entry).expanduser()
    if path.is_dir():
        return path
    while glob.has_magic(str(path)):
        path = path.parent
        if not glob.has_magic(str(path)):
            return path
    return path.parent


def _annotated(named: Sequence[str], images: str | None, masks: bool) -> Iterator[Item]:
    from partglee.data import DatasetSpec
    from partglee.data.annotations.coco_json import read_coco
    from partglee.data.catalog import get_dataset

    for entry in named:
        if entry.startswith(DATASET):
            spec = get_dataset(entry.removeprefix(DATASET))
        else:
            file = Path(entry).absolute()
            folder = Path(images).absolute() if images else file.parent
            spec = DatasetSpec(name=file.stem, annotations=str(file), images=str(folder), reader=read_coco)
        records = spec.read()
        names = records.vocabulary
        for row in range(len(records)):
            record = records[row]
            if record.pixels is not None:
                raise ValueError(f"{entry} draws its images as it goes; write them to files first")
            inside = record.file.is_relative_to(spec.image_root)
            name = record.file.relative_to(spec.image_root) if inside else record.file
            rows: dict[int, int] = {}
            regions: list[dict[str, Any]] = []
            for level, instances in (("object", record.objects), ("part", record.parts)):
                for number, one in enumerate(instances):
                    if one.crowd:
                        continue
                    if level == "object":
                        rows[number] = len(regions)
                    called = (names.object_names if level == "object" else names.part_names)[one.label]
                    region: dict[str, Any] = {"name": called, "level": level, "box": list(one.box)}
                    if level == "part":
                        region["parent"] = rows.get(one.parent, -1)
                    if masks:
                        region["mask"] = _json_mask(one.segmentation)
                    regions.append(region)
            yield Item(name.as_posix(), str(record.file), {"file": str(record.file), "regions": regions})


def _json_mask(segmentation: Any) -> Any:
    """A segmentation as JSON holds it: run lengths are read with counts as bytes."""
    if not isinstance(segmentation, Mapping):
        return [list(polygon) for polygon in segmentation or ()]
    counts = segmentation["counts"]
    return {**segmentation, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}


def _listed(
    list_them: Callable[[list[Path]], Iterator[Item]], named: Sequence[str], suffixes: Sequence[str] = ()
) -> Iterator[Item]:
    """Items of all places that are named; of a folder those with such a suffix where any are given."""
    places: list[Path] = []
    for path in _expanded(named):
        places += _with(path, suffixes) if suffixes and path.is_dir() else [path]
    yield from list_them(places)


def _expanded(named: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for entry in named:
        matches = patterns.matches(Path(entry).expanduser())
        if not matches:
            raise FileNotFoundError(f"'{entry}' matches no file; try it with ls, and quote it in a shell")
        files += [path for path in matches if path not in files]
    return files


# -- reading one -----------------------------------------------------------------------------------------------------


def load(item: Item, *, seed: int, keep_content: bool = False) -> Sample:
    """The image of an item, with what its annotations say.

    Args:
        seed: of the job; the sample's own follows from it and the image's id.
        keep_content: keep the bytes of its file as well.

    Raises:
        ValueError, OSError: for an image that cannot be read, or annotations that do not fit it.
    """
    digest = hashlib.blake2b(f"{seed}/{item.image_id}".encode(), digest_size=8).digest()
    sample = Sample(image_id=item.image_id, file=item.file, seed=int.from_bytes(digest, "big"))
    if "nothing" in item.how:  # a job without images, as benchmarks run
        sample.size = (1, 1)
        return sample
    if "fails" in item.how:
        raise ValueError(item.how["fails"])
    sample.image, content = _read(item.how)
    if keep_content:
        sample.content = Path(item.how["file"]).read_bytes() if content is None else content
    height, width = sample.image.shape[:2]
    sample.size = (int(height), int(width))
    sample.regions = [_region(entry, sample.size, n) for n, entry in enumerate(item.how.get("regions", ()))]
    if "sa1b" in item.how:
        sample.regions = source_tars.sa1b_regions(item.how["sa1b"], sample.size)
    return sample


def pixels_of(item: Item) -> Pixels:
    """Its image alone.

    Raises:
        ValueError, OSError: for one that cannot be read.
    """
    if "fails" in item.how or "nothing" in item.how:
        raise ValueError(f"{item.file} has no image")
    return _read(item.how)[0]


def _read(how: Mapping[str, Any]) -> tuple[Pixels, bytes | None]:
    """The image, and its file where that had to be read as a whole."""
    from partglee.data.images import read_image  # late, as it loads torch

    if "file" in how:
        return read_image(how["file"]), None
    content = (source_tars if "tar" in how else source_tables).content(how)
    return read_image(_opened(content)), content


def _opened(content: bytes) -> Any:
    from PIL import Image

    try:
        return Image.open(io.BytesIO(content))
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{len(content)} bytes are no image that Pillow can read ({error})") from error


def _region(entry: Mapping[str, Any], size: tuple[int, int], number: int) -> Region:
    x0, y0, x1, y1 = (float(value) for value in entry["box"])
    region = Region(name=entry["name"], level=entry["level"], parent=int(entry.get("parent", -1)), score=1.0)
    region.box = (x0, y0, x1, y1)
    if "mask" in entry:
        from partglee.basics.masks import encode_segmentation

        encoded = encode_segmentation(entry["mask"], size, what=f"annotation {number} ({entry['name']!r})")
        region.mask = {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
    return region
