"""Which files of a data set are there."""

from __future__ import annotations

from pathlib import Path

from partglee.data.catalog import DatasetSpec, datasets_root


def missing_files(spec: DatasetSpec) -> dict[str, Path]:
    """What is not there -> where it is expected: "annotations", "images", or a further path that the reader needs."""
    places = {"annotations": spec.annotation_path, "images": spec.image_root}
    places.update({path: datasets_root() / path for path in spec.needs})
    return {what: path for what, path in places.items() if not path.exists()}
