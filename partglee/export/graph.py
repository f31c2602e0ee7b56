"""The network and its post-processing as one module without a branch that depends on data, for `torch.export`.

Q object queries, P part queries, Co / Cp object / part names, n rows looked at, N rows returned, E width, h x w the
stride-4 map of an H x W input.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_convert

from partglee.export.suppression import greedy, rank_within
from partglee.modeling import PartGLEE
from partglee.modeling.frame import mask_windows
from partglee.modeling.overlap import lie_together
from partglee.modeling.postprocess import PostprocessOptions
from partglee.ops.masks import compared, mask_logits
from partglee.structures import ModelOutput, TextEmbeddings, Vocabulary

OUTPUTS = {  # of one image: objects, best first, then their parts, best first
    "boxes": "(N, 4) float32, xyxy in pixels of the input",
    "scores": "(N,) float32",
    "labels": "(N,) int64, among object names or part names",
    "level": "(N,) int64, 0 = object, 1 = part",
    "parent": "(N,) int64, row of a part's object, -1 = an object",
    "masks": "(N, h, w) float32, logits on the stride-4 map",
}


class _Rows(NamedTuple):
    """n rows, best first."""

    query: Tensor  # (n,) int64
    label: Tensor  # (n,) int64
    score: Tensor  # (n,) float32; less than the threshold: no row
    keep: Tensor  # (n,) bool


class DetectionGraph(nn.Module):
    """(1, 3, H, W) RGB in 0..255, H and W multiples of `size_divisibility` -> a dict of `OUTPUTS`, as `postprocess`
    has them for an image that needs no padding and no resizing.

    Args:
        model: in evaluation mode, with masks.
        vocabulary: what is looked for; None = embeddings of names are inputs too: `object_names` (Co, D), `part_names`
            (Cp, D) and `allowed` (Co, Cp) bool, the parts that each object has.
        options: what is kept. `masks`, `max_queries` and `multi_label` must be left alone. With `mask_box` whoever
            enlarges the masks ends them (`Card.mask_box`), for the graph does not know the image's own pixels.

    Raises:
        ValueError: for options that a graph has no room for, or a model that reads names of tokens where they are
            inputs.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, model: PartGLEE, vocabulary: Vocabulary | None, options: PostprocessOptions | None = None
    ) -> None:
        super().__init__()
        options = options or PostprocessOptions()
        plain = PostprocessOptions()
        for name in ("masks", "max_queries", "multi_label"):
            if getattr(options, name) != getattr(plain, name):
                raise ValueError(f"an exported graph has no option {name}; leave it as it is")
        if vocabulary is None and model.fuse_categories:
            raise ValueError("the model fuses the words of names into the image; export it with a fixed vocabulary")
        self.model = model
        self.options = options
        self.fixed = vocabulary is not None
        self.register_buffer("mean", torch.tensor(model.pixel_mean).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(model.pixel_std).reshape(1, 3, 1, 1), persistent=False)
        with torch.no_grad():
            text = None if vocabulary is None else model.embed(vocabulary)
            always = None
            if vocabulary is None and model.selection is not None:
                always = model.text_encoder.embed(model.selection, with_tokens=False).objects
        held = (
            {} if text is None else {key: value for key, value in text._asdict().items() if isinstance(value, Tensor)}
        )
        if vocabulary is not None:
            held["allowed"] = vocabulary.allowed
        if always is not None:
            held["always"] = always
        self.held = tuple(held)
        for key, value in held.items():
            self.register_buffer(f"text_{key}", value.detach().clone(), persistent=False)

    def forward(
        self,
        image: Tensor,
        object_names: Tensor | None = None,
        part_names: Tensor | None = None,
        allowed: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """One image; the names too where the vocabulary is not fixed."""
        if self.fixed:
            text, allowed = self._text(), self._held("allowed")
        else:
            assert object_names is not None and part_names is not None
            always = self._held("always")
            selection = None if always is None else torch.cat((always, object_names))
            text = TextEmbeddings(object_names, part_names, selection=selection)
        output = self.model((image.float() - self.mean) / self.std, text)
        return self._detections(output, allowed, (image.shape[-2], image.shape[-1]))

    # ------------------------------------------------------------------ internals

    def _held(self, key: str) -> Tensor | None:
        return getattr(self, f"text_{key}") if key in self.held else None

    def _text(self) -> TextEmbeddings:
        objects, parts = self._held("objects"), self._held("parts")
        assert objects is not None and parts is not None
        return TextEmbeddings(
            objects,
            parts,
            self._held("tokens"),
            self._held("token_mask"),
            selection=self._held("selection"),
            object_shift=self._held("object_shift"),
        )

    def _detections(self, output: ModelOutput, allowed: Tensor | None, size: tuple[int, int]) -> dict[str, Tensor]:
        image = _Image(output, size, self.options.mask_box)
        objects = self._objects(image)
        rows = [objects]
        parent = [torch.full_like(objects.query, -1)]
        if output.parts is not None:
            assert allowed is not None
            parts, owner = self._parts(image, objects, allowed)
            rows.append(parts)
            parent.append(owner)
        keep = torch.cat([level.keep for level in rows]).nonzero()[:, 0]
        embed = torch.cat([image.embed[number][level.query] for number, level in enumerate(rows)])[keep]
        columns = {
            "boxes": [image.boxes[number][level.query] for number, level in enumerate(rows)],
            "scores": [level.score for level in rows],
            "labels": [level.label for level in rows],
            "level": [torch.full_like(level.query, number) for number, level in enumerate(rows)],
            "parent": parent,
        }
        kept = {name: torch.cat(values)[keep] for name, values in columns.items()}
        return kept | {"masks": mask_logits(embed, image.features)}

    def _objects(self, image: _Image) -> _Rows:
        """The best name of each object query; no two rows of one name (or of any) that lie on each other."""
        options = self.options
        best, label = image.logits[0].max(dim=-1)
        rows = self._scored(image, 0, best.sigmoid(), label, options.score_threshold)
        same = torch.ones_like(rows.keep[:, None] & rows.keep)
        if not options.across_names:
            same = rows.label[:, None] == rows.label
        keep = rows.keep
        if options.object_overlap is not None:
            together = lie_together(image.boxes[0][rows.query], image.small(0, rows), overlap=options.object_overlap)
            keep = keep & greedy(same & together, rounds=len(best))
        return rows._replace(keep=keep & (keep.to(torch.int64).cumsum(0) <= options.max_objects))

    def _parts(self, image: _Image, objects: _Rows, allowed: Tensor) -> tuple[_Rows, Tensor]:
        """Parts of the objects that are kept, and the place of each one's object among those."""
        options, logits = self.options, image.logits[1]
        place = torch.where(objects.keep, objects.keep.to(torch.int64).cumsum(0) - 1, -1)
        none = torch.full_like(image.logits[0][:, 0], -1, dtype=torch.int64)
        assert image.parent is not None
        owner = none.scatter(0, objects.query, place)[image.parent]  # (P,)
        if options.restrict_parts:
            owner_label = none.clamp(min=0).scatter(0, objects.query, objects.label)[image.parent]
            logits = logits.masked_fill(~allowed[owner_label], float("-inf"))
        best, label = logits.max(dim=-1)
        probability = torch.where((owner >= 0) & (best > float("-inf")), best.sigmoid(), -1.0)
        threshold = options.score_threshold if options.part_score_threshold is None else options.part_score_threshold
        rows = self._scored(image, 1, probability, label, threshold)
        owner = owner[rows.query]
        same = (owner[:, None] == owner) & (rows.label[:, None] == rows.label)
        boxes, keep, of_an_object = image.boxes[1][rows.query], rows.keep, len(probability) // self._num_parsed(image)
        if options.part_overlap is not None:
            together = lie_together(boxes, None, overlap=options.part_overlap)
            keep = keep & greedy(same & together, rounds=of_an_object)
        if options.part_inside is not None:
            together = lie_together(boxes, image.small(1, rows), inside=options.part_inside)
            keep = keep & greedy(same & together & keep[:, None] & keep, rounds=of_an_object)
        if options.max_parts_per_object is not None:
            keep = keep & (rank_within(owner, keep) < options.max_parts_per_object)
        return rows._replace(keep=keep), owner

    def _num_parsed(self, image: _Image) -> int:
        return min(self.model.num_parsed_objects, image.logits[0].shape[0])

    def _scored(self, image: _Image, level: int, probability: Tensor, label: Tensor, threshold: float) -> _Rows:
        """Rows whose probability reaches the threshold (one more where none does, as graphs dislike empty maps), by
        probability times mask confidence."""
        first, query = probability.sort(descending=True)
        count = (probability >= threshold).sum().clamp(min=1).item()
        torch._check(count >= 1)
        torch._check(count <= probability.shape[0])
        first, query = first[:count], query[:count]
        full = F.interpolate(
            mask_logits(image.embed[level][query], image.features)[None],
            size=image.size,
            mode="bilinear",
            align_corners=False,
        )
        windows = image.windows(level, query)
        confidence = compared(full[0], confidence=True, windows=windows).confidence
        assert confidence is not None
        score, order = (first * confidence).sort(descending=True)
        query = query[order]
        return _Rows(query, label[query], score, (score >= threshold) & (first[order] >= threshold))


class _Image:
    """The last layers of both levels, of the one image."""

    def __init__(self, output: ModelOutput, size: tuple[int, int], mask_box: float | None) -> None:
        levels = [output.objects] if output.parts is None else [output.objects, output.parts]
        layers = [level.layers[-1] for level in levels]
        if any(layer.mask_embed is None for layer in layers):
            raise ValueError("the model predicts no masks; expected one that does")
        height, width = size
        self.size, self.mask_box = size, mask_box
        self.features = output.mask_features[0].float()
        self.logits = [layer.logits[0].float() for layer in layers]
        one = torch.ones_like(self.features[0, 0, 0])
        self.sides = torch.stack([one * side for side in (width, height, width, height)])
        xyxy = [box_convert(layer.boxes[0].float(), "cxcywh", "xyxy") * self.sides for layer in layers]
        self.boxes = [torch.minimum(boxes.clamp(min=0), self.sides) for boxes in xyxy]
        self.embed = [layer.mask_embed[0].float() for layer in layers if layer.mask_embed is not None]
        self.parent = None if output.parent is None else output.parent[0]  # (P,) object query of each part query

    def small(self, level: int, rows: _Rows) -> Tensor:
        """(n, h * w) masks of the rows on the stride-4 map."""
        logits = mask_logits(self.embed[level][rows.query], self.features)
        windows = self.windows(level, rows.query)
        if windows is not None:
            windows = (windows * (logits.shape[-1] / self.sides[0])).round().long()
        inside = compared(logits, inside=True, windows=windows).inside
        assert inside is not None
        return inside.flatten(1)

    def windows(self, level: int, query: Tensor) -> Tensor | None:
        """(n, 4) where masks of these queries may lie, in pixels of the input; None = anywhere."""
        if self.mask_box is None:
            return None
        return mask_windows(self.boxes[level][query], self.mask_box, limit=self.sides[:2])
