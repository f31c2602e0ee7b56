"""Copy-paste: objects of another image of the data set, with their parts, over an image (Ghiasi et al., CVPR 2021).

What is pasted is cut out along its masks and lies somewhere else than in its own image. What it hides is no target any
more, or a smaller one. Both images are of one data set, as in a mosaic: one vocabulary, one meaning of what is
unlabelled.

H x W the image that is pasted over, h x w a piece that is cut out, N instances of one level.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from partglee.data.mapper import LevelSample, Sample, box_around
from partglee.data.mosaic import SampleMapper, looked_for
from partglee.data.records import ImageRecord, Records
from partglee.data.transforms import Size

Place = tuple[int, int]  # row and column of the top left pixel, negative where it begins outside

_COMES_ALONG = 0.5  # share of an instance that a cut-out shows from which on it is a target of the whole
_HIDDEN = 0.9  # share of an instance that is pasted over from which on it is none
_MOST = 0.5  # of an image that may be pasted over: with more it would be the other image


class Piece(NamedTuple):
    """Objects that are cut out, as small as they go."""

    sample: Sample  # (3, h, w), and what of its instances is seen
    seen: NDArray[np.bool_]  # (h, w)


class CopyPasteMapper:
    """Samples of single images, and with a chance with objects of another image over them.

    Args:
        records: that the others are drawn from, now and then the same image.
        single: a record to a sample.
        donors: a record to a sample that objects are taken from, at one size each; one of them is drawn.
        chance: that something is pasted, 0..1. A record with referring expressions is always shown as it is, and
            nothing is taken from one: they speak of one image. Nor is anything pasted where the other image has no
            object with a mask, or where it would hide more than half.
        max_instances: objects and parts; what would have more stays without the piece.
        min_area: pixels of a mask (or box) below which an instance is dropped.
        boxes_from_masks: an instance that is hidden in part gets the box around the rest; False = it keeps its own.
            What is pasted has the box around its mask in any case.
    """

    def __init__(
        self,
        records: Records,
        *,
        single: SampleMapper,
        donors: Sequence[SampleMapper],
        chance: float,
        max_instances: int = 500,
        min_area: float = 1.0,
        boxes_from_masks: bool = True,
    ) -> None:
        self.records = records
        self.single = single
        if not donors:
            raise ValueError(
                "objects that are pasted come from a sample of another image; expected one mapper at least"
            )
        self.donors = tuple(donors)
        self.chance = chance
        self.max_instances = max_instances
        self.min_area = min_area
        self.boxes_from_masks = boxes_from_masks

    def __call__(self, record: ImageRecord, rng: np.random.Generator) -> Sample:
        """A sample, the same one for the same state of `rng`.

        Raises:
            FileNotFoundError, ValueError: for an image that cannot be read, be it the other one.
        """
        sample = self.single(record, rng)
        if record.expressions or rng.random() >= self.chance:
            return sample
        other = self.records[int(rng.integers(len(self.records)))]
        if other.expressions or not any(one.segmentation is not None and not one.crowd for one in other.objects):
            return sample
        donor = self.donors[int(rng.integers(len(self.donors)))](other, rng)
        rows = _some(donor.objects, rng)
        if not len(rows):
            return sample
        piece = cut_out(donor, rows)
        height, width = sample.image.shape[1:]
        place = _somewhere(piece.seen.shape[0], height, rng), _somewhere(piece.seen.shape[1], width, rng)
        if sum(len(level.labels) for one in (sample, piece.sample) for level in one[1:3]) > self.max_instances:
            return sample
        if _placed(piece.seen, (height, width), place).mean() > _MOST:
            return sample
        return paste(sample, piece, place, min_area=self.min_area, boxes_from_masks=self.boxes_from_masks)


def cut_out(sample: Sample, rows: NDArray[np.int64]) -> Piece:
    """Some objects of a sample, with all that is seen with them: their parts, and what else lies at least half in them.

    Other objects that reach into them are left out of what is seen: shown without their name they would count as none.

    Args:
        rows: of objects, each with a mask.

    Raises:
        ValueError: for rows that have no mask.
    """
    masks = sample.objects.masks
    if not len(rows) or masks is None or not masks[rows].any((1, 2)).all():
        raise ValueError(f"objects are cut out along their masks, and not all of the rows {rows.tolist()} have one")
    seen: NDArray[np.bool_] = np.logical_or.reduce(masks[rows], axis=0)
    along = share_in(sample.objects, seen) >= _COMES_ALONG
    alone = seen & ~np.logical_or.reduce(masks[~along], axis=0)
    seen = alone if alone.any() else seen
    kept, objects = _cut(sample.objects, along, seen)
    kept_parts, parts = _cut(sample.parts, share_in(sample.parts, seen) >= _COMES_ALONG, seen)
    x0, y0, x1, y1 = box_around(seen)
    small = Sample(
        sample.image[:, y0:y1, x0:x1], objects, parts, _renumbered(sample.parent[kept_parts], kept), sample.file
    )
    return Piece(small, seen[y0:y1, x0:x1])


def paste(
    sample: Sample, piece: Piece, place: Place, *, min_area: float = 1.0, boxes_from_masks: bool = True
) -> Sample:
    """A sample under a piece.

    Args:
        place: of the piece's top left pixel in the sample; what lies outside is cut off.
        min_area, boxes_from_masks: as of `CopyPasteMapper`.

    Returns:
        What is left of the sample's instances, then those of the piece. A part whose object is hidden has no parent.
    """
    size = sample.image.shape[1], sample.image.shape[2]
    hidden = _placed(piece.seen, size, place)
    over = torch.from_numpy(_placed(piece.sample.image.numpy(), size, place))
    image = torch.where(torch.from_numpy(hidden), over, sample.image)
    options: dict[str, Any] = {"min_area": min_area, "boxes_from_masks": boxes_from_masks}
    objects, rows = _below_and_above(sample.objects, piece.sample.objects, hidden, place, **options)
    parts, part_rows = _below_and_above(sample.parts, piece.sample.parts, hidden, place, **options)
    later = np.where(piece.sample.parent >= 0, piece.sample.parent + len(sample.objects.labels), -1)
    parent = _renumbered(np.concatenate([sample.parent, later])[part_rows], rows)
    return Sample(image, objects, parts, parent, sample.file)


def share_in(level: LevelSample, region: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(N,) how much of each instance lies in a region (h, w), 0..1: of its mask, or of its box where it has none."""
    share = np.zeros(len(level.labels))
    for row, box in enumerate(level.boxes):
        if level.masks is not None and level.masks[row].any():
            share[row] = region[level.masks[row]].mean()
        else:
            x0, y0, x1, y1 = box.round().astype(int)
            inside = region[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
            share[row] = inside.sum() / max((x1 - x0) * (y1 - y0), 1)
    return share


def _some(objects: LevelSample, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of objects that have a mask: each with an even chance, but one at least."""
    if objects.masks is None:
        return np.zeros(0, np.int64)
    rows = np.flatnonzero(objects.masks.any((1, 2)))
    drawn = rows[rng.random(len(rows)) < 0.5]
    return drawn if len(drawn) or not len(rows) else rows[[int(rng.integers(len(rows)))]]


def _somewhere(length: int, room: int, rng: np.random.Generator) -> int:
    """Where a piece begins: wholly inside, or where it is larger, over all of the image."""
    low, high = sorted((0, room - length))
    return int(rng.integers(low, high + 1))


def _cut(level: LevelSample, keep: NDArray[np.bool_], seen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], LevelSample]:
    """(rows that stay, what is seen of them, from the corner of all that is seen on)."""
    x0, y0, x1, y1 = box_around(seen)
    masks = level.masks
    if masks is not None:
        keep = keep & ((masks & seen).any((1, 2)) | ~masks.any((1, 2)))
        masks = (masks[keep] & seen)[:, y0:y1, x0:x1]
    boxes = level.boxes[keep].clip([x0, y0] * 2, [x1, y1] * 2) - [x0, y0] * 2
    for row, mask in enumerate(() if masks is None else masks):
        if mask.any():
            boxes[row] = box_around(mask)
    labels = level.labels[keep]
    negative, not_exhaustive = looked_for([level], set(labels.tolist()))
    return np.flatnonzero(keep), LevelSample(labels, boxes, masks, negative, not_exhaustive)


def _below_and_above(
    below: LevelSample,
    above: LevelSample,
    hidden: NDArray[np.bool_],
    place: Place,
    *,
    min_area: float,
    boxes_from_masks: bool,
) -> tuple[LevelSample, NDArray[np.int64]]:
    """(instances that are left, their rows among those below and then those above)."""
    (height, width), count = hidden.shape, len(below.labels)
    lost = share_in(below, hidden)
    labels = np.concatenate([below.labels, above.labels])
    inside = (above.boxes + [place[1], place[0]] * 2).clip(0, [width, height] * 2)
    boxes = np.concatenate([below.boxes, inside])
    masks: NDArray[np.bool_] | None = None
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    if below.masks is not None or above.masks is not None:
        masks = np.zeros((len(labels), height, width), bool)
        if below.masks is not None:
            masks[:count] = below.masks
            masks[np.flatnonzero(lost)] &= ~hidden
        if above.masks is not None:
            masks[count:] = _placed(above.masks, (height, width), place)
            area[count:][above.masks.any((1, 2))] = 0  # unless some of it lies in the image, see below
        for row in np.flatnonzero(masks.any((1, 2))):
            area[row] = np.count_nonzero(masks[row])
            if row >= count or (boxes_from_masks and lost[row] > 0):
                boxes[row] = box_around(masks[row])
    kept = (area > 0) & (area >= min_area)
    kept[:count] &= lost < _HIDDEN
    rows = np.flatnonzero(kept)
    negative, not_exhaustive = looked_for([below, above], set(labels[rows].tolist()))
    return LevelSample(
        labels[rows], boxes[rows], None if masks is None else masks[rows], negative, not_exhaustive
    ), rows


def _placed(array: NDArray[Any], size: Size, place: Place) -> NDArray[Any]:
    """(.., h, w) -> (.., H, W), zero around it."""
    whole = np.zeros((*array.shape[:-2], *size), array.dtype)
    (top, left), (height, width) = place, array.shape[-2:]
    y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + height, size[0]), min(left + width, size[1])
    if y0 < y1 and x0 < x1:
        whole[..., y0:y1, x0:x1] = array[..., y0 - top : y1 - top, x0 - left : x1 - left]
    return whole


def _renumbered(parent: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rows of objects, among those that are left; -1 where the object is not."""
    new = {int(row): place for place, row in enumerate(rows)}
    return np.array([new.get(int(row), -1) for row in parent], np.int64)
