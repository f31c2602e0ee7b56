"""Triples of image, mask and caption at one of two levels, one a row: the form of MRES-32M (arXiv 2312.08007), and of
what an annotation engine writes. JSON Lines (`.jsonl`) or Parquet (`.parquet`), with the same columns:

    {"image": "a.jpg", "mask": {"size": [60, 100], "counts": "..."}, "caption": "wheel of the red car", "level": "part"}

Beside these four, which are required: `height` and `width` of the image where the mask is polygons, `name` ("car",
"car:wheel"), `region_id` and `parent` (of a part: the `region_id` of its object in the same image, -1 unknown), and
`dropped`: a row where it says why is passed over. Other columns are not read, so the table of regions that
`partglee.annotate` writes is a file of triples. Rows of one image stand together. A row without a caption is annotated
and not spoken of. Equal captions of one level in one image are one expression that means all of their masks, as
RefCOCOm's do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import read_json_lines, whole_file
from partglee.basics.names import name_key
from partglee.data.annotations.values import text_of, whole
from partglee.data.segmentation import read_runs, run_length_fault

SUFFIXES = (".jsonl", ".parquet")
LEVELS = ("object", "part")
_REQUIRED = ("image", "mask", "caption", "level")
_BATCH = 4096  # rows of a Parquet file that are in memory together


def stream_triples(path: Path) -> Iterator[tuple[str, Any]]:
    """What `stream_lists` says of an annotation file, of a file of triples: (list, None) where a list begins, then its
    entries. Categories come last, and an image after its annotations.

    Raises:
        ValueError: for a file that is missing or cut off, and for a row that is no triple, with its number.
    """
    for key in ("images", "annotations", "categories"):
        yield key, None
    categories: dict[tuple[str, str], int] = {}
    done: set[str] = set()
    for name, rows in groupby(_rows(path), key=lambda pair: str(pair[1]["image"])):
        image: dict[str, Any] = {"id": len(done) + 1, "file_name": name, "expressions": []}
        again = name in done
        done.add(name)
        said: dict[tuple[str, str], list[int]] = {}
        ids: set[int] = set()
        for number, row in rows:
            try:
                if again:
                    raise ValueError("the image came before, and others since; sort the rows by image")
                entry = _annotation(row, number, image, categories)
                if entry["id"] in ids:
                    raise ValueError(f"region_id {row.get('region_id')} is that of another row of the image")
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise ValueError(f"row {number} of triples '{path}' (image {name!r:.60}): {error}") from error
            ids.add(entry["id"])
            yield "annotations", entry
            if caption := " ".join((row.get("caption") or "").split()):
                said.setdefault((row["level"], caption), []).append(entry["id"])
        image["expressions"] = [
            {"text": text, "objects": [], "parts": [], f"{level}s": targets} for (level, text), targets in said.items()
        ]
        yield "images", image
    for (level, name), number in categories.items():
        yield "categories", {"id": number, "name": name, "level": level}


def write_triples(rows: Iterable[Mapping[str, Any]], file: str | Path) -> int:
    """Write a file of triples, whole or not at all.

    Args:
        rows: as the reader takes them, those of one image together; compressed run lengths, or polygons.
        file: `.jsonl` or `.parquet`.

    Returns:
        How many rows there were.

    Raises:
        ValueError: for another kind of file, or Parquet without `pyarrow`.
    """
    path = Path(file)
    if path.suffix == ".parquet":
        return _write_parquet(rows, path)
    if path.suffix != ".jsonl":
        raise ValueError(f"triples are .jsonl or .parquet files, got '{path}'")
    count = 0
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(_plain(row), separators=(",", ":")) + "\n")
            count += 1
    return count


# -- rows --------------------------------------------------------------------------------------------------------------


def _rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(number from 1, row) with the required columns, none of them null but the caption."""
    number = 0
    for number, row in _parquet_rows(path) if path.suffix == ".parquet" else _json_rows(path):
        if not isinstance(row, Mapping) or (missing := [key for key in _REQUIRED if key not in row]):
            lacks = f"has no {' and no '.join(missing)}" if isinstance(row, Mapping) else "is no mapping"
            raise ValueError(f"row {number} of triples '{path}' {lacks}: {row!s:.80}; it needs {', '.join(_REQUIRED)}")
        if not row.get("dropped"):
            yield number, row
    if not number:
        raise ValueError(f"triples '{path}' hold no row")


def _json_rows(path: Path) -> Iterator[tuple[int, Any]]:
    return ((number, row) for number, _, row in read_json_lines(path, "triples"))


