"""Annotations as columns, read from COCO, LVIS or PACO JSON.

M annotations, I images (sorted by id), K categories (sorted by id).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as rle  # type: ignore[import-untyped, unused-ignore]

from partglee.basics.files import read_json
from partglee.basics.memory import without_collector
from partglee.data.annotations.categories import (
    has_levels,
    is_part_category,
    objects_above,
    part_pair,
    split_part_name,
    tell_split,
)
from partglee.data.annotations.values import flag, plain_ids
from partglee.data.segmentation import (
    MAX_PIXELS,
    RLE,
    damaged_run_lengths,
    encode_segmentation,
    is_finite,
    read_runs,
    usable_polygons,
)
from partglee.evaluation.annotation_entries import check_entries
from partglee.evaluation.issues import wrong_box
from partglee.evaluation.run_lengths import RunLengths
from partglee.ops import run_lengths

__all__ = ["RLE", "CategoryTable", "GroundTruth", "encode_segmentation", "split_part_name"]


@dataclass(frozen=True, kw_only=True)
class CategoryTable:
    """Names and ids of the K categories, in id order."""

    ids: NDArray[np.int64]  # (K,)
    names: tuple[str, ...]
    frequency: tuple[str, ...]  # "r", "c", "f", or "" where the file has none
    is_part: NDArray[np.bool_]  # (K,)
    owner: tuple[str | None, ...]  # object name of a part category, None for objects and parts that name none
    part: tuple[str | None, ...]  # part name of a part category, None for objects
    aliases: Mapping[int, int] = field(default_factory=dict)  # further ids that files have for a category -> its id

    @cached_property
    def index(self) -> dict[int, int]:
        """Category id -> column."""
        own = {int(key): column for column, key in enumerate(self.ids)}
        return {**{further: own[key] for further, key in self.aliases.items()}, **own}

    def columns(self, names: Sequence[str]) -> list[int]:
        """Columns of categories by full name; ValueError for an unknown one."""
        table = {name: column for column, name in enumerate(self.names)}
        missing = [name for name in names if name not in table]
        if missing:
            raise ValueError(
                f"categories {missing[:5]} are not in the annotations, which have {list(self.names[:5])} ..."
            )
        return [table[name] for name in names]


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """Annotations of a data set. Rows keep the file's order inside an image."""

    categories: CategoryTable
    image_ids: NDArray[np.int64]  # (I,) ascending
    image_sizes: NDArray[np.int64]  # (I, 2) height, width; 0 where the file does not say
    file_names: tuple[str, ...]  # I
    negative: tuple[frozenset[int], ...]  # I sets of category columns known to be absent (LVIS)
    not_exhaustive: tuple[frozenset[int], ...]  # I sets of category columns not fully annotated (LVIS)
    image: NDArray[np.int64]  # (M,) image rows
    category: NDArray[np.int64]  # (M,) category columns
    boxes: NDArray[np.float64]  # (M, 4) xywh in pixels
    area: NDArray[np.float64]  # (M,)
    crowd: NDArray[np.bool_]  # (M,)
    ignore: NDArray[np.bool_]  # (M,) LVIS `ignore`; COCO's rule reads only `crowd`
    parent: NDArray[np.int64]  # (M,) row of the object a part belongs to, through parts of parts; -1 without
    segmentation: tuple[Any, ...]  # M, as in the file; None without
    federated: bool = False  # images say which categories were looked for and not found (LVIS)
    _masks: dict[int, RLE] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.image)

    @cached_property
    def image_index(self) -> dict[int, int]:
        """Image id -> row."""
        return {int(key): row for row, key in enumerate(self.image_ids)}

    def mask(self, row: int) -> RLE:
        """Run lengths of one annotation (polygons are drawn once and kept); ValueError when it has no mask."""
        if row not in self._masks:
            self._masks[row] = encode_segmentation(
                self.segmentation[row], tuple(self.image_sizes[self.image[row]]), what=f"annotation row {row}"
            )
        return self._masks[row]

    @cached_property
    def lost(self) -> dict[int, str]:
        """Rows without a mask that can be drawn, and why; boxes stand for them where masks are scored."""
        lost: dict[int, str] = {}
        for row, segmentation in enumerate(self.segmentation):
            if row in self._masks or isinstance(segmentation, Mapping):  # run lengths were checked when they were read
                continue
            size = tuple(self.image_sizes[self.image[row]].tolist())
            if not segmentation:
                lost[row] = "it has none"
            elif 0 in size:
                lost[row] = "the file does not say how large its image is"
            elif size[0] * size[1] > MAX_PIXELS:
                lost[row] = "its image is too large for masks"
            else:
                usable, fault = usable_polygons(segmentation, size, what=f"annotation row {row}")
                if not usable:
                    lost[row] = f"it has only polygons {fault}"
        return lost

    def without_pixels(self) -> list[int]:
        """Rows, of those whose mask is drawn already, whose mask covers no pixel of the image."""
        return [row for row in sorted(self._masks) if not rle.area(self._masks[row])]

    @cached_property
    def has_mask(self) -> NDArray[np.bool_]:
        """(M,) whether an annotation has a mask that can be drawn, though it may cover no pixel of its image."""
        drawn = np.ones(len(self), bool)
        drawn[list(self.lost)] = False
        return drawn

    @classmethod
    def load(cls, source: str | Path | Mapping[str, Any], **options: Any) -> GroundTruth:
        """Read a JSON file, or a dict of the same form; options as for `from_dict`."""
        if isinstance(source, Mapping):
            return cls.from_dict(source, **options)
        path = Path(source)
        if not path.is_file():
            raise ValueError(f"annotation file '{path}' does not exist; is PARTGLEE_DATASETS set to the data's folder?")
        content = read_json(path, "annotation file")
        try:
            return cls.from_dict(content, **options)
        except ValueError as error:
            raise ValueError(f"annotation file '{path}': {error}") from error

    @classmethod
    @without_collector()
    def from_dict(
        cls,
        content: Mapping[str, Any],
        *,
        part_category_ids: Sequence[int] | None = None,
        object_names: Sequence[str] = (),
        split: bool | None = None,
        aliases: Mapping[int, int] | None = None,
    ) -> GroundTruth:
        """Make columns of a COCO, LVIS or PACO dict.

        Annotation ids are used only to follow parent links and to find duplicates, so an id of 0 is harmless here (the
        COCO tools take it for "no match").

        Args:
            part_category_ids: ids of part categories. None: `supercategory` "PART" or `level` "part" in the file, else
                a name that splits into object and part (`dog:head`, `dog's head`, or one that starts with one of
                `object_names`).
            object_names: to split names such as "Quadruped Head".
            split: names may split; None: where the file means a hierarchy (`has_levels`), or object names are given.
            aliases: further category ids -> the id that stands for them.

        Raises:
            ValueError: for annotations of unknown images or categories, with neither a box nor a mask or with damaged
                run lengths, for values of another type than the format has, or an id given twice.
        """
        if not isinstance(content, Mapping):
            raise ValueError(f"annotations must have images, annotations and categories, got {content!s:.40}")
        content = plain_ids(content)
        for key in ("images", "annotations", "categories"):
            if key not in content:
                raise ValueError(f"annotations must have {key!r}, got {sorted(content)[:8]}; is this a results file?")
            check_entries(content[key], key)
        if split is None:
            linked = any(_link(entry) is not None for entry in content["annotations"])
            split = bool(object_names) or has_levels(content["categories"], linked=linked)
        categories = _categories(content["categories"], part_category_ids, object_names, split, aliases or {})
        images = sorted(content["images"], key=lambda entry: entry["id"])
        image_row = {entry["id"]: row for row, entry in enumerate(images)}
        if len(image_row) < len(images):
            raise ValueError("an image id is given twice in the annotations; make the ids unique")
        # `obj_ann_id` is PACO's link (objects name themselves), `parent_id` ours.
        anns = content["annotations"]
        row_of = {entry["id"]: row for row, entry in enumerate(anns) if "id" in entry}
        if len(row_of) < sum("id" in entry for entry in anns):
            raise ValueError("an annotation id is given twice; make the ids unique")
        count = len(anns)
        image, category = np.zeros(count, np.int64), np.zeros(count, np.int64)
        boxes, area = np.zeros((count, 4)), np.zeros(count)
        crowd, ignore = np.zeros(count, bool), np.zeros(count, bool)
        parent = np.full(count, -1, np.int64)
        sizes = np.array([_size(entry) for entry in images], np.int64).reshape(-1, 2)
        masks = _read_masks(anns, [image_row.get(entry["image_id"], -1) for entry in anns], sizes)
        for row, entry in enumerate(anns):
            if entry["image_id"] not in image_row or entry["category_id"] not in categories.index:
                raise ValueError(
                    f"annotation {entry.get('id', row)} has image {entry['image_id']} and category "
                    f"{entry['category_id']}; one of them is not in the file"
                )
            image[row] = image_row[entry["image_id"]]
            category[row] = categories.index[entry["category_id"]]
            boxes[row], area[row] = _box_and_area(entry, row, sizes[image[row]], masks)
            crowd[row], ignore[row] = flag(entry.get("iscrowd"), "iscrowd"), flag(entry.get("ignore"), "ignore")
            link = _link(entry)
            if link is not None and categories.is_part[category[row]]:
                parent[row] = row_of.get(link, -1)
        parent = np.where((parent >= 0) & (image[parent] == image), parent, -1)  # links to other images lead nowhere
        parent = objects_above(parent, categories.is_part[category])
        return cls(
            categories=categories,
            image_ids=np.array([entry["id"] for entry in images], np.int64),
            image_sizes=sizes,
            file_names=tuple(str(e.get("file_name") or e.get("coco_url") or "") for e in images),
            negative=_category_sets(images, "neg_category_ids", categories.index),
            not_exhaustive=_category_sets(images, "not_exhaustive_category_ids", categories.index),
            image=image, category=category, boxes=boxes, area=area, crowd=crowd, ignore=ignore, parent=parent,
            segmentation=tuple(entry.get("segmentation") for entry in anns),
            federated=any("neg_category_ids" in entry for entry in images), _masks=masks,
        )  # fmt: skip


