"""What is wrong in a hierarchical COCO file, counted and with examples. Nothing here stops at the first finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from partglee.basics.masks import is_finite
from partglee.basics.names import name_key
from partglee.data.annotations.categories import has_levels, image_file_name, is_part_category, part_pair
from partglee.data.annotations.values import LARGEST, file_name_of, flag, plain_ids, text_of, whole
from partglee.data.checks.expressions import check_expressions
from partglee.data.checks.links import circles, containment, is_own_parent, parent_of
from partglee.data.checks.masks import check_segmentation
from partglee.data.images import image_size, read_image
from partglee.data.spec import Compared

MIN_CONTAINMENT = 0.5  # of a part box in the box of its object
EXAMPLES = 3


@dataclass
class Report:
    """Findings by rule. Errors make a file unfit for training or evaluation, warnings are worth a look."""

    summary: Counter[str] = field(default_factory=Counter)  # what the file has
    errors: Counter[str] = field(default_factory=Counter)  # rule -> how often
    warnings: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)  # rule -> the first ones
    counts: list[Compared] = field(default_factory=list)  # of a data set: beside what it should hold

    def error(self, rule: str, example: str) -> None:
        """Count an error."""
        self._add(self.errors, rule, example)

    def warn(self, rule: str, example: str) -> None:
        """Count a warning."""
        self._add(self.warnings, rule, example)

    def _add(self, counts: Counter[str], rule: str, example: str) -> None:
        counts[rule] += 1
        if len(self.examples.setdefault(rule, [])) < EXAMPLES:
            self.examples[rule].append(example)

    def add(self, other: Report) -> None:
        """Take over what was found in another file of the same data set, which has the same names."""
        for what, count in other.summary.items():
            self.summary[what] = max(self.summary[what], count) if "names" in what else self.summary[what] + count
        for rule, examples in other.examples.items():
            self.examples[rule] = [*self.examples.get(rule, []), *examples][:EXAMPLES]
        self.errors.update(other.errors)
        self.warnings.update(other.warnings)

    def text(self) -> str:
        """The report for people."""
        lines = [", ".join(f"{count} {what}" for what, count in self.summary.items())]
        if self.counts:
            lines.append(f"counts: {', '.join(compared.text for compared in self.counts)}")
        for level, counts in (("error", self.errors), ("warning", self.warnings)):
            for rule, count in counts.most_common():
                more = f"; ... {count - EXAMPLES} more" if count > EXAMPLES else ""
                lines.append(f"{level}: {count} x {rule}: {'; '.join(self.examples[rule])}{more}")
        lines.append(f"{self.errors.total()} errors, {self.warnings.total()} warnings")
        return "\n".join(lines)


def validate(
    content: Any, *, images: Path | None = None, objects: Collection[str] = (), progress: bool = False
) -> Report:
    """Check the content of an annotation file.

    Args:
        content: what `json.load` returned.
        images: folder of the images; None = image files are not looked at.
        objects: names of objects that the data set's vocabulary has beside the categories of the file.
        progress: show a progress bar on stderr.
    """
    report = Report()
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        given = sorted(content) if isinstance(content, Mapping) else type(content).__name__
        report.error("lists `images`, `annotations` and `categories` are not all there", f"the file has {given}")
        return report
    content = plain_ids(content)
    if not content["images"]:
        report.error("file without images", "`images` is empty")
    elif not content["annotations"]:
        report.warn("file without annotations, so nothing can be learned from it or scored", "`annotations` is empty")
    sizes = _images(report, content["images"], images, progress)
    linked = any(isinstance(entry, Mapping) and parent_of(entry) is not None for entry in content["annotations"])
    used = {str(entry.get("category_id")) for entry in content["annotations"] if isinstance(entry, Mapping)}
    categories = _categories(report, content["categories"], objects, linked, used)
    good = _annotations(report, _bar(content["annotations"], "annotations", progress), sizes, categories)
    if good and all(_is_crowd(entry) for entry in good.values()):
        report.error("every annotation is a crowd, so nothing can be learned", f"{len(good)} annotations")
    _hierarchy(report, good, categories)
    _summarise(report, content, good, categories)
    _expressions(report, content["images"], good, categories)
    return report


@dataclass(frozen=True, slots=True)
class _Category:
    name: str
    is_part: bool
    owners: frozenset[str]  # object names of a part, where its category says; else empty


class _Written(NamedTuple):
    name: str
    annotated: bool
    is_part: bool


def _images(report: Report, entries: list[Any], folder: Path | None, progress: bool) -> dict[Any, tuple[int, int]]:
    """Image id -> (height, width), (0, 0) where it is not said."""
    sizes: dict[Any, tuple[int, int]] = {}
    for place, entry in enumerate(_bar(entries, "images", progress)):
        named_by_url = isinstance(entry, Mapping) and not entry.get("file_name") and "coco_url" in entry  # LVIS
        if not _has_keys(report, "image", place, entry, ("id", "coco_url" if named_by_url else "file_name")):
            continue
        named = bool(entry.get("file_name") or entry.get("coco_url"))  # a scene in memory has the key without a name
        file_name = image_file_name(entry) if named else ""
        if _wrong(file_name_of, file_name):
            report.error("image with a file name that no disk takes", f"image {entry['id']}: {file_name[:40]!r}...")
            continue
        what = f"image {entry['id']} ({file_name})"
        if entry["id"] in sizes:
            report.error("image id given twice", what)
        size = (entry.get("height"), entry.get("width"))
        if all(isinstance(side, int) and side > 0 for side in size):
            sizes[entry["id"]] = (int(size[0]), int(size[1]))
        else:
            report.error("image without height and width in pixels", f"{what}: {size}")
            sizes[entry["id"]] = (0, 0)
        if folder is not None and not named:
            report.error("image without a file name", what)
        elif folder is not None:
            rule, detail = check_image_file(folder / file_name, sizes[entry["id"]])
            if rule:
                report.error(rule, f"{what}: {detail}")
    return sizes


def _categories(
    report: Report, entries: list[Any], known: Collection[str], linked: bool, used: Collection[str]
) -> dict[Any, _Category]:
    categories: dict[Any, _Category] = {}
    whole = [entry for entry in entries if isinstance(entry, Mapping) and isinstance(entry.get("name"), str)]
    split = bool(known) or has_levels(whole, linked=linked)
    objects = {str(entry["name"]) for entry in whole if not is_part_category(entry, tuple(known), split=split)}
    written = {name.casefold() for name in objects}
    objects.update(name for name in known if name.casefold() not in written)
    names: dict[str, _Written] = {}  # by the name without case
    for place, entry in enumerate(entries):
        if not _has_keys(report, "category", place, entry, ("id", "name")):
            continue
        what = f"category {entry['id']} ({entry['name']})"
        if entry["id"] in categories:
            report.error("category id given twice", what)
        if entry.get("level") not in (None, "object", "part"):
            report.error("`level` of a category that is not object or part", f"{what}: {entry['level']!r}")
        is_part, annotated = is_part_category(entry, tuple(known), split=split), str(entry["id"]) in used
        if earlier := names.get(name_key(entry["name"])):
            both = annotated and earlier.annotated
            if entry["name"] == earlier.name and (both or is_part != earlier.is_part):
                report.error("category name given twice", what)
            else:
                report.warn("categories of one name, of which one has no annotation or another case", what)
            annotated = annotated or earlier.annotated
        names[name_key(entry["name"])] = _Written(entry["name"], annotated, is_part)
        pair = part_pair(entry, tuple(objects)) if is_part and "owners" not in entry else None
        owners = entry.get("owners", []) if pair is None else [pair[0]]
        if not isinstance(owners, (list, tuple)) or not all(isinstance(owner, str) for owner in owners):
            report.error("`owners` of a category that is no list of names", f"{what}: {owners!r:.40}")
            owners = []
        if is_part and not owners:
            report.warn("part category whose name is not object:part", what)
        elif not set(owners) <= objects:
            report.warn("part category of an object that is no category", what)
        categories[entry["id"]] = _Category(entry["name"], is_part, frozenset(owners))
    return categories


def _annotations(
    report: Report, entries: Iterable[Any], sizes: Mapping[Any, tuple[int, int]], categories: Mapping[Any, _Category]
) -> dict[Any, Mapping[str, Any]]:
    """Annotation id -> entry, of those whose keys, image, category and box are usable."""
    good: dict[Any, Mapping[str, Any]] = {}
    seen: set[Any] = set()
    for place, entry in enumerate(entries):
        if not _has_keys(report, "annotation", place, entry, ("id", "image_id", "category_id", "bbox")):
            continue
        what = f"annotation {entry['id']}"
        if entry["id"] in seen:
            report.error("annotation id given twice", what)
        seen.add(entry["id"])
        if entry["id"] == 0:
            report.warn("annotation id 0, which COCO tools take for no match", f"image {entry['image_id']}")
        if entry["image_id"] not in sizes:
            report.error("annotation of an unknown image", f"{what} (image {entry['image_id']})")
            continue
        if entry["category_id"] not in categories:
            report.error("annotation of an unknown category", f"{what} (category {entry['category_id']})")
            continue
        if _wrong(flag, entry.get("iscrowd")):
            report.error("`iscrowd` that is neither 0 nor 1", f"{what}: {entry['iscrowd']!r:.40}")
            continue
        if isinstance(entry.get("iscrowd"), str):
            report.warn("`iscrowd` that is text, which COCO tools take for a crowd", f"{what}: {entry['iscrowd']!r}")
        size = sizes[entry["image_id"]]
        if not _check_box(report, what, entry["bbox"], size):
            continue
        for severity, rule, detail in check_segmentation(entry.get("segmentation"), size, entry["bbox"]):
            (report.error if severity == "error" else report.warn)(
                rule, f"{what} of image {entry['image_id']}: {detail}"
            )
        good[entry["id"]] = entry
    return good


def _is_crowd(entry: Mapping[str, Any]) -> bool:
    return flag(entry.get("iscrowd"), "iscrowd")


def _check_box(report: Report, what: str, box: Any, size: tuple[int, int]) -> bool:
    """Whether a box can be used at all."""
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(_is_number(side) for side in box):
        report.error("box that is not four numbers x, y, width, height", f"{what}: {box!s:.80}")
        return False
    x, y, width, height = (float(side) for side in box)
    if width <= 0 or height <= 0:
        report.error("box of no size", f"{what}: {box}")
        return False
    if 0 in size:
        return True
    if x >= size[1] or y >= size[0] or x + width <= 0 or y + height <= 0:
        report.error("box outside of the image", f"{what}: {box} in (height, width) {size}")
        return False
    if min(x, y) < -1 or x + width > size[1] + 1 or y + height > size[0] + 1:
        report.warn("box that reaches beyond the image", f"{what}: {box} in (height, width) {size}")
    return True


def _hierarchy(report: Report, good: Mapping[Any, Mapping[str, Any]], categories: Mapping[Any, _Category]) -> None:
    for circle in circles(good):
        shown = [*map(str, circle[:6]), *(["..."] if len(circle) > 6 else []), str(circle[0])]
        report.error("annotations that are each other's parents", " -> ".join(shown))
    for key, entry in good.items():
        link = parent_of(entry)
        if is_own_parent(entry) and categories[entry["category_id"]].is_part:  # PACO's objects name themselves
            name = categories[entry["category_id"]].name
            report.error("part that is its own parent", f"annotation {key} ({name})")
        if link is None:
            continue
        what, category = f"annotation {key} ({categories[entry['category_id']].name})", categories[entry["category_id"]]
        if not category.is_part:
            report.error("object with a parent", f"{what}: {link}")
            continue
        parent = good.get(link) if isinstance(link, (int, str)) else None
        if parent is None:
            report.error("parent that is no usable annotation", f"{what}: {_short(link)}")
            continue
        above = categories[parent["category_id"]]
        if parent["image_id"] != entry["image_id"]:
            report.error("parent in another image", f"{what}: {link} in image {parent['image_id']}")
        elif category.owners and not above.is_part and above.name not in category.owners:
            report.error("parent of another name than the part says", f"{what}: {link} ({above.name})")
        else:
            inside = containment(entry["bbox"], parent["bbox"])
            if inside < MIN_CONTAINMENT:
                detail = f"{what}: {inside:.0%} in {link}"
                (report.warn if inside > 0 else report.error)(
                    "part mostly outside of its parent" if inside > 0 else "part wholly outside of its parent", detail
                )


def _summarise(
    report: Report,
    content: Mapping[str, Any],
    good: Mapping[Any, Mapping[str, Any]],
    categories: Mapping[Any, _Category],
) -> None:
    parts = [entry for entry in good.values() if categories[entry["category_id"]].is_part]
    linked = sum(parent_of(entry) is not None for entry in parts)
    report.summary.update(
        {
            "images": len(content["images"]),
            "without annotation": len(content["images"]) - len({entry["image_id"] for entry in good.values()}),
            "object names": sum(not category.is_part for category in categories.values()),
            "part names": sum(category.is_part for category in categories.values()),
            "names unused": len(set(categories) - {entry["category_id"] for entry in good.values()}),
            "usable objects": len(good) - len(parts),
            "usable parts": len(parts),
            "parts with a parent": linked,
        }
    )


def _expressions(
    report: Report, images: list[Any], good: Mapping[Any, Mapping[str, Any]], categories: Mapping[Any, _Category]
) -> None:
    levels: dict[Any, dict[Any, bool]] = {}
    for key, entry in good.items():
        levels.setdefault(entry["image_id"], {})[key] = categories[entry["category_id"]].is_part
    crowds = {key: _is_crowd(entry) for key, entry in good.items()}
    report.summary.update(check_expressions(images, levels, crowds, error=report.error, warn=report.warn))


def _has_keys(report: Report, what: str, place: int, entry: Any, keys: tuple[str, ...]) -> bool:
    where = f"number {place} of the list"
    missing = [key for key in keys if not isinstance(entry, Mapping) or key not in entry]
    if missing:
        report.error(f"{what} without {', '.join(missing)}", where)
        return False
    ids = [key for key in keys if key.endswith("id") and _wrong(whole, entry[key])]
    if ids:
        value = entry[ids[0]]
        kind = "is no whole number" if type(value) is not int else "has more than 63 bits"
        report.error(f"{what} with an id that {kind}", f"{where}: {ids[0]} {_short(value)}")
    texts = [key for key in keys if key in ("name", "file_name", "coco_url") and _wrong(text_of, entry[key])]
    if texts:
        report.error(f"{what} with a {texts[0]} that is no text", f"{where}: {entry[texts[0]]!r:.40}")
    return not ids and not texts


def _short(value: Any) -> str:
    """A value for a message; numbers of thousands of digits cannot even be written in decimals."""
    return f"{value:#x}"[:24] if type(value) is int and abs(value) > LARGEST else f"{value!r:.40}"


def _wrong(read: Callable[[Any, str], Any], value: Any) -> bool:
    """Whether one of the readers of values refuses a value."""
    try:
        read(value, "value")
    except ValueError:
        return True
    return False


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and is_finite(value)


def _bar(entries: list[Any], what: str, shown: bool) -> Iterable[Any]:
    from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

    bar: Iterable[Any] = tqdm(entries, unit=f" {what}", disable=not shown)
    return bar


def check_image_file(path: Path, size: tuple[int, int]) -> tuple[str, str]:
    """(rule, detail) of what is wrong, ("", "") when nothing is. `size`: height and width, (0, 0) = unknown.

    The image is decoded, JPEG at an eighth of its size: a file that is cut off has a good header.
    """
    if "\0" in str(path) or not path.is_file():
        return "image file that is missing", str(path)
    try:
        found = image_size(path)
        read_image(path, at_least=(1, 1))
    except (OSError, ValueError) as error:
        return "image file that cannot be read", f"{path}: {error}"
    if 0 not in size and size != found:
        return "image size that differs from the file", f"{size} said, {found} found (height, width)"
    return "", ""