def _parquet_rows(path: Path) -> Iterator[tuple[int, Any]]:
    parquet = _pyarrow(path).parquet
    try:
        with parquet.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=_BATCH) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                caption = {"caption": row["caption"]} if "caption" in row else {}
                yield number, {key: value for key, value in row.items() if value is not None} | caption
    except (OSError, _pyarrow(path).ArrowException) as error:
        raise ValueError(f"triples '{path}' are not readable Parquet ({error}); get or write them again") from error


def _annotation(
    row: Mapping[str, Any], number: int, image: dict[str, Any], categories: dict[tuple[str, str], int]
) -> dict[str, Any]:
    """An entry of `annotations`; gives the image its size, which all of its rows agree on."""
    text_of(row["image"], "image")
    if row["level"] not in LEVELS:
        raise ValueError(f"level must be 'object' or 'part', got {row['level']!r:.40}")
    if row["caption"] is not None:
        text_of(row["caption"], "caption")
    segmentation, size = _mask(row)
    known = (image.setdefault("height", size[0]), image.setdefault("width", size[1]))
    if known != size:
        raise ValueError(f"its mask is of {size} (height, width), those of the rows before of {known}")
    own, above = row.get("region_id"), row.get("parent")
    entry: dict[str, Any] = {  # ids of annotations begin at 1, 0 is no link
        "id": number if own is None else whole(own, "region_id") + 1, "image_id": image["id"],
        "segmentation": segmentation, "category_id": categories.setdefault(_category(row), len(categories) + 1),
        "parent_id": 0 if above is None else whole(above, "parent") + 1,
    }  # fmt: skip
    if entry["id"] < 1 or entry["parent_id"] < 0:
        raise ValueError(f"region_id must be at least 0 and parent at least -1, got {own} and {above}")
    return entry


def _mask(row: Mapping[str, Any]) -> tuple[Any, tuple[int, int]]:
    """The mask, and (height, width) of the image."""
    segmentation = row["mask"]
    told = tuple(whole(row[key], key) for key in ("height", "width") if row.get(key) is not None)
    if isinstance(segmentation, Mapping):
        runs = read_runs(dict(segmentation))
        height, width = (int(side) for side in runs["size"])
        if told not in ((), (height, width)):
            raise ValueError(f"its mask is of {(height, width)} (height, width), the image of {told}")
        if fault := run_length_fault(segmentation):
            raise ValueError(fault)
        if not rle.area(runs):
            raise ValueError("its mask has no pixel")
        return segmentation, (height, width)
    if not isinstance(segmentation, Sequence) or isinstance(segmentation, str) or not segmentation:
        raise ValueError(f"mask must be run lengths (size, counts) or polygons, got {segmentation!r:.60}")
    if len(told) != 2:
        raise ValueError("polygons do not say how large their image is; give height and width")
    return segmentation, (told[0], told[1])


def _category(row: Mapping[str, Any]) -> tuple[str, str]:
    """(level, name as hierarchical COCO has it)."""
    level = str(row["level"])
    name = name_key(text_of(row.get("name") or level, "name"))
    return level, name if level == "object" or ":" in name.strip(":") else f"object:{name}"


# -- Parquet -----------------------------------------------------------------------------------------------------------


def _write_parquet(rows: Iterable[Mapping[str, Any]], path: Path) -> int:
    arrow = _pyarrow(path)
    whole_number, text = arrow.int64(), arrow.string()
    columns = {
        "image": text, "height": whole_number, "width": whole_number,
        "mask": arrow.struct({"size": arrow.list_(whole_number), "counts": text}),
        "caption": text, "level": text, "name": text, "region_id": whole_number, "parent": whole_number,
    }  # fmt: skip
    schema, count, batch = arrow.schema(columns), 0, []
    with whole_file(path) as beside, arrow.parquet.ParquetWriter(beside, schema) as writer:
        for count, row in enumerate(rows, start=1):
            if not isinstance(row["mask"], Mapping):
                raise ValueError(f"row {count}: Parquet holds run lengths; write polygons to a .jsonl file")
            batch.append({key: value for key, value in _plain(row).items() if key in columns})
            if len(batch) == _BATCH:
                writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
                batch = []
        writer.write_table(arrow.Table.from_pylist(batch, schema=schema))
    return count


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with compressed counts as text, which is what a file holds."""
    mask = row["mask"]
    if isinstance(mask, Mapping):
        counts = mask["counts"]
        size = [int(side) for side in mask["size"]]
        mask = {"size": size, "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
    return {**row, "mask": mask}


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ValueError(
            f"'{path}' is Parquet, which needs pyarrow: pip install 'partglee[annotate]'; or take a .jsonl file"
        ) from error
    return pyarrow
