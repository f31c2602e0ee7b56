"""One image of a batch: its way from the padded canvas back to its own pixels, and rows picked from its queries.

N rows, Q object and P part queries, C names of a level, E width, h x w the stride-4 map, (H, W) the original image.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert

from partglee.ops.dispatch import native_masks
from partglee.ops.masks import ImageMasks, compared, image_masks, mask_logits, masks_to_image
from partglee.structures import Level, ModelOutput, Prediction, Vocabulary

# Mask logits upsampled at once. A processor keeps 6 MB of them in its caches while they are read a few times, and does
# not touch fresh memory for each pass; a GPU is busy with 128 MB.
_PIXELS_PER_PASS_CPU = 1_500_000
_PIXELS_PER_PASS = 32_000_000
_ROWS_PER_PRODUCT = 32  # of the stride-4 map; a product of one row reads all features for little work


@dataclass(frozen=True)
class Frame:
    """One image's way from the canvas back to its own pixels."""

    canvas: tuple[int, int]
    resized: tuple[int, int]
    original: tuple[int, int]

    def boxes(self, boxes: Tensor) -> Tensor:
        """(N, 4) cxcywh of the canvas in [0, 1] -> xyxy in pixels of the original image, clipped to it."""
        (canvas_h, canvas_w), (h, w), (height, width) = self.canvas, self.resized, self.original
        scale = boxes.new_tensor([canvas_w * width / w, canvas_h * height / h]).repeat(2)
        xyxy = box_convert(boxes, "cxcywh", "xyxy") * scale
        limit = boxes.new_tensor([width, height, width, height])
        return xyxy.clamp(min=0).minimum(limit)

    def mask_logits(self, embed: Tensor, features: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """(N, E), (E, h, w) -> logits (n, H, W) of a few rows at a time."""
        height, width = self.original
        per_row = max(height * width, self.canvas[0] * self.canvas[1])
        step = max(1, (_PIXELS_PER_PASS_CPU if embed.device.type == "cpu" else _PIXELS_PER_PASS) // per_row)
        for rows, small in _small_logits(embed, features, max(step, _ROWS_PER_PRODUCT)):
            for start in range(0, len(small), step):
                logits = masks_to_image(
                    small[start : start + step], canvas=self.canvas, padded_from=self.resized, image_size=self.original
                )
                yield slice(rows.start + start, rows.start + start + len(logits)), logits

    def image_masks(
        self,
        embed: Tensor,
        features: Tensor,
        *,
        inside: bool = False,
        confidence: bool = False,
        windows: Tensor | None = None,
    ) -> Iterator[tuple[slice, ImageMasks]]:
        """(N, E), (E, h, w) -> masks and confidences, as asked for, of a few rows at a time.

        Args:
            windows: (N, 4) of `windows`, which masks end at.
        """
        wanted = {"inside": inside, "confidence": confidence}
        if native_masks(embed):
            for rows, small in _small_logits(embed, features, _ROWS_PER_PRODUCT):
                yield rows, image_masks(
                    small, canvas=self.canvas, padded_from=self.resized, image_size=self.original,
                    windows=None if windows is None else windows[rows], **wanted,
                )  # fmt: skip
            return
        for rows, logits in self.mask_logits(embed, features):
            yield rows, compared(logits, windows=None if windows is None else windows[rows], **wanted)

    def windows(self, boxes: Tensor, size: float) -> Tensor:
        """(N, 4) xyxy boxes in pixels of the image -> (N, 4) long top, bottom, left, right: `size` times the box around
        its centre, and a pixel more on each side, as far as that is in the image."""
        height, width = self.original
        return mask_windows(boxes, size, limit=boxes.new_tensor([width, height]))

    def masks(self, embed: Tensor, features: Tensor, windows: Tensor | None = None) -> Tensor:
        """(N, E), (E, h, w) -> (N, H, W) bool masks on the CPU."""
        masks: Tensor | None = None
        for rows, found in self.image_masks(embed, features, inside=True, windows=windows):
            assert found.inside is not None
            if rows == slice(0, len(embed)):
                return found.inside.cpu()
            if masks is None:
                masks = torch.empty(len(embed), *self.original, dtype=torch.bool)
            masks[rows] = found.inside.cpu()
        return torch.zeros(0, *self.original, dtype=torch.bool) if masks is None else masks


def mask_windows(boxes: Tensor, size: float, *, limit: Tensor) -> Tensor:
    """`Frame.windows` of an image whose width and height are `limit` (2,), which a graph may not know as numbers."""
    centre, half = (boxes[:, :2] + boxes[:, 2:]) / 2, size * (boxes[:, 2:] - boxes[:, :2]) / 2 + 1
    (left, top), (right, bottom) = (
        side.round().clamp(min=0).minimum(limit).long().unbind(1) for side in (centre - half, centre + half)
    )
    return torch.stack((top, bottom, left, right), 1)


def check_mask_box(size: float | None) -> None:
    """Raise ValueError for what is no size of a box that masks end at."""
    if size is not None and not (isinstance(size, (int, float)) and size > 0):
        raise ValueError(
            f"mask_box must be above 0, such as 1.2 times the box, got {size!r}; "
            "0 in a call or in TEST.MASK_BOX = masks lie anywhere"
        )


def _small_logits(embed: Tensor, features: Tensor, count: int) -> Iterator[tuple[slice, Tensor]]:
    """(n, h, w) float32 logits of `count` rows at a time."""
    for first in range(0, len(embed), count):
        small = mask_logits(embed[first : first + count], features).float()
        yield slice(first, first + len(small)), small


class Rows(NamedTuple):
    """N candidates of one image: queries with one of their names."""

    part: Tensor  # (N,) bool, of the part level
    query: Tensor  # (N,) long, of its level
    label: Tensor  # (N,) long, of its level
    score: Tensor  # (N,)

    def take(self, keep: Tensor | slice) -> Rows:
        """Some of them, in the order given."""
        if isinstance(keep, Tensor) and keep.dtype == torch.bool:
            keep = keep.nonzero()[:, 0]  # once: a device has to be waited for to know how many there are
        return Rows(*(column[keep] for column in self))

    @staticmethod
    def join(parts: Sequence[Rows]) -> Rows:
        """One after the other."""
        return Rows(*(torch.cat(column) for column in zip(*parts, strict=True)))


class ImageQueries:
    """What the last layers of both levels say of one image, and its way back to its own pixels.

    Args:
        i: row of the image in the batch.
        mask_box: masks end at so many times their box; None = masks lie anywhere.
    """

    def __init__(self, output: ModelOutput, i: int, frame: Frame, *, mask_box: float | None = None) -> None:
        self.mask_box = mask_box
        levels = [output.objects] if output.parts is None else [output.objects, output.parts]
        layers = [level.layers[-1] for level in levels]
        self.frame = frame
        self.features = output.mask_features[i]  # (E, h, w)
        self.objects = layers[0].logits[i].float()  # (Q, C)
        self.parts = None if output.parts is None else layers[1].logits[i].float()  # (P, C)
        self.parent = None if output.parent is None else output.parent[i]  # (P,) object query of each part query
        self._boxes = torch.cat([layer.boxes[i] for layer in layers])
        embeds = [layer.mask_embed[i] for layer in layers if layer.mask_embed is not None]
        self.embed = torch.cat(embeds) if len(embeds) == len(layers) else None  # (Q + P, E), objects first

    def index(self, rows: Rows) -> Tensor:
        """(N,) rows of both levels in one list, objects first."""
        return rows.query + rows.part * len(self.objects)

    def boxes(self, rows: Rows) -> Tensor:
        """(N, 4) xyxy in pixels of the original image."""
        return self.frame.boxes(self._boxes[self.index(rows)])

    def windows(self, index: Tensor) -> Tensor | None:
        """(N, 4) where masks of rows of `index` may lie, in pixels of the image; None = anywhere."""
        return (
            None if self.mask_box is None else self.frame.windows(self.frame.boxes(self._boxes[index]), self.mask_box)
        )

    def image_masks(
        self, index: Tensor, *, inside: bool = False, confidence: bool = False
    ) -> Iterator[tuple[slice, ImageMasks]]:
        """As `Frame.image_masks`, of rows of `index`; nothing where masks were not predicted."""
        if self.embed is None:
            return iter(())
        return self.frame.image_masks(
            self.embed[index], self.features, inside=inside, confidence=confidence, windows=self.windows(index)
        )

    def confidences(self, rows: Rows) -> Iterator[tuple[slice, Tensor]]:
        """Mean probability inside the mask, of a few rows at a time; nothing where masks were not predicted."""
        for done, found in self.image_masks(self.index(rows), confidence=True):
            assert found.confidence is not None
            yield done, found.confidence

    def masks(self, rows: Rows) -> Tensor | None:
        """(N, H, W) bool on the CPU; None where masks were not predicted."""
        index = self.index(rows)
        return None if self.embed is None else self.frame.masks(self.embed[index], self.features, self.windows(index))

    def prediction(
        self,
        rows: Rows,
        *,
        names: Sequence[Sequence[str]] | Vocabulary,
        parent: Tensor | None = None,
        masks: Tensor | None = None,
    ) -> Prediction:
        """The rows as the user meets them, on the CPU.

        Args:
            names: a vocabulary; or names of objects, of parts, by label.
            parent: (N,) row of each part's object, -1 = none; None = of no row.
            masks: (N, H, W) bool on the CPU.
        """
        vocabulary = names if isinstance(names, Vocabulary) else None
        listed = (names.object_names, names.part_names) if isinstance(names, Vocabulary) else names
        parent = torch.full_like(rows.label, -1) if parent is None else parent
        # Two copies, since each waits for the device.
        part, label, parent = torch.stack((rows.part.long(), rows.label, parent)).cpu()
        numbers = torch.cat((self.boxes(rows), rows.score[:, None]), 1).cpu()
        return Prediction(
            boxes=numbers[:, :4].contiguous(),
            scores=numbers[:, 4].contiguous(),
            labels=label,
            names=[listed[of][name] for of, name in zip(part.tolist(), label.tolist(), strict=True)],
            level=torch.where(part.bool(), int(Level.PART), int(Level.OBJECT)),
            parent=parent,
            image_size=self.frame.original,
            masks=masks,
            vocabulary=vocabulary,
        )
