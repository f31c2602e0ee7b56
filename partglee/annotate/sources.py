"""Where images come from: files, COCO files and data sets by name, tars, tables. Listing costs no image; `load` reads
one, in the process that works on it.
"""

from __future__ import annotations

import glob
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from partglee.annotate.extras import pyarrow_parquet
from partglee.annotate.sample import Region, Sample

DATASET = "dataset:"  # before the name of a registered data set
_TABLE = (".parquet", ".pq")
_REGIONS = ("region.name", "region.level", "region.box", "region.parent")


class Item(NamedTuple):
    """One image of the input list: its id, what a person calls it, and how to read it."""

    image_id: str
    file: str
    how: dict[str, Any]  # JSON


@dataclass(frozen=True, kw_only=True)
class Source:
    """An input, to be listed."""

    columns: tuple[str, ...]  # that its images come with, beside their pixels
    items: Iterable[Item] = field(repr=False)


def open_source(inputs: str | Sequence[str], *, images: str | None = None, masks: bool = False) -> Source:
    """Everything that the inputs name, in order.

    Args:
        inputs: files, folders, globs; `annotations.json` (COCO's form); `dataset:NAME`; `*.tar` of WebDataset;
            `*.parquet`, or folders of them, with a column `image` (bytes, or a path) and perhaps `image_id`.
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
    if kind == "tars":
        return Source(columns=(), items=_of_tars(named))
    if kind == "tables":
        return Source(columns=(), items=_of_tables(named))
    return Source(columns=(), items=_of_files(named))


def _kind(entry: str) -> str:
    suffix = Path(entry).suffix.lower()
    if entry.startswith(DATASET) or suffix == ".json":
        return "coco"
    if suffix == ".tar":
        return "tars"
    if suffix in _TABLE or (Path(entry).is_dir() and any(child.suffix in _TABLE for child in Path(entry).iterdir())):
        return "tables"
    return "files"


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
                        region["mask"] = dict(one.segmentation) if isinstance(one.segmentation, Mapping) else (
                            [list(polygon) for polygon in one.segmentation or ()]
                        )  # fmt: skip
                    regions.append(region)
            yield Item(name.as_posix(), str(record.file), {"file": str(record.file), "regions": regions})


def _of_tars(named: Sequence[str]) -> Iterator[Item]:
    from partglee.data.images import IMAGE_SUFFIXES

    for path in _expanded(named):
        try:
            with tarfile.open(path, "r:") as tar:
                for member in tar:
                    if member.isfile() and Path(member.name).suffix.lower() in IMAGE_SUFFIXES:
                        how = {"tar": str(path.absolute()), "at": member.offset_data, "bytes": member.size}
                        yield Item(f"{path.stem}/{member.name}", f"{path}/{member.name}", how)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"{path} is no tar, or is cut off ({error}); uncompressed tars are read") from error


def _of_tables(named: Sequence[str]) -> Iterator[Item]:
    parquet = pyarrow_parquet()
    files: list[Path] = []
    for entry in named:
        path = Path(entry)
        files += sorted(p for p in path.iterdir() if p.suffix in _TABLE) if path.is_dir() else _expanded([entry])
    for path in files:
        table = parquet.ParquetFile(path)
        names = table.schema_arrow.names
        if "image" not in names:
            raise ValueError(f"{path} has no column `image` (bytes, {{bytes, path}} or a path); it has {names}")
        row = 0
        for group in range(table.num_row_groups):
            ids = _ids(table, group, names)
            for place, image_id in enumerate(ids or range(row, row + table.metadata.row_group(group).num_rows)):
                name = str(image_id) if ids else f"{path.stem}/{image_id}"
                yield Item(name, f"{path}:{row}", {"table": str(path.absolute()), "group": group, "row": place})
                row += 1


def _ids(table: Any, group: int, names: Sequence[str]) -> list[Any] | None:
    if "image_id" not in names:
        return None
    ids: list[Any] = table.read_row_group(group, columns=["image_id"]).column(0).to_pylist()
    return ids


def _expanded(named: Sequence[str]) -> list[Path]:
    files: list[Path] = []
    for entry in named:
        matches = sorted(map(Path, glob.glob(str(Path(entry).expanduser()), recursive=True)))
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
    from partglee.data.images import read_image  # late, as it loads torch

    content = _content(item.how)
    sample.content = content if keep_content else None
    if isinstance(content, bytes):
        sample.image = read_image(_opened(content))
    else:
        sample.image = read_image(item.how["file"])
        sample.content = Path(item.how["file"]).read_bytes() if keep_content else None
    height, width = sample.image.shape[:2]
    sample.size = (int(height), int(width))
    sample.regions = [_region(entry, sample.size, n) for n, entry in enumerate(item.how.get("regions", ()))]
    return sample


def _content(how: Mapping[str, Any]) -> bytes | None:
    if "tar" in how:
        with open(how["tar"], "rb") as stream:
            stream.seek(how["at"])
            return stream.read(how["bytes"])
    if "table" in how:
        value = _row_group(how["table"], how["group"]).column(0)[how["row"]].as_py()
        if isinstance(value, Mapping):
            value = value.get("bytes") or value.get("path")
        return value if isinstance(value, bytes) else Path(str(value)).read_bytes()
    return None


_last_group: dict[tuple[str, int], Any] = {}  # rows of one group are asked for one after the other


def _row_group(file: str, group: int) -> Any:
    if (file, group) not in _last_group:
        _last_group.clear()
        _last_group[file, group] = pyarrow_parquet().ParquetFile(file).read_row_group(group, columns=["image"])
    return _last_group[file, group]


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
