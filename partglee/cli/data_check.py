"""`partglee data check` and `partglee data show`: a data set in words and in pictures."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from partglee.data import DatasetSpec, Records

_LOOKED_AT = 10  # images whose files are looked for, to find the folder of a file's images


def run_show(arguments: argparse.Namespace) -> int:
    """Print one data set, and draw some of its images."""
    from partglee.data import get_dataset
    from partglee.data.checks.datasets import held_by
    from partglee.data.spec import missing_files

    spec = get_dataset(arguments.name)
    print(f"{spec.name}\n  annotations: {spec.annotation_path}\n  images: {spec.image_root}")
    for path in missing_files(spec).values():
        print(f"  missing: {path}")
    levels = [name for name, on in (("objects", spec.supervises_objects), ("parts", spec.supervises_parts)) if on]
    print(f"  supervises: {', '.join(levels)}; evaluator: {spec.evaluator or 'none'}")
    print(f"  background: objects {spec.object_background}, parts {spec.part_background}")
    told = [f"{number} {what} ({source})" for what, (number, source) in spec.counts.told().items()]
    print(f"  should hold: {', '.join(told) or 'nobody says how much'}")
    records = spec.read()
    held = held_by(records) or {"images": len(records)}
    print(f"  holds: {', '.join(compared.text for compared in spec.counts.beside(held))}")
    _print_names(records)
    if not arguments.no_draw:
        _draw(records, spec, arguments)
    return 0


def _print_names(records: Records) -> None:
    vocabulary = records.vocabulary
    objects: Counter[int] = Counter()
    parts: Counter[int] = Counter()
    for index in range(len(records)):
        of_objects, of_parts = records.labels(index)
        objects.update(of_objects)
        parts.update(of_parts)
    print(f"  {len(records)} images; images with each name:")
    for row, name in enumerate(vocabulary.object_names):
        columns = vocabulary.part_columns(name)
        of_object = ", ".join(f"{vocabulary.part_names[column]} {parts[column]}" for column in columns)
        print(f"    {name} {objects[row]}" + (f": {of_object}" if of_object else ""))


def run_check(arguments: argparse.Namespace) -> int:
    """Print a report, and draw; status 1 when there are errors."""
    from partglee.data import get_dataset, list_datasets

    path = Path(arguments.source)
    if path.is_file():
        status = _check_file(path, arguments)
        return max(status, _check_names(_file_spec(path), arguments)) if arguments.weights else status
    if path.suffix == ".json" and arguments.source not in list_datasets():
        raise ValueError(f"no file {path}; give an annotation file or the name of a data set")
    spec = get_dataset(arguments.source)
    status = _check_dataset(spec, arguments)
    return max(status, _check_names(spec, arguments)) if arguments.weights else status


def _file_spec(path: Path) -> DatasetSpec:
    """A file as a data set of its own names."""
    from partglee.data import DatasetSpec
    from partglee.data.annotations.coco_json import read_coco

    return DatasetSpec(name=path.stem, annotations=str(path.resolve()), images="", reader=read_coco)


def _check_names(spec: DatasetSpec, arguments: argparse.Namespace) -> int:
    """Every name that the weights do not read as it is written; status 1 when one is left out."""
    from partglee.engine.pretrained import load_pretrained
    from partglee.text.words import resolve

    backend = load_pretrained(arguments.weights).model.text_encoder.backend
    vocabulary = spec.read().vocabulary
    found = resolve(vocabulary, backend)
    total = len(vocabulary.object_names) + len(vocabulary.part_names)
    print(f"names for {arguments.weights}: {total - len(found.readings)} of {total} are read as they are written")
    for reading in found.mapped:
        print(f"  lacks {reading}")
    for reading in found.left_out:
        print(f"  lacks {reading.word!r}, left out; nearest: {', '.join(map(repr, reading.near)) or 'none'}")
    return 1 if found.left_out else 0


def _check_dataset(spec: DatasetSpec, arguments: argparse.Namespace) -> int:
    from partglee.data import DataSets
    from partglee.data.checks.datasets import NOT_LOADED, validate_dataset

    if arguments.images is not None:
        from dataclasses import replace

        spec = replace(spec, images=str(arguments.images.absolute()))
    data = DataSets()
    report = validate_dataset(spec, progress=sys.stderr.isatty(), data=data)
    print(f"{spec.name}: {spec.annotation_path}\n{report.text()}")
    if not arguments.no_draw and NOT_LOADED not in report.errors:
        _draw(data.read(spec), spec, arguments)
    return 1 if report.errors else 0


def _draw(records: Records, spec: DatasetSpec, arguments: argparse.Namespace) -> None:
    from partglee.visualization.annotations import draw_records

    folder = arguments.draw or Path(f"{spec.name}_pictures")
    drawn = draw_records(records, folder, number=arguments.samples, seed=arguments.seed)
    if drawn:
        print(f"drew {len(drawn)} images into {folder}")
    else:
        print(f"drew no image: none was found in {spec.image_root} of those with annotations that were looked at")


def _check_file(path: Path, arguments: argparse.Namespace) -> int:
    from partglee.basics.files import read_json
    from partglee.data.checks.content import validate
    from partglee.data.checks.datasets import keep_path_parts
    from partglee.data.checks.forms import form_of
    from partglee.visualization.annotations import draw_annotations

    if (check := form_of(path)) is not None:  # of a project; its pictures are its own
        report = check(path, arguments.images)
        print(f"{path}\n{report.text()}")
        return 1 if report.errors else 0
    content = read_json(path, "annotation file")
    spec = _spec_of(path)
    keep_path_parts(content, spec.options.get("path_parts", 0) if spec else 0)
    images = arguments.images or _image_folder(path, content, spec)
    if images is None and arguments.draw is not None:
        raise ValueError("--draw needs the pictures: name their folder with --images DIR")
    report = validate(content, images=images, progress=sys.stderr.isatty())
    print(f"{path}\n{report.text()}")
    if images is None:
        print("image files were not looked at, nothing is drawn: name their folder with --images DIR")
    elif arguments.images is None:
        print(f"image files of {images}")
    if images is not None and not arguments.no_draw and "images" in report.summary:
        folder = arguments.draw or Path(f"{path.stem}_pictures")
        drawn = draw_annotations(content, images, folder, number=arguments.samples)
        print(f"drew {len(drawn)} images into {folder}" if drawn else f"drew no image: none can be read in {images}")
    return 1 if report.errors else 0


def _spec_of(path: Path) -> DatasetSpec | None:
    """The registered data set that has this file."""
    from partglee.data import get_dataset, list_datasets

    specs = (get_dataset(name) for name in list_datasets())
    return next((spec for spec in specs if spec.annotation_path.resolve() == path.resolve()), None)


def _image_folder(path: Path, content: Any, spec: DatasetSpec | None) -> Path | None:
    """Where the first images of a file are: the registered place, or a likely one near the file."""
    from partglee.data.annotations.categories import image_file_name

    near = [path.parent, path.parent / "images", path.parent.parent, path.parent.parent / "images"]
    listed = content.get("images", ()) if isinstance(content, dict) else ()
    named = (entry for entry in listed if isinstance(entry, dict) and (entry.get("file_name") or entry.get("coco_url")))
    names = [image_file_name(entry) for entry in islice(named, _LOOKED_AT)]
    folders = ([spec.image_root] if spec else []) + near
    return next((folder for folder in folders if any((folder / name).is_file() for name in names)), None)