_LONGEST_SIDE = 1 << 31


def _size(entry: Mapping[str, Any]) -> tuple[int, int]:
    """(height, width) of an image entry; 0 where it does not say."""
    sides = [entry.get(key) or 0 for key in ("height", "width")]
    if not all(is_finite(side) and 0 <= side < _LONGEST_SIDE and int(side) == side for side in sides):
        raise ValueError(
            f"image {entry['id']}: height and width must be whole numbers of pixels, got {sides[0]!s:.40} and "
            f"{sides[1]!s:.40}"
        )
    return (int(sides[0]), int(sides[1])) if all(sides) else (0, 0)


def _read_masks(anns: Sequence[Mapping[str, Any]], image: Sequence[int], sizes: NDArray[np.int64]) -> dict[int, RLE]:
    """Row -> run lengths of the annotations that have such; an image of unknown size takes that of its masks.

    Raises:
        ValueError: for run lengths that are damaged or not of their image's size, naming annotation and image.
    """
    masks: dict[int, RLE] = {}
    size_of = [(height, width) for height, width in sizes.tolist()]

    def fail(row: int, reason: str) -> None:
        raise ValueError(f"annotation {anns[row].get('id', row)} of image {anns[row]['image_id']}: {reason}")

    for row, entry in enumerate(anns):
        segmentation = entry.get("segmentation")
        if not isinstance(segmentation, Mapping):
            if segmentation is not None and not isinstance(segmentation, (list, tuple)):
                fail(row, f"segmentation is neither polygons nor run lengths, but {segmentation!s:.40}")
            continue
        try:
            masks[row] = read_runs(segmentation)
        except ValueError as error:
            fail(row, str(error))
        if image[row] >= 0:
            said = (masks[row]["size"][0], masks[row]["size"][1])
            if size_of[image[row]] == (0, 0):
                sizes[image[row]] = size_of[image[row]] = said
            if (known := size_of[image[row]]) != said:
                fail(row, f"its mask is of size {said}, but the image is {known} (height, width)")
    rows = list(masks)
    counts = RunLengths.of([masks[row]["counts"] for row in rows])
    covered = np.array([masks[row]["size"] for row in rows], np.int64).reshape(-1, 2).prod(axis=1)
    if (run_lengths.mask_areas(counts.texts, covered) >= 0).all():
        return masks
    for begin in range(0, len(rows), 4096):  # what is wrong
        block = [masks[row] for row in rows[begin : begin + 4096]]
        pixels = [mask["size"][0] * mask["size"][1] for mask in block]
        for place, reason in damaged_run_lengths([mask["counts"] for mask in block], pixels).items():
            fail(rows[begin + place], reason)
    return masks


