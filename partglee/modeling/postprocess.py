"""Model output to predictions in image coordinates, with the parent of every part.

B images, Q object queries, P part queries, Co / Cp object / part names, N rows kept, E width, h x w the stride-4 map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from partglee.modeling.frame import Frame, ImageQueries, Rows, check_mask_box
from partglee.modeling.multi_label import MultiLabel, best_pairs
from partglee.modeling.overlap import best_of_overlapping
from partglee.ops.masks import compared, mask_logits
from partglee.structures import Grounding, ImageBatch, ModelOutput, Prediction, Vocabulary


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
    # Of equally named objects that overlap more (intersection over union, of masks where there are some), the best
    # stays, with its parts; None: all (released)
    object_overlap: float | None = 0.7
    across_names: bool = False  # objects of different names count as equally named
    # Of equally named parts of one object whose boxes overlap more, the best stays; None: all
    part_overlap: float | None = 0.7
    # Of equally named parts of one object of which one lies in the other by a larger share, the best stays; None: all
    part_inside: float | None = 0.9
    mask_box: float | None = None  # masks end at so many times their box; None: they lie anywhere (released)
    masks: bool = True  # False: boxes alone, scored without mask confidence
    max_queries: int | None = None  # consider only the object queries of highest probability; grounding takes 1
    # Released evaluation: every name of every query is a candidate; then nothing above counts but `masks`
    multi_label: MultiLabel | None = None

    def __post_init__(self) -> None:
        for name in ("score_threshold", "part_score_threshold", "object_overlap", "part_overlap", "part_inside"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (int, float)):
                raise TypeError(f"{name} must be a number, got {type(value).__name__} {value!r}")
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} must lie in [0, 1], got {value}")
        check_mask_box(self.mask_box)
        for name in ("max_objects", "max_parts_per_object", "max_queries"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, int):
                raise TypeError(f"{name} must be a whole number, got {type(value).__name__} {value!r}")
            if value is not None and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")


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
    frames = [
        Frame(images.canvas, resized, (int(original[0]), int(original[1])))
        for resized, original in zip(images.sizes, original_sizes, strict=True)
    ]
    return [postprocess_image(output, i, vocabulary, frame, options) for i, frame in enumerate(frames)]


def postprocess_image(
    output: ModelOutput,
    i: int,
    vocabulary: Vocabulary,
    frame: Frame,
    options: PostprocessOptions,
    objects: Rows | None = None,
) -> Prediction:
    """`postprocess` of image `i` alone.

    Args:
        objects: what `kept_objects` gave, if it has been asked.
    """
    if options.multi_label is not None:
        return best_pairs(output, i, vocabulary, frame, options.multi_label, masks=options.masks)
    return _one_name_each(output, i, vocabulary, frame, options, objects)


def kept_objects(output: ModelOutput, i: int, frame: Frame, options: PostprocessOptions) -> Rows | None:
    """The objects of image `i` that stay, which parts have no say in; None with `multi_label`, where they compete.

    No row = nothing will be kept, so that `output` need not have parts.
    """
    return (
        None
        if options.multi_label is not None
        else _objects(ImageQueries(output, i, frame, mask_box=options.mask_box), options)
    )


def whole_ones(objects: Rows, vocabulary: Vocabulary, options: PostprocessOptions) -> Tensor:
    """(n,) object queries of kept rows under which a part could be kept."""
    if not options.restrict_parts:
        return objects.query
    return objects.query[vocabulary.allowed.any(dim=1).to(objects.query.device)[objects.label]]


def ground(
    output: ModelOutput, i: int, expression: str, frame: Frame, *, union: bool, score_threshold: float
) -> Grounding:
    """What the expression of row `i` means: the best object query (by probability) or, with `union`, all of them whose
    final score reaches the threshold. `no_target_score` is 1 - the best final score."""
    queries = ImageQueries(output, i, frame)
    candidates = _best_name(queries.objects, part=False)
    if union:
        rows = _final_scores(candidates, queries, score_threshold)
        best = rows if len(rows.query) else _final_scores(candidates, queries, 0.0, limit=1)
    else:
        best = _final_scores(candidates.take(slice(1)), queries, 0.0)
        rows = best.take(best.score >= score_threshold)
    prediction = queries.prediction(rows, names=[[expression]], masks=queries.masks(rows))
    score = float(best.score.max()) if len(best.query) else 0.0
    return Grounding.of(prediction, expression=expression, no_target_score=1 - score)


def ground_part(
    output: ModelOutput,
    i: int,
    expression: str,
    frame: Frame,
    *,
    columns: Sequence[int],
    rivals: Sequence[int],
    score_threshold: float,
    share: float = 0.5,
) -> Grounding:
    """What the expression of row `i` means when it is a part of the object that the row's text describes: of the best
    object query the part queries, one row for each instance of the part.

    Args:
        columns: part names that are meant.
        rivals: names that compete for a query, `columns` among them.
        score_threshold: what scores less is no part; an object that scores less is not there, nor are its parts.
        share: of the best row's score; what scores less is another instance in name alone.
    """
    queries = ImageQueries(output, i, frame)
    if queries.parts is None or queries.parent is None or not columns:
        raise ValueError("parts are grounded with an output that has part queries, and at least one of its part names")
    best = _best_name(queries.objects, part=False).take(slice(1))
    owner, there = int(best.query[0]), float(best.score[0])
    own = (queries.parent == owner).nonzero().flatten()
    logits = queries.parts[own]
    kept = torch.full_like(logits, float("-inf"))
    kept[:, list(rivals)] = logits[:, list(rivals)]
    meant = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    meant[list(columns)] = True
    rows = _best_name(kept, part=True)
    rows = rows.take(meant[rows.label])
    if not len(rows.query):  # no query is called so first of all: the one that is called so most
        rows = _best_name(kept.masked_fill(~meant, float("-inf")), part=True).take(slice(1))
    rows = _final_scores(rows._replace(query=own[rows.query]), queries, 0.0)
    score = float(rows.score.max()) if len(rows.query) else 0.0
    least = max(score_threshold, share * score) if there >= score_threshold else float("inf")
    rows = rows.take(rows.score >= least)
    rows_named = rows._replace(label=torch.zeros_like(rows.label))
    prediction = queries.prediction(rows_named, names=[[expression], [expression]], masks=queries.masks(rows))
    return Grounding.of(prediction, expression=expression, no_target_score=1 - min(score, there))


def _one_name_each(
    output: ModelOutput,
    i: int,
    vocabulary: Vocabulary,
    frame: Frame,
    options: PostprocessOptions,
    objects: Rows | None,
) -> Prediction:
    """Image `i`: the best name of each object query, and the parts of the objects that are kept."""
    queries = ImageQueries(output, i, frame, mask_box=options.mask_box)
    rows = _objects(queries, options) if objects is None else objects
    parent = torch.full_like(rows.query, -1)
    if queries.parts is not None and len(rows.query):
        parts, owner = _parts(queries, rows, vocabulary.allowed.to(rows.query.device), options)
        rows, parent = Rows.join([rows, parts]), torch.cat((parent, owner))
    # Masks of the rows that are returned, and of no others.
    masks = queries.masks(rows) if options.masks else None
    return queries.prediction(rows, names=vocabulary, parent=parent, masks=masks)


def _objects(queries: ImageQueries, options: PostprocessOptions) -> Rows:
    """The best `max_objects` rows of which none lies on a better one."""
    candidates = _best_name(queries.objects, part=False)
    if options.max_queries is not None:
        candidates = candidates.take(slice(options.max_queries))
    looked_at = options.max_objects
    while True:
        rows = _final_scores(candidates, queries, options.score_threshold, masks=options.masks, limit=looked_at)
        group = torch.zeros_like(rows.label) if options.across_names else rows.label
        masks = partial(_small_masks, queries, rows, wanted=options.masks)
        kept = best_of_overlapping(queries.boxes(rows), group, masks, overlap=options.object_overlap)
        if len(kept) >= options.max_objects or len(rows.query) < looked_at:
            return rows.take(kept[: options.max_objects])
        looked_at *= 2  # worse rows move up


def _small_masks(queries: ImageQueries, rows: Rows, places: Tensor, *, wanted: bool) -> Tensor | None:
    """(n, h * w) masks of some of the rows on the stride-4 map; None without masks."""
    if not wanted or queries.embed is None:
        return None
    index = queries.index(rows.take(places))
    logits = mask_logits(queries.embed[index], queries.features)
    (canvas_h, canvas_w), (h, w) = queries.frame.canvas, queries.frame.resized
    height, width = -(-logits.shape[1] * h // canvas_h), -(-logits.shape[2] * w // canvas_w)  # without the padding
    logits, windows = logits[:, :height, :width], queries.windows(index)
    if windows is not None:
        image_h, image_w = queries.frame.original
        scale = windows.new_tensor([height / image_h] * 2 + [width / image_w] * 2, dtype=torch.float32)
        windows = (windows * scale).round().long()
    inside = compared(logits, inside=True, windows=windows).inside
    assert inside is not None
    return inside.flatten(1)


def _parts(queries: ImageQueries, objects: Rows, allowed: Tensor, options: PostprocessOptions) -> tuple[Rows, Tensor]:
    """Rows of the parts of the kept objects, and the object row of each."""
    logits = queries.parts
    assert logits is not None and queries.parent is not None
    row_of_query = objects.query.new_full((len(queries.objects),), -1)
    row_of_query[objects.query] = torch.arange(len(objects.query), device=objects.query.device)
    owner_row = row_of_query[queries.parent]  # (P,), -1: its object is not kept
    if options.restrict_parts:
        logits = logits.masked_fill(~allowed[objects.label[owner_row.clamp(min=0)]], float("-inf"))
    rows = _best_name(logits, part=True)
    rows = rows.take((owner_row[rows.query] >= 0) & torch.isfinite(logits[rows.query, rows.label]))
    threshold = options.score_threshold if options.part_score_threshold is None else options.part_score_threshold
    rows = _final_scores(rows, queries, threshold, masks=options.masks)
    owner = owner_row[rows.query]
    if options.part_overlap is not None:
        group = owner * logits.shape[-1] + rows.label
        keep = batched_nms(queries.boxes(rows), rows.score, group, options.part_overlap)  # best first
        rows, owner = rows.take(keep), owner[keep]
    if options.part_inside is not None:
        group = owner * logits.shape[-1] + rows.label
        masks = partial(_small_masks, queries, rows, wanted=options.masks)
        keep = best_of_overlapping(queries.boxes(rows), group, masks, inside=options.part_inside)
        rows, owner = rows.take(keep), owner[keep]
    if options.max_parts_per_object is not None:
        keep = _rank_within(owner) < options.max_parts_per_object
        rows, owner = rows.take(keep), owner[keep]
    return rows, owner


def _best_name(logits: Tensor, *, part: bool) -> Rows:
    """(Q, C) -> one row for each query, highest probability first."""
    best, label = logits.max(dim=-1)
    order = best.argsort(descending=True, stable=True)
    return Rows(torch.full_like(order, part, dtype=torch.bool), order, label[order], best[order].sigmoid())


def _final_scores(
    rows: Rows, queries: ImageQueries, threshold: float, *, masks: bool = True, limit: int | None = None
) -> Rows:
    """Rows (highest probability first) with their final score, best first, those below the threshold dropped.

    With `masks` the score is the probability times the mask's confidence. A confidence is at most 1, so a probability
    bounds its row's score: rows below the threshold are never looked at, nor those that can no longer be among the best
    `limit`.
    """
    rows = rows.take(rows.score >= threshold)
    if masks and queries.embed is not None:
        scores: list[Tensor] = []
        for done, confidence in queries.confidences(rows):
            scores.append(rows.score[done] * confidence)
            seen = sum(map(len, scores))
            if limit is not None and seen >= limit and seen < len(rows.score):
                worst_kept = torch.cat(scores).topk(limit).values[-1] if limit else rows.score.new_tensor(1.0)
                if worst_kept >= rows.score[seen]:
                    break
        final = torch.cat(scores) if scores else rows.score
        rows = rows.take(slice(len(final)))._replace(score=final)
    rows = rows.take(rows.score >= threshold)
    return rows.take(rows.score.argsort(descending=True, stable=True)[:limit])


def _rank_within(group: Tensor) -> Tensor:
    """(N,) groups, best row first -> (N,) how many better rows each row's group has."""
    same = group[:, None] == group[None]
    return same.tril(-1).sum(1)
