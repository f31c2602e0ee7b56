"""Tables in Lance: a data set of its own for each table, `images.lance` and `regions.lance`, beside the shards' files.

Workers write fragments, as Lance's own distributed writers do; the file of a shard (`regions/000042.fragments`) names
them, so a shard's rows are there when its file is. The end of a run commits what finished shards name as a new version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from partglee.annotate.extras import lance
from partglee.basics.files import read_json

Fragment = dict[str, Any]  # JSON of Lance


def dataset_of(file: Path) -> Path:
    """Where the rows lie that a shard's file names."""
    return file.parent.with_name(f"{file.parent.name}.lance")


def write_fragments(content: Any, dataset: Path) -> list[Fragment]:
    """Write a pyarrow table beside the data set, without making it part of it; none for a table without rows."""
    if not content.num_rows:
        return []
    written = lance().fragment.write_fragments(content, str(dataset), schema=content.schema, mode="append")
    return [fragment.to_json() for fragment in written]


def read_fragments(fragments: Sequence[Fragment], dataset: Path) -> list[dict[str, Any]]:
    """Their rows, in order.

    Raises:
        ValueError: for a data file that is missing or damaged.
    """
    rows: list[dict[str, Any]] = []
    for path in _data_files(fragments, dataset):
        try:
            rows += lance().file.LanceFileReader(str(path)).read_all().to_table().to_pylist()
        except Exception as error:  # Lance raises ValueError, OSError and errors of Rust that are neither
            text = " ".join(str(error).split())
            raise ValueError(f"{path}: {text:.200}") from error
    return rows


def commit(files: Iterable[Path], dataset: Path, schema: Any) -> None:
    """Make what the shards' files name the newest version of the data set; nothing while there is no row."""
    module = lance()
    made = module.fragment.FragmentMetadata.from_json
    found = [made(json.dumps(entry)) for file in files for entry in read_json(file, "table")]
    if found:
        module.LanceDataset.commit(str(dataset), module.LanceOperation.Overwrite(schema, found))


def remove_loose(files: Iterable[Path], dataset: Path) -> None:
    """Remove data that no shard's file names, as a run that was killed leaves it."""
    folder = dataset / "data"
    if folder.is_dir():
        named = {path.name for file in files for path in _data_files(read_json(file, "table"), dataset)}
        for path in folder.iterdir():
            if path.name not in named:
                path.unlink(missing_ok=True)


def _data_files(fragments: Sequence[Fragment], dataset: Path) -> list[Path]:
    return [dataset / "data" / file["path"] for fragment in fragments for file in fragment["files"]]
