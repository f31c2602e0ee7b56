"""The file of an image entry in a COCO-style annotation file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def image_file_name(entry: Mapping[str, Any]) -> str:
    """File name relative to the image folder.

    LVIS names files by their address, of which the last folder says in which COCO split they lie. Copies of its files
    with a `file_name` beside it have a bare name (`000000397133.jpg`), or one of COCO 2014 that no folder of 2017 has.

    Raises:
        KeyError: when there is neither a name nor an address.
    """
    name = str(entry.get("file_name") or "")
    if not name or ("neg_category_ids" in entry and "/" not in name and entry.get("coco_url")):
        return "/".join(str(entry["coco_url"]).split("/")[-2:])
    return name
