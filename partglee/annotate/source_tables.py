"""Images in tables: Parquet files, and data sets of Lance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from partglee.annotate.extras import lance, pyarrow_parquet
from partglee.annotate.item import Item

PARQUET = (".parquet", ".pq")
LANCE = ".lance"
_IDS_AT_ONCE = 8192


def of_parquet(files: Sequence[Path]) -> Iterator[Item]:
    """Every row; ids of a column `image_id`, else FILE/ROW."""
    parquet = pyarrow_parquet()
    for path in files:
        try:
            table = parquet.ParquetFile(path)
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            raise ValueError(f"{path} is no Parquet file, or is cut off ({error}); write or copy it again") from error
        names = table.schema_arrow.names
        _check_columns(path, names)
        row = 0
        for group in range(table.num_row_groups):
            ids = table.read_row_group(group, columns=["image_id"]).column(0).to_pylist() if _has_ids(names) else None
            for place in range(table.metadata.row_group(group).num_rows):
                name = str(ids[place]) if ids else f"{path.stem}/{row}"
                yield Item(name, f"{path}:{row}", {"table": str(path.absolute()), "group": group, "row": place})
                row += 1


def of_lance(folders: Sequence[Path]) -> Iterator[Item]:
    """Every row of the version that is the newest now; ids as for Parquet."""
    module = lance()
    for path in folders:
        try:
            data = module.dataset(str(path))
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no Lance data set ({' '.join(str(error).split()):.120})") from error
        _check_columns(path, data.schema.names)
        how = {"lance": str(path.absolute()), "version": data.version}
        columns, row = (["image_id"] if _has_ids(data.schema.names) else []), 0
        batches = data.to_batches(columns=columns, batch_size=_IDS_AT_ONCE) if columns else None
        names = (str(name) for batch in batches for name in batch.column(0).to_pylist()) if batches else (
            f"{path.stem}/{n}" for n in range(data.count_rows())
        )  # fmt: skip
        for row, name in enumerate(names):
            yield Item(name, f"{path}:{row}", {**how, "row": row})


def content(how: Mapping[str, Any]) -> bytes:
    """The file of the image that an item of this module means."""
    if "lance" in how:
        value = _lance(how["lance"], how["version"]).take([how["row"]], columns=["image"]).column(0)[0].as_py()
    else:
        value = _row_group(how["table"], how["group"]).column(0)[how["row"]].as_py()
    if isinstance(value, Mapping):
        value = value.get("bytes") or value.get("path")
    if value is None:
        raise ValueError("the column `image` is empty in this row")
    return value if isinstance(value, bytes) else Path(str(value)).read_bytes()


def _check_columns(path: Path, names: Sequence[str]) -> None:
    if "image" not in names:
        raise ValueError(f"{path} has no column `image` (bytes, {{bytes, path}} or a path); it has {list(names)}")


def _has_ids(names: Sequence[str]) -> bool:
    return "image_id" in names


_last: dict[tuple[Any, ...], Any] = {}  # rows of one place are asked for one after the other


def _row_group(file: str, group: int) -> Any:
    if (file, group) not in _last:
        _last.clear()
        _last[file, group] = pyarrow_parquet().ParquetFile(file).read_row_group(group, columns=["image"])
    return _last[file, group]


def _lance(folder: str, version: int) -> Any:
    if (folder, version) not in _last:
        _last.clear()
        _last[folder, version] = lance().dataset(folder, version=version)
    return _last[folder, version]
