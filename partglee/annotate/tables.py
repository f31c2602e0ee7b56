"""What a job leaves behind: a table of images and a table of regions, a file of each for every shard.

The schema is the catalogue's contract; `docs/annotate.md` says it in words. Of Lance the file of a shard names the
fragments that hold its rows, see `partglee.annotate.lance_tables`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from partglee.annotate.extras import pyarrow, pyarrow_parquet
from partglee.annotate.lance_tables import dataset_of, read_fragments, write_fragments
from partglee.annotate.sample import Description, Region, Sample
from partglee.basics.files import read_json, read_json_lines, whole_file

IMAGES, REGIONS = "images", "regions"
FORMS = {"parquet": ".parquet", "jsonl": ".jsonl", "lance": ".fragments"}  # of tables -> suffix of a shard's file
Row = dict[str, Any]


def image_row(sample: Sample) -> Row:
    """One image."""
    height, width = sample.size or (0, 0)
    return {
        "image_id": sample.image_id, "image": sample.file, "height": height, "width": width,
        "num_regions": len(sample.regions), "num_kept": sum(not region.dropped for region in sample.regions),
        "vocabulary": json.dumps(sample.vocabulary, sort_keys=True) if sample.vocabulary is not None else None,
        "descriptions": [
            {"node": one.node, "text": one.text, "regions": list(one.regions)} for one in sample.descriptions
        ],
        "extra": json.dumps(sample.extra, sort_keys=True) if sample.extra else None,
    }  # fmt: skip


def region_rows(sample: Sample) -> Iterator[Row]:
    """Its regions, dropped ones too: `dropped` says why, "" for those that count."""
    height, width = sample.size or (0, 0)
    for number, region in enumerate(sample.regions):
        yield {
            "image_id": sample.image_id, "image": sample.file, "height": height, "width": width, "region_id": number,
            "level": region.level, "parent": region.parent, "name": region.name,
            "box": [float(value) for value in region.box] if region.box is not None else None,
            "mask": {"size": list(region.mask["size"]), "counts": region.mask["counts"]} if region.mask else None,
            "score": region.score, "caption": region.caption,
            "scores": [{"name": name, "value": float(value)} for name, value in sorted(region.scores.items())],
            "dropped": region.dropped, "provenance": list(region.stages),
            "extra": json.dumps(region.extra, sort_keys=True) if region.extra else None,
        }  # fmt: skip


def sample_of(image: Mapping[str, Any], regions: Sequence[Mapping[str, Any]]) -> Sample:
    """Rows back to the sample they came from, without its pixels."""
    sample = Sample(image_id=image["image_id"], file=image["image"], size=(image["height"], image["width"]))
    if image["vocabulary"] is not None:
        sample.vocabulary = {name: tuple(parts) for name, parts in json.loads(image["vocabulary"]).items()}
    for entry in image["descriptions"]:
        sample.descriptions.append(Description(node=entry["node"], text=entry["text"], regions=tuple(entry["regions"])))
    sample.extra = json.loads(image["extra"]) if image["extra"] else {}
    for row in regions:
        box = row["box"]
        sample.regions.append(
            Region(
                name=row["name"], level=row["level"], parent=row["parent"], score=row["score"], mask=row["mask"],
                box=(box[0], box[1], box[2], box[3]) if box is not None else None, caption=row["caption"],
                scores={entry["name"]: entry["value"] for entry in row["scores"]}, dropped=row["dropped"],
                stages=list(row["provenance"]), extra=json.loads(row["extra"]) if row["extra"] else {},
            )
        )  # fmt: skip
    return sample


# -- files -----------------------------------------------------------------------------------------------------------


def write_table(rows: Sequence[Row], file: Path, table: str) -> None:
    """Write rows of the table `images` or `regions`, whole, in the form that the suffix says."""
    with whole_file(file) as beside:
        if file.suffix == FORMS["lance"]:
            content = pyarrow().Table.from_pylist(list(rows), schema=schema_of(table))
            beside.write_text(json.dumps(write_fragments(content, dataset_of(file))), encoding="utf-8")
        elif file.suffix == FORMS["jsonl"]:
            with beside.open("w", encoding="utf-8") as stream:
                for row in rows:
                    stream.write(json.dumps(row, separators=(",", ":")) + "\n")
        else:
            content = pyarrow().Table.from_pylist(list(rows), schema=schema_of(table))
            pyarrow_parquet().write_table(content, beside, compression="zstd")


def read_table(file: Path) -> list[Row]:
    """The rows of one file of a finished shard.

    Raises:
        ValueError: for a damaged or missing one.
    """
    columns = _COLUMNS.get(file.parent.name, ())
    try:
        rows = _rows(file)
        if lacking := next((key for row in rows for key in columns if key not in row), None):
            raise ValueError(f"a row without {lacking}")
    except (OSError, ValueError, TypeError) as error:  # pyarrow's errors are among them
        told = f"table {file} cannot be read ({error}); remove its shard's file in shards/, and run again"
        raise ValueError(told) from error
    return rows


def _rows(file: Path) -> list[Row]:
    if file.suffix == FORMS["jsonl"]:
        return [row for _, _, row in read_json_lines(file, "table")]
    if file.suffix == FORMS["lance"]:
        return read_fragments(read_json(file, "table"), dataset_of(file))
    rows: list[Row] = pyarrow_parquet().read_table(file, partitioning=None).to_pylist()
    return rows


_COLUMNS = {
    IMAGES: ("image_id", "image", "height", "width", "vocabulary", "descriptions", "extra"),
    REGIONS: ("image_id", "level", "parent", "name", "box", "mask", "score", "caption", "scores", "dropped",
              "provenance", "extra"),
}  # fmt: skip


def schema_of(table: str) -> Any:
    """The columns of the table `images` or `regions` as pyarrow has them."""
    pa = pyarrow()
    image = [("image_id", pa.string()), ("image", pa.string()), ("height", pa.int32()), ("width", pa.int32())]
    if table == IMAGES:
        description = pa.struct([("node", pa.int32()), ("text", pa.string()), ("regions", pa.list_(pa.int32()))])
        return pa.schema(
            [*image, ("num_regions", pa.int32()), ("num_kept", pa.int32()), ("vocabulary", pa.string()),
             ("descriptions", pa.list_(description)), ("extra", pa.string())]
        )  # fmt: skip
    mask = pa.struct([("size", pa.list_(pa.int32())), ("counts", pa.string())])
    score = pa.struct([("name", pa.string()), ("value", pa.float64())])
    return pa.schema(
        [*image, ("region_id", pa.int32()), ("level", pa.string()), ("parent", pa.int32()), ("name", pa.string()),
         ("box", pa.list_(pa.float64())), ("mask", mask), ("score", pa.float64()), ("caption", pa.string()),
         ("scores", pa.list_(score)), ("dropped", pa.string()), ("provenance", pa.list_(pa.string())),
         ("extra", pa.string())]
    )  # fmt: skip
