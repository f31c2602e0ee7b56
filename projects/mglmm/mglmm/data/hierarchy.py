"""Descriptions by rule of an object hierarchy: the whole image by its objects, each object by its parts (MGSC)."""

from __future__ import annotations

from mglmm.data.marked import parse
from mglmm.data.record import Record, RegionMask, Said, run_lengths
from partglee.annotate import Region, Sample
from partglee.annotate.masks import box_of
from partglee.annotate.stages.caption import template_captioner
from partglee.annotate.stages.describe import Describe
from partglee.data.records import ImageRecord, Instance
from partglee.structures import Vocabulary


def sample_of(record: ImageRecord, names: Vocabulary) -> Sample:
    """Objects from left to right and parts, those with masks, as regions of the annotation engine; siblings of one name
    are merged by its tree rule within their owner.

    A description names objects in this order: one that can be seen in the image can be learned.
    """
    size = (record.height, record.width)
    regions: list[Region] = []
    rows: dict[int, int] = {}
    for level, instances in (("object", record.objects), ("part", record.parts)):
        for number in sorted(range(len(instances)), key=lambda row: _place(instances[row], level)):
            one = instances[number]
            if one.segmentation is None or one.crowd or (level == "part" and one.parent not in rows):
                continue
            label = (names.object_names if level == "object" else names.part_names)[one.label]
            mask = run_lengths(one.segmentation, size, f"image {record.image_id}")
            if level == "object":
                rows[number] = len(regions)
            regions.append(
                Region(name=label, level=level, mask=mask, box=box_of(mask),
                       parent=rows[one.parent] if level == "part" else -1)
            )  # fmt: skip
    sample = Sample(image_id=str(record.image_id), file=record.file.as_posix(), size=size, regions=regions)
    _merge_parts(sample)
    return sample


def _place(instance: Instance, level: str) -> float:
    """Where an object's middle lies; parts keep their order."""
    x0, _, x1, _ = instance.box
    return (x0 + x1) / 2 if level == "object" else 0.0


def described_nodes(record: ImageRecord, names: Vocabulary) -> list[int]:
    """What can be described: -1 for the whole image where it has objects, then rows of regions with parts."""
    return [one.node for one in _described(sample_of(record, names)).descriptions]


def describe_node(record: ImageRecord, names: Vocabulary, node: int) -> Record:
    """The description of a node of `described_nodes`."""
    sample = _described(sample_of(record, names))
    made = records_of(sample, record.pixels)
    return next(one for one, other in zip(made, sample.descriptions, strict=True) if other.node == node)


def records_of(sample: Sample, pixels: object = None) -> list[Record]:
    """A record of USCDF for each description of a sample, checked: each phrase has a mask, spans lie in the text.

    Raises:
        ValueError: for a description that announces another number of phrases than it has regions, or a region without
            a mask.
    """
    assert sample.size is not None
    found = []
    for description in sample.descriptions:
        what = f"record '{sample.image_id}', description of {description.node}"
        said = parse(description.text)
        if not said.well_formed or len(said.spans) != len(description.regions):
            raise ValueError(f"{what} announces {len(said.spans)} masks for {len(description.regions)} regions")
        rows = {number: row for row, number in enumerate(description.regions)}
        masks = []
        for number in description.regions:
            region = sample.regions[number]
            if region.mask is None:
                raise ValueError(f"{what}: region {number} ({region.name!r}) has no mask")
            masks.append(RegionMask(region.mask, region.name, rows.get(region.parent, -1)))
        root = description.node < 0
        label = "" if root else spoken_name(sample, description.node)
        found.append(
            Record(
                name=f"{sample.image_id}/{'root' if root else description.node}", image=sample.file, size=sample.size,
                task="mgsc_root" if root else "mgsc_subtree",
                turns=(
                    Said("user", wording="mgsc_root" if root else "mgsc_subtree", about=label),
                    Said("assistant", said.text, said.spans),
                ),
                masks=tuple(masks), pixels=pixels,  # type: ignore[arg-type]
            ).check()
        )  # fmt: skip
    return found


def spoken_name(sample: Sample, number: int) -> str:
    """What a region is called where it is the only one meant: its caption where that is a phrase, or its name."""
    region = sample.regions[number]
    caption = region.caption or ""
    return caption if caption and not caption.rstrip().endswith(".") else region.name


def _described(sample: Sample) -> Sample:
    objects = [number for number, region in sample.kept() if region.level == "object"]
    captions = template_captioner("")(None, sample.regions, objects)
    for number, caption in zip(objects, captions, strict=True):
        sample.regions[number].caption = caption
    Describe(by="caption").run([sample])
    return sample


def _merge_parts(sample: Sample) -> None:
    """Parts of one name of one object are one."""
    from partglee.annotate.masks import union

    groups: dict[tuple[int, str], list[int]] = {}
    for number, region in sample.kept():
        if region.level == "part":
            groups.setdefault((region.parent, region.name), []).append(number)
    for numbers in groups.values():
        first = sample.regions[numbers[0]]
        first.mask = union([mask for number in numbers if (mask := sample.regions[number].mask) is not None])
        first.box = box_of(first.mask)
        for other in numbers[1:]:
            sample.regions[other].dropped = f"merged into region {numbers[0]}"