def _box_and_area(
    entry: Mapping[str, Any], row: int, size: NDArray[np.int64], masks: dict[int, RLE]
) -> tuple[Any, float]:
    """xywh and area of an annotation: what the file says, else of its mask; the area, without one, of its box."""
    what = f"annotation {entry.get('id', row)} of image {entry['image_id']}"
    box, area = entry.get("bbox"), entry.get("area")
    if area is not None and not isinstance(area, (int, float, np.number)):
        raise ValueError(f"{what}: area must be a number of pixels, got {area!s:.40}")
    if area is not None and not is_finite(area) and area == area:
        raise ValueError(f"{what}: area must be a number of pixels, got {area!s:.40}")
    unknown = area is None or area != area
    if (box is None or unknown) and row not in masks and entry.get("segmentation") and size.all():
        try:
            masks[row] = encode_segmentation(entry["segmentation"], (int(size[0]), int(size[1])), what=what)
        except ValueError as error:
            if box is None:
                raise ValueError(f"{what} has no box, and no mask to take it from: {error}") from error
    if box is None and row in masks:
        box = rle.toBbox(masks[row]).tolist()
    if wrong := wrong_box(box):
        raise ValueError(f"annotation {entry.get('id', row)}: {wrong[1]}")
    assert box is not None  # wrong_box has said so
    if not unknown:
        return box, float(area)  # type: ignore[arg-type]
    return box, float(rle.area(masks[row])) if row in masks else float(box[2]) * float(box[3])


