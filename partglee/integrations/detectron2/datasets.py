"""Data sets in both directions: ours in detectron2's catalogs, and theirs by name in our commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from partglee.data import DatasetSpec, ImageRecord, Instance, Records, get_dataset, register
from partglee.data.images import image_size
from partglee.data.records import Segmentation
from partglee.data.segmentation import encode_segmentation
from partglee.integrations.detectron2.classes import classes_of_metadata, listed_classes
from partglee.structures import ClassList, Level, Vocabulary


def register_in_detectron2(name: str, *, as_name: str | None = None) -> str:
    """A data set of ours in `DatasetCatalog` and `MetadataCatalog`.

    Annotations have `id` and `object_id` (the id of the object that they belong to: their own for objects, -1 where it
    is not known); `HierarchyMapper` takes them into training. The files are read when the set is first asked for; the
    metadata needs the names, so that a set without a vocabulary of its own is read at once.

    Args:
        name: of a registered data set, see `partglee data list`.
        as_name: its name there; None = the same.

    Returns:
        Its name there.

    Raises:
        ValueError: for a name that is taken there, and what reading the set raises.
    """
    spec, there = get_dataset(name), as_name or name
    if there in DatasetCatalog.list():
        raise ValueError(f"detectron2 has a data set {there!r} already; pass as_name= to register ours beside it")
    vocabulary = spec.read().vocabulary
    classes = ClassList.of(vocabulary)
    DatasetCatalog.register(there, partial(_dicts, name))
    MetadataCatalog.get(there).set(
        thing_classes=list(classes.names),
        thing_dataset_id_to_contiguous_id={number: number for number in range(len(classes))},
        partglee_vocabulary=vocabulary,
        partglee_spec=spec,
        evaluator_type="coco",
    )
    return there


def _dicts(name: str) -> list[dict[str, Any]]:
    records = get_dataset(name).read()
    classes = ClassList.of(records.vocabulary)
    return [_dict(records[index], classes) for index in range(len(records))]


def _dict(record: ImageRecord, classes: ClassList) -> dict[str, Any]:
    if record.pixels is not None and not record.file.is_file():
        raise ValueError(f"{record.file} is drawn in memory; detectron2 reads images from files")
    size = (record.height, record.width) if record.height and record.width else image_size(record.source)
    first_part = 1 + len(record.objects)
    annotations = []
    for number, instance in enumerate(record.objects, start=1):
        annotations.append(_annotation(instance, classes.class_of(Level.OBJECT, instance.label), number, number, size))
    for number, part in enumerate(record.parts, start=first_part):
        owner = record.objects[part.parent].label if part.parent >= 0 else -1
        kind = classes.class_of(Level.PART, part.label, owner)
        annotations.append(_annotation(part, kind, number, part.parent + 1 if part.parent >= 0 else -1, size))
    entry = {
        "file_name": str(record.file), "height": size[0], "width": size[1], "image_id": record.image_id,
        "annotations": annotations,
    }  # fmt: skip
    if record.negative_objects is not None:
        entry["neg_category_ids"] = _classes(classes, record.negative_objects, record.negative_parts)
        entry["not_exhaustive_category_ids"] = _classes(
            classes, record.not_exhaustive_objects, record.not_exhaustive_parts
        )
    return entry


def _annotation(instance: Instance, kind: int, number: int, owner: int, size: tuple[int, int]) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "bbox": list(instance.box), "bbox_mode": BoxMode.XYXY_ABS, "category_id": kind, "id": number,
        "object_id": owner, "iscrowd": int(instance.crowd),
    }  # fmt: skip
    if isinstance(instance.segmentation, tuple) and not instance.crowd:
        entry["segmentation"] = [list(polygon) for polygon in instance.segmentation]
    elif instance.segmentation is not None:
        mask = encode_segmentation(instance.segmentation, size, what=f"annotation {instance.annotation_id}")
        counts = mask["counts"]
        text = counts.decode("ascii") if isinstance(counts, bytes) else counts
        entry["segmentation"] = {"size": list(mask["size"]), "counts": text}
    return entry


def _classes(classes: ClassList, objects: frozenset[int] | None, parts: frozenset[int] | None) -> list[int]:
    return [
        k
        for k, (level, label) in enumerate(zip(classes.level, classes.label, strict=True))
        if label in ((objects, parts)[level] or ())
    ]


# -- theirs, here ----------------------------------------------------------------------------------------------------


def register_from_detectron2(
    name: str, *, as_name: str | None = None, vocabulary: Any = None, **fields: Any
) -> DatasetSpec:
    """A data set of detectron2's catalogs for `partglee train`, `eval` and `data`.

    In a module that commands are told by `--import`, after the set has been registered there. Annotations with `id`
    and `object_id` (or `parent_id`) know the object of each part.

    Args:
        name: in `DatasetCatalog`; its metadata has `thing_classes`.
        as_name: its name here; None = the same.
        vocabulary: in which the classes are looked up, whatever `Vocabulary.parse` takes; None = what they describe.
        fields: of `DatasetSpec`, such as `part_background="inside"`.

    Raises:
        ValueError: for a set that is not registered or lists no classes, and a name that is taken here.
    """
    if name not in DatasetCatalog.list():
        raise ValueError(f"detectron2 has no data set {name!r}; register it before (DatasetCatalog.register)")
    classes = classes_of_metadata(MetadataCatalog.get(name), vocabulary)
    if classes is None:
        raise ValueError(f"the metadata of {name!r} lists no thing_classes; set them before")
    spec = DatasetSpec(
        name=as_name or name,
        annotations="",
        images="",
        reader=read_detectron2,
        vocabulary=classes.vocabulary,
        supervises_objects=Level.OBJECT in classes.level,
        supervises_parts=Level.PART in classes.level,
        options={"detectron2_name": name},
    )
    return register(replace(spec, **fields))


def read_detectron2(spec: DatasetSpec) -> Records:
    """A registered set of detectron2, by its option `detectron2_name`."""
    return Detectron2Records(spec)


class Detectron2Records:
    """Dicts of `DatasetCatalog` as records.

    Raises:
        ValueError: for a class that the metadata does not list.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        name = spec.options["detectron2_name"]
        metadata = MetadataCatalog.get(name)
        self.name = spec.name
        self.vocabulary = Vocabulary.parse(spec.vocabulary or "")  # none is refused
        self.classes = ClassList.parse(listed_classes(metadata), self.vocabulary)
        self.entries: Sequence[Mapping[str, Any]] = DatasetCatalog.get(name)
        self.category_ids = _category_ids(metadata, self.classes)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> ImageRecord:
        entry = self.entries[index]
        annotations = entry.get("annotations", ())
        kinds = [self._kind(one, entry) for one in annotations]
        levels = [self.classes.level[kind] for kind in kinds]
        row_of: dict[int, int] = {}
        objects: list[Instance] = []
        parts: list[Instance] = []
        for place, (one, kind, level) in enumerate(zip(annotations, kinds, levels, strict=True)):
            if level == Level.OBJECT:
                row_of[int(one.get("id", place))] = len(objects)
                objects.append(_instance(one, self.classes.label[kind]))
        for one, kind, level in zip(annotations, kinds, levels, strict=True):
            if level == Level.PART:
                owner = one.get("object_id", one.get("parent_id"))
                parent = -1 if owner is None else row_of.get(int(owner), -1)
                parts.append(_instance(one, self.classes.label[kind], parent=parent))
        number = entry.get("image_id")
        return ImageRecord(
            file=Path(entry["file_name"]),
            height=int(entry.get("height", 0)),
            width=int(entry.get("width", 0)),
            image_id=number if isinstance(number, int) else index + 1,
            objects=tuple(objects),
            parts=tuple(parts),
        )

    def _kind(self, one: Mapping[str, Any], entry: Mapping[str, Any]) -> int:
        kind = int(one["category_id"])
        if not 0 <= kind < len(self.classes):
            raise ValueError(
                f"data set {self.name!r}: {entry['file_name']} has category_id {kind}, but its metadata lists "
                f"{len(self.classes)} classes"
            )
        return kind

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) as the dict says; (0, 0) where it does not."""
        return int(self.entries[index].get("height", 0)), int(self.entries[index].get("width", 0))

    def labels(self, index: int) -> tuple[frozenset[int], frozenset[int]]:
        """Object labels and part labels of an image."""
        kinds = {self._kind(one, self.entries[index]) for one in self.entries[index].get("annotations", ())}
        level, label = self.classes.level, self.classes.label
        return (
            frozenset(label[k] for k in kinds if level[k] == Level.OBJECT),
            frozenset(label[k] for k in kinds if level[k] == Level.PART),
        )


def _category_ids(metadata: Any, classes: ClassList) -> tuple[list[int], list[int]]:
    """The file's category id of each label; -1 where there is none."""
    known = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    back = {kind: key for key, kind in known.items()}
    ids = [-1] * len(classes.vocabulary.object_names), [-1] * len(classes.vocabulary.part_names)
    for kind, (level, label) in enumerate(zip(classes.level, classes.label, strict=True)):
        ids[level][label] = back.get(kind, -1)
    return ids


def _instance(annotation: Mapping[str, Any], label: int, *, parent: int = -1) -> Instance:
    x0, y0, x1, y1 = BoxMode.convert(list(annotation["bbox"]), annotation["bbox_mode"], BoxMode.XYXY_ABS)
    shape = annotation.get("segmentation") or None
    segmentation: Segmentation = shape if shape is None or isinstance(shape, dict) else tuple(map(tuple, shape))
    return Instance(
        label=label,
        box=(float(x0), float(y0), float(x1), float(y1)),
        segmentation=segmentation,
        parent=parent,
        crowd=bool(annotation.get("iscrowd", 0)),
        annotation_id=int(annotation.get("id", 0)),
    )
