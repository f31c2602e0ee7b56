"""Model output to predictions in image coordinates, with the parent of every part (spec section 4).

B images, Q object queries, P part queries, Co / Cp object / part names, N rows kept, E width, h x w the stride-4 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert

from partglee.ops.masks import mask_logits, masks_to_image
from partglee.structures import ImageBatch, LayerPrediction, Level, ModelOutput, Prediction, Vocabulary

_PIXELS_PER_PASS = 32_000_000  # mask logits upsampled at once: 128 MB in float32


@dataclass(frozen=True, kw_only=True)
class PostprocessOptions:
    """What is kept of one image.

    Each query gets one name, its best. Its score is the name's probability times the mask's own confidence: the mean
    probability of its foreground pixels.
    """

    score_threshold: float = 0.3  # objects below it are dropped and take their parts along
    part_score_threshold: float | None = None  # None: as for objects
    max_objects: int = 100
    max_parts_per_object: int | None = None
    restrict_parts: bool = True  # parts only under an object that has them; False: all part names compete (released)
    part_overlap: float | None = (
        0.7  # of equally named parts of one object that overlap more, the best stays; None: all
    )
    masks: bool = True  # False: boxes alone, scored without mask confidence

    def __post_init__(self) -> None:
        for name in ("score_threshold", "part_score_threshold", "part_overlap"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        for name in ("max_objects", "max_parts_per_object"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")


@dataclass(frozen=True)
class _Rows:
    """N candidate rows of one level in one image."""

    query: Tensor  # (N,)
    label: Tensor  # (N,)
    score: Tensor  # (N,)

    def __getitem__(self, keep: Tensor) -> _Rows:
        return _Rows(self.query[keep], self.label[keep], self.score[keep])


@dataclass(frozen=True)
class _Frame:
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

    def masks(self, embed: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """(N, E), (E, h, w) -> (N, H, W) bool masks and (N,) mean foreground probability; upsampled a few at a time."""
        height, width = self.original
        per_row = max(height * width, self.canvas[0] * self.canvas[1])
        masks = torch.zeros(len(embed), height, width, dtype=torch.bool, device=embed.device)
        quality = embed.new_zeros(len(embed), dtype=torch.float32)
        step = max(1, _PIXELS_PER_PASS // per_row)
        for start in range(0, len(embed), step):
            rows = slice(start, start + step)
            logits = masks_to_image(
                mask_logits(embed[rows], features).float(),
                canvas=self.canvas,
                padded_from=self.resized,
                image_size=self.original,
            )
            inside = logits > 0
            masks[rows] = inside
            total = (logits.sigmoid() * inside).flatten(1).sum(1)
            quality[rows] = total / (inside.flatten(1).sum(1) + 1e-6)
        return masks, quality


def postprocess(
    output: ModelOutput,
    vocabulary: Vocabulary,
    images: ImageBatch,
    original_sizes: Sequence[tuple[int, int]],
    options: PostprocessOptions | None = None,
) -> list[Prediction]:
    """One prediction for each image, on the CPU.

    Args:
        vocabulary: the one that `output.text` was made from.
        images: the batch that the model saw.
        original_sizes: (H, W) of each image before it was resized.
    """
    options = options or PostprocessOptions()
    allowed = vocabulary.allowed.to(output.mask_features.device)
    predictions = []
    for i, (resized, original) in enumerate(zip(images.sizes, original_sizes, strict=True)):
        frame = _Frame(images.canvas, resized, original)
        features = output.mask_features[i]
        layer = _one_image(output.objects.layers[-1], i)
        objects, object_masks = _decide(
            _best_name(layer.logits), layer, features, frame, options, options.score_threshold
        )
        order = objects.score.argsort(descending=True, stable=True)[: options.max_objects]
        objects, object_masks = objects[order], object_masks[order]
        object_boxes = frame.boxes(layer.boxes[objects.query])
        parts, owner, part_boxes, part_masks = _parts(output, i, objects, allowed, frame, options)
        names = [vocabulary.object_names[c] for c in objects.label.tolist()]
        names += [vocabulary.part_names[c] for c in parts.label.tolist()]
        num_objects, num_parts = len(objects.query), len(parts.query)
        predictions.append(
            Prediction(
                boxes=torch.cat((object_boxes, part_boxes)).cpu(),
                scores=torch.cat((objects.score, parts.score)).cpu(),
                labels=torch.cat((objects.label, parts.label)).cpu(),
                names=names,
                level=torch.tensor([Level.OBJECT] * num_objects + [Level.PART] * num_parts, dtype=torch.long),
                parent=torch.cat((torch.full((num_objects,), -1), owner.cpu())),
                image_size=original,
                masks=torch.cat((object_masks, part_masks)).cpu() if options.masks else None,
            )
        )
    return predictions


def _parts(
    output: ModelOutput, i: int, objects: _Rows, allowed: Tensor, frame: _Frame, options: PostprocessOptions
) -> tuple[_Rows, Tensor, Tensor, Tensor]:
    """Rows, object row, boxes and masks of the parts of the kept objects."""
    features = output.mask_features[i]
    none = objects.query.new_zeros(0)
    if output.parts is None or output.parent is None or len(objects.query) == 0:
        empty = _Rows(none, none, features.new_zeros(0, dtype=torch.float32))
        return empty, none, features.new_zeros(0, 4), _no_masks(frame, features)
    layer = _one_image(output.parts.layers[-1], i)
    num_queries = output.objects.layers[-1].logits.shape[1]
    row_of_query = objects.query.new_full((num_queries,), -1)
    row_of_query[objects.query] = torch.arange(len(objects.query), device=objects.query.device)
    owner_row = row_of_query[output.parent[i]]  # (P,), -1: its object is not kept
    logits = layer.logits
    if options.restrict_parts:
        logits = logits.masked_fill(~allowed[objects.label[owner_row.clamp(min=0)]], float("-inf"))
    rows = _best_name(logits)
    rows = rows[owner_row[rows.query] >= 0]
    rows = rows[torch.isfinite(logits[rows.query, rows.label])]
    threshold = options.score_threshold if options.part_score_threshold is None else options.part_score_threshold
    rows, masks = _decide(rows, layer, features, frame, options, threshold)
    keep = rows.score.argsort(descending=True, stable=True)
    boxes = frame.boxes(layer.boxes[rows.query])
    owner = owner_row[rows.query]
    if options.part_overlap is not None:
        group = owner * logits.shape[-1] + rows.label
        keep = batched_nms(boxes, rows.score, group, options.part_overlap)  # best first
    if options.max_parts_per_object is not None:
        keep = keep[_rank_within(owner[keep]) < options.max_parts_per_object]
    return rows[keep], owner[keep], boxes[keep], masks[keep]


def _best_name(logits: Tensor) -> _Rows:
    """(Q, C) -> one row for each query."""
    best, label = logits.float().max(dim=-1)
    return _Rows(torch.arange(len(best), device=best.device), label, best.sigmoid())


def _decide(
    rows: _Rows,
    layer: LayerPrediction,
    features: Tensor,
    frame: _Frame,
    options: PostprocessOptions,
    threshold: float,
) -> tuple[_Rows, Tensor]:
    """Keep rows by final score. Mask confidence is at most 1, so masks are made for rows that can still pass, alone."""
    rows = rows[rows.score >= threshold]
    if (
        len(rows.query) > 3 * options.max_objects and threshold == 0
    ):  # everything passes: the best candidates are enough
        rows = rows[rows.score.topk(3 * options.max_objects).indices]
    if not options.masks or layer.mask_embed is None:
        return rows, _no_masks(frame, features, len(rows.query))
    masks, quality = frame.masks(layer.mask_embed[rows.query], features)
    rows = _Rows(rows.query, rows.label, rows.score * quality)
    keep = rows.score >= threshold
    return rows[keep], masks[keep]


def _one_image(layer: LayerPrediction, i: int) -> LayerPrediction:
    embed = None if layer.mask_embed is None else layer.mask_embed[i]
    return LayerPrediction(layer.logits[i], layer.boxes[i], embed)


def _no_masks(frame: _Frame, like: Tensor, rows: int = 0) -> Tensor:
    """Rows of an empty mask; a view of one when masks are off, so that nothing is allocated."""
    return torch.zeros(1, 1, 1, dtype=torch.bool, device=like.device).expand(rows, *frame.original)


def _rank_within(group: Tensor) -> Tensor:
    """(N,) groups, best row first -> (N,) how many better rows each row's group has."""
    same = group[:, None] == group[None]
    return same.tril(-1).sum(1)
