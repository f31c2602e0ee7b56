"""Attempts on the files of other tools: converted, or refused in a line that names the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fuzz_annotations import FILES, HEIGHT, LINES, PICTURES, WIDTH
from PIL import Image

from partglee.data import DatasetSpec
from partglee.data.annotations.coco_json import read_coco
from partglee.data.formats import FORMATS, convert

_FILE = {"cvat": "a.xml", "labelme": "a/1.json", "fiftyone": "a/samples.json", "predictions": "a.jsonl"}


def tool_files(folder: Path) -> dict[str, bytes]:
    """One file of each format, made of a small annotation file: objects, parts, polygons, run lengths, boxes."""
    source = folder / "source.json"
    source.write_text(json.dumps(FILES[1]))
    files = {"predictions": "\n".join(map(json.dumps, LINES)).encode()}
    for key, form in FORMATS.items():
        if form.write is not None:
            target = folder / key / _FILE.get(key, "a.json").split("/")[0]
            convert(source, target, to_format=key)
            files[key] = (folder / key / _FILE.get(key, "a.json")).read_bytes()
    return files


def formats(given: tuple[str, bytes], folder: Path) -> None:
    """What is converted is a file that the library reads, with as many instances as were said."""
    key, content = given
    file = folder / _FILE.get(key, "a.json")
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(content)
    for name in PICTURES:
        Image.new("RGB", (WIDTH, HEIGHT)).save(folder / name)
    target = folder / "out.json"
    try:
        done = convert(folder / "a" if FORMATS[key].folder else file, target, from_format=key)
    except ValueError as error:
        assert not target.exists(), "a file of a conversion that failed"
        assert len(str(error)) < 2000, f"a line of {len(str(error))} characters"
        raise
    content_of: Any = json.loads(target.read_text())
    annotations = content_of["annotations"]
    assert len(annotations) == sum(done.names.objects.values()) + done.names.num_parts
    assert sum("parent_id" in entry for entry in annotations) >= done.names.linked
    if annotations:
        records = read_coco(DatasetSpec(name="out", annotations=str(target), images=str(folder), reader=read_coco))
        for row in range(len(records)):
            records[row]
