"""Released evaluation: the best (query, name) pairs of both levels.

Q object queries, P part queries, Co / Cp object / part names, K1 / K2 queries kept of each level, N pairs kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from partglee.modeling.frame import Frame, ImageQueries, Rows, check_mask_box
from partglee.structures import ModelOutput, Prediction, Vocabulary


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
    mask_box: float | None = None  # masks end at so many times their box; None: anywhere (released)

    def __post_init__(self) -> None:
        for name in ("object_queries", "part_queries", "detections"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise ValueError(f"{name} must be a whole number of at least 0, got {value!r}")
        overlap = self.part_overlap
        if overlap is not None and not (isinstance(overlap, (int, float)) and 0 <= overlap <= 1):
            raise ValueError(f"part_overlap must lie in [0, 1], got {overlap!r}; None = off")
        check_mask_box(self.mask_box)


def best_pairs(
    output: ModelOutput, i: int, vocabulary: Vocabulary, frame: Frame, options: MultiLabel, *, masks: bool = True
) -> Prediction:
    """Image `i`. A pair's score is the name's probability times the confidence of the query's mask.

    A part's parent is the row of the object query that it was parsed from: with a name that has this part, where such a
    row is kept, else the best row of that query; -1 where none is kept.
    """
    queries = ImageQueries(output, i, frame, mask_box=options.mask_box)
    pairs, mask = _top(queries, options), None
    if masks and queries.embed is not None:
        mask, confidence = _masks(queries, pairs)
        pairs = pairs._replace(score=pairs.score * confidence)
    if options.part_overlap is not None:
        stays = _best_of_overlapping(pairs, queries.boxes(pairs), options.part_overlap)
        pairs, mask = pairs.take(stays), None if mask is None else mask[stays.cpu()]
    parent = None
    if queries.parent is not None:
        parent = _parents(pairs, queries.parent, vocabulary.allowed.to(pairs.label.device))
    return queries.prediction(pairs, names=vocabulary, parent=parent, masks=mask)


def _top(queries: ImageQueries, options: MultiLabel) -> Rows:
    """The best pairs of the best queries of both levels."""
    levels = [_level(queries.objects, options.object_queries, part=False)]
    if queries.parts is not None:
        levels.append(_level(queries.parts, options.part_queries, part=True))
    pairs = Rows.join(levels)
    pairs = pairs.take(pairs.score.topk(min(options.detections, len(pairs.score))).indices)
    return pairs._replace(score=pairs.score.sigmoid())


def _best_of_overlapping(pairs: Rows, boxes: Tensor, overlap: float) -> Tensor:
    """Rows that stay, in their order: all objects, and parts without a better one of their name in the same place."""
    part_rows = pairs.part.nonzero()[:, 0]
    best = batched_nms(boxes[part_rows].float(), pairs.score[part_rows], pairs.label[part_rows], overlap)
    stays = ~pairs.part
    stays[part_rows[best]] = True
    return stays.nonzero()[:, 0]


def _level(logits: Tensor, keep: int, *, part: bool) -> Rows:
    """All pairs of the `keep` queries with the highest logit of any name; the score is still a logit."""
    names = logits.shape[1]
    best = logits.max(dim=1).values if names else logits.new_zeros(len(logits))
    query = best.topk(min(keep, len(logits))).indices
    label = torch.arange(names, device=logits.device).repeat(len(query))
    pairs = query.repeat_interleave(names)
    return Rows(torch.full_like(pairs, part, dtype=torch.bool), pairs, label, logits[query].flatten())


def _masks(queries: ImageQueries, pairs: Rows) -> tuple[Tensor, Tensor]:
    """(N, H, W) bool masks on the CPU and (N,) confidences; a query with several names is drawn once."""
    assert queries.embed is not None
    unique, back = queries.index(pairs).unique(return_inverse=True)
    masks = torch.zeros(len(unique), *queries.frame.original, dtype=torch.bool)
    confidence = queries.embed.new_zeros(len(unique), dtype=torch.float32)
    for done, found in queries.image_masks(unique, inside=True, confidence=True):
        assert found.inside is not None and found.confidence is not None
        masks[done] = found.inside.cpu()
        confidence[done] = found.confidence
    return masks[back.cpu()], confidence[back]


def _parents(pairs: Rows, parent: Tensor, allowed: Tensor) -> Tensor:
    """(N,) row of each part's parent; -1 for objects, and where no row of the parent query is kept."""
    owner = torch.full_like(pairs.query, -1)
    part_rows, object_rows = pairs.part.nonzero()[:, 0], (~pairs.part).nonzero()[:, 0]
    if len(part_rows) == 0 or len(object_rows) == 0:
        return owner
    same = parent[pairs.query[part_rows]][:, None] == pairs.query[object_rows]  # (parts, objects)
    has_part = allowed[pairs.label[object_rows]][:, pairs.label[part_rows]].t()
    # Probabilities and confidences are at most 1, so a name that has the part outweighs any score.
    rank = (2.0 * has_part + pairs.score[object_rows]).masked_fill(~same, -1.0)
    best, column = rank.max(dim=1)
    owner[part_rows] = torch.where(best >= 0, object_rows[column], -1)
    return owner
