"""WebDataset's form for training: a tar of `KEY.jpg` (the file as it was read) beside `KEY.json` (its rows).

Byte for byte the same for the same rows: no time, owner or order of the machine goes in.
"""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from partglee.basics.files import whole_file

_SUFFIXES = {b"\xff\xd8": "jpg", b"\x89P": "png", b"RI": "webp", b"BM": "bmp", b"GI": "gif", b"II": "tif", b"MM": "tif"}


def key_of(image_id: str) -> str:
    """Of an image in an archive: WebDataset takes what follows the first dot of a name for the kind of the file."""
    folder, _, name = image_id.rpartition("/")
    return re.sub(r"\.", "_", folder) + ("/" if folder else "") + name.replace(".", "_")


def write_archive(entries: Sequence[tuple[str, bytes, str]], file: Path) -> None:
    """Write (image id, bytes of its file, JSON) entries, whole."""
    with whole_file(file) as beside, tarfile.open(beside, "w", format=tarfile.PAX_FORMAT) as tar:
        for image_id, content, rows in entries:
            suffix = _SUFFIXES.get(content[:2], "img")
            for ending, data in ((suffix, content), ("json", rows.encode())):
                member = tarfile.TarInfo(f"{key_of(image_id)}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def read_archive(file: Path) -> list[tuple[str, bytes, str]]:
    """What `write_archive` wrote."""
    entries: list[tuple[str, bytes, str]] = []
    content = b""
    with tarfile.open(file, "r:") as tar:
        for member in tar:
            stream = tar.extractfile(member)
            data = stream.read() if stream is not None else b""
            if member.name.endswith(".json"):
                entries.append((json.loads(data)["image"]["image_id"], content, data.decode()))
            else:
                content = data
    return entries