def _category_sets(
    images: Sequence[Mapping[str, Any]], key: str, index: Mapping[int, int]
) -> tuple[frozenset[int], ...]:
    return tuple(frozenset(index[c] for c in entry.get(key) or () if c in index) for entry in images)


def _link(entry: Mapping[str, Any]) -> Any:
    """Id of the annotation that this one names as its parent; None where it names none or itself."""
    link = entry.get("parent_id")
    link = entry.get("obj_ann_id") if link is None else link
    return None if link == entry.get("id") else link


def _categories(
    entries: Sequence[Mapping[str, Any]],
    part_ids: Sequence[int] | None,
    object_names: Sequence[str],
    split: bool,
    aliases: Mapping[int, int],
) -> CategoryTable:
    entries = sorted(entries, key=lambda entry: entry["id"])
    ids = [entry["id"] for entry in entries]
    if len(set(ids)) < len(ids):
        raise ValueError("a category id is given twice in the annotations; make the ids unique")
    known_parts = None if part_ids is None else set(part_ids)
    is_part, owner, part = [], [], []
    for entry in entries:
        pair = part_pair(entry, object_names)
        flag = is_part_category(entry, object_names, split=split) if known_parts is None else entry["id"] in known_parts
        is_part.append(flag)
        owner.append(pair[0] if flag and pair else None)
        part.append((pair[1] if pair else entry["name"]) if flag else None)
    if known_parts is None:
        tell_split(entries, is_part, split=split)
    return CategoryTable(
        ids=np.array(ids, np.int64),
        names=tuple(entry["name"] for entry in entries),
        frequency=tuple(str(entry.get("frequency", "")) for entry in entries),
        is_part=np.array(is_part, bool),
        owner=tuple(owner),
        part=tuple(part),
        aliases=aliases,
    )
