"""Released evaluation: the best (query, name) pairs of both levels (spec section 4).

Q object queries, P part queries, Co / Cp object / part names, K1 / K2 queries kept of each level, N pairs kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from partglee.modeling.frame import Frame, mask_confidence, one_image
from partglee.structures import LayerPrediction, Level, ModelOutput, Prediction, Vocabulary


@dataclass(frozen=True, kw_only=True)
class MultiLabel:
    """What is kept of one image: first queries of each level by their best name, then pairs of both levels together.

    No threshold. The released numbers differ by data set; the defaults are PACO's. The last one is not released: an
    object that several queries found is parsed as often, and its parts come as often.
    """

    object_queries: int = 100
    part_queries: int = 200
    detections: int = 300
    part_overlap: float | None = None  # of equally named parts whose boxes overlap more, the best stays; None: all

    def __post_init__(self) -> None:
        for name in ("object_queries", "part_queries", "detections"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
        overlap = self.part_overlap
        if overlap is not None and not (isinstance(overlap, (int, float)) and 0 <= overlap <= 1):
            raise ValueError(f"part_overlap must lie in [0, 1], got {overlap!r}; None = off")


class _Pairs(NamedTuple):
    """N pairs, best probability first."""

    part: Tensor  # (N,) bool
    query: Tensor  # (N,) of its level
    label: Tensor  # (N,) of its level
    score: Tensor  # (N,)


def best_pairs(
    output: ModelOutput, i: int, vocabulary: Vocabulary, frame: Frame, options: MultiLabel, *, masks: bool = True
) -> Prediction:
    """Image `i`. A pair's score is the name's probability times the confidence of the query's mask.

    A part's parent is the row of the object query that it was parsed from: with a name that has this part, where such a
    row is kept, else the best row of that query; -1 where none is kept.
    """
    objects = one_image(output.objects.layers[-1], i)
    parts = None if output.parts is None else one_image(output.parts.layers[-1], i)
    pairs = _top(objects.logits, None if parts is None else parts.logits, options)
    row_of = _Query(objects, parts)
    boxes = frame.boxes(row_of.boxes[row_of(pairs)])
    score, mask = pairs.score, None
    if masks and row_of.embed is not None:
        mask, confidence = _masks(row_of.embed, row_of(pairs), output.mask_features[i], frame)
        score = score * confidence
    if options.part_overlap is not None:
        stays = _best_of_overlapping(pairs, score, boxes, options.part_overlap)
        pairs, score, boxes = _Pairs(*(column[stays] for column in pairs)), score[stays], boxes[stays]
        mask = None if mask is None else mask[stays.cpu()]
    owner = torch.full_like(pairs.query, -1)
    if output.parent is not None:
        owner = _parents(pairs, score, output.parent[i], vocabulary.allowed.to(pairs.label.device))
    columns = zip(pairs.part.tolist(), pairs.label.tolist(), strict=True)
    return Prediction(
        boxes=boxes.cpu(),
        scores=score.cpu(),
        labels=pairs.label.cpu(),
        names=[vocabulary.part_names[c] if part else vocabulary.object_names[c] for part, c in columns],
        level=torch.where(pairs.part, int(Level.PART), int(Level.OBJECT)).cpu(),
        parent=owner.cpu(),
        image_size=frame.original,
        masks=mask,
    )


class _Query:
    """Queries of both levels in one list, objects first."""

    def __init__(self, objects: LayerPrediction, parts: LayerPrediction | None) -> None:
        layers = [objects] if parts is None else [objects, parts]
        self.num_objects = len(objects.boxes)
        self.boxes = torch.cat([layer.boxes for layer in layers])
        embed = [layer.mask_embed for layer in layers if layer.mask_embed is not None]
        self.embed = torch.cat(embed) if len(embed) == len(layers) else None

    def __call__(self, pairs: _Pairs) -> Tensor:
        return pairs.query + pairs.part * self.num_objects


def _top(objects: Tensor, parts: Tensor | None, options: MultiLabel) -> _Pairs:
    """(Q, Co) and (P, Cp) logits -> the best pairs of the best queries."""
    found = [_level(objects, options.object_queries, part=False)]
    if parts is not None:
        found.append(_level(parts, options.part_queries, part=True))
    part, query, label, logit = (torch.cat(column) for column in zip(*found, strict=True))
    best = logit.topk(min(options.detections, len(logit))).indices
    return _Pairs(part[best], query[best], label[best], logit[best].sigmoid())


def _best_of_overlapping(pairs: _Pairs, score: Tensor, boxes: Tensor, overlap: float) -> Tensor:
    """Rows that stay, in their order: all objects, and parts without a better one of their name in the same place."""
    part_rows = pairs.part.nonzero()[:, 0]
    best = batched_nms(boxes[part_rows].float(), score[part_rows], pairs.label[part_rows], overlap)
    stays = ~pairs.part
    stays[part_rows[best]] = True
    return stays.nonzero()[:, 0]


def _level(logits: Tensor, keep: int, *, part: bool) -> _Pairs:
    """All pairs of the `keep` queries with the highest logit of any name; the score is still a logit."""
    logits = logits.float()
    names = logits.shape[1]
    best = logits.max(dim=1).values if names else logits.new_zeros(len(logits))
    query = best.topk(min(keep, len(logits))).indices
    label = torch.arange(names, device=logits.device).repeat(len(query))
    pairs = query.repeat_interleave(names)
    return _Pairs(torch.full_like(pairs, part, dtype=torch.bool), pairs, label, logits[query].flatten())


def _masks(embed: Tensor, rows: Tensor, features: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
    """(N, H, W) bool masks on the CPU and (N,) confidences; a query with several names is drawn once."""
    unique, back = rows.unique(return_inverse=True)
    masks = torch.zeros(len(unique), *frame.original, dtype=torch.bool)
    confidence = embed.new_zeros(len(unique), dtype=torch.float32)
    for done, logits in frame.mask_logits(embed[unique], features):
        masks[done] = (logits > 0).cpu()
        confidence[done] = mask_confidence(logits)
    return masks[back.cpu()], confidence[back]


def _parents(pairs: _Pairs, score: Tensor, parent: Tensor, allowed: Tensor) -> Tensor:
    """(N,) row of each part's parent; -1 for objects, and where no row of the parent query is kept."""
    owner = torch.full_like(pairs.query, -1)
    part_rows, object_rows = pairs.part.nonzero()[:, 0], (~pairs.part).nonzero()[:, 0]
    if len(part_rows) == 0 or len(object_rows) == 0:
        return owner
    same = parent[pairs.query[part_rows]][:, None] == pairs.query[object_rows]  # (parts, objects)
    has_part = allowed[pairs.label[object_rows]][:, pairs.label[part_rows]].t()
    # Probabilities and confidences are at most 1, so a name that has the part outweighs any score.
    rank = (2.0 * has_part + score[object_rows]).masked_fill(~same, -1.0)
    best, column = rank.max(dim=1)
    owner[part_rows] = torch.where(best >= 0, object_rows[column], -1)
    return owner
