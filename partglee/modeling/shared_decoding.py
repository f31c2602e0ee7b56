"""Several vocabularies about one image: what they have in common is computed once, what they do not, together.

The decoders read no names: names choose object queries and which of them are parsed, and score what comes out. So
vocabularies that choose the same queries share everything but the scores, exactly; the others share the memory.

V vocabularies, U choices of Q object queries, W choices of K objects to parse, L parsing queries, E width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from partglee.modeling.decoder import DeformableDecoder, ProposedQueries
from partglee.modeling.heads import PredictionHeads
from partglee.modeling.object_decoder import MemoryTokens
from partglee.structures import DecoderOutput, LayerPrediction, ModelOutput, PixelFeatures, TextEmbeddings

if TYPE_CHECKING:
    from partglee.modeling.partglee import PartGLEE

_KEPT = 16  # choices of queries whose states are remembered, a few hundred kilobytes each
_SAME = 1e-5  # of the largest number
_PER_PASS = 8  # choices that go through a decoder together


class QueryStates(NamedTuple):
    """Queries after their decoder, before names score them."""

    queries: Tensor  # (1, Q, E), normalised once
    boxes: Tensor  # (1, Q, 4) cxcywh in [0, 1]
    mask_embed: Tensor  # (1, Q, E)

    def scored(self, heads: PredictionHeads, names: Tensor) -> DecoderOutput:
        """(C, E) names -> the last layer's prediction."""
        logits = heads.classify(self.queries, names).float()
        return DecoderOutput(self.queries, (LayerPrediction(logits, self.boxes, self.mask_embed),))


class _ChosenObjects(NamedTuple):
    names: Tensor  # (C, E) that chose
    states: QueryStates


class _ChosenParts(NamedTuple):
    objects: Tensor  # the object queries' own tensor
    rows: Tensor  # (1, K) of them
    states: QueryStates


class SharedDecoding:
    """The decoders of a model in evaluation mode, on one image.

    Args:
        pixels: of one image, without text in them.
    """

    def __init__(self, *, model: PartGLEE, pixels: PixelFeatures) -> None:
        if len(pixels.memory) != 1:
            raise ValueError(f"expected the features of one image, got {len(pixels.memory)}")
        self.model = model
        self.pixels = pixels
        self._memory: MemoryTokens | None = None
        self._objects: list[_ChosenObjects] = []
        self._parts: list[_ChosenParts] = []

    def objects(self, texts: Sequence[TextEmbeddings]) -> list[ModelOutput]:
        """The objects of each vocabulary; parts are None."""
        decoder = self.model.object_decoder
        rankers = [text.objects if text.selection is None else text.selection for text in texts]
        new: list[Tensor] = []
        for names in rankers:
            if self._known_objects(names) is None and not any(_equal(names, other) for other in new):
                new.append(names)
        if new:
            if self._memory is None:
                self._memory = decoder.selection.read(self.pixels)
            rows = [decoder.selection.rank(self._memory, decoder.heads, names) for names in new]
            proposed = decoder.selection.propose(self._memory, decoder.heads, torch.cat(rows))
            states = self._decode(proposed, decoder.decoder, decoder.heads)
            found = [_ChosenObjects(*pair) for pair in zip(new, states, strict=True)]
            self._objects = [*self._objects[-_KEPT:], *found]
        outputs = []
        for names, text in zip(rankers, texts, strict=True):
            known = self._known_objects(names)
            assert known is not None
            objects = known.scored(decoder.heads, text.objects).shifted(text.object_shift)
            outputs.append(ModelOutput(objects, None, None, text, self.pixels.mask_features))
        return outputs

    def parts(self, outputs: Sequence[ModelOutput]) -> list[ModelOutput]:
        """What `objects` gave, with the parts; unchanged for vocabularies without."""
        decoder, qformer = self.model.part_decoder, self.model.qformer
        rows = [self.model.objects_to_parse(output.objects.layers[-1].logits, None) for output in outputs]
        asked = [i for i, output in enumerate(outputs) if len(output.text.parts)]
        new: list[tuple[Tensor, Tensor]] = []
        for i in asked:
            key = outputs[i].objects.queries, rows[i]
            if self._known_parts(*key) is None and not any(_same_choice(key, other) for other in new):
                new.append(key)
        if new:
            content = qformer.parse(torch.cat([queries[0, chosen[0]] for queries, chosen in new]))
            proposed = decoder.propose(content.reshape(len(new), -1, content.shape[-1]))
            states = self._decode(proposed, decoder.decoder, decoder.heads)
            found = [_ChosenParts(*key, one) for key, one in zip(new, states, strict=True)]
            self._parts = [*self._parts[-_KEPT:], *found]
        whole = list(outputs)
        for i in asked:
            known = self._known_parts(outputs[i].objects.queries, rows[i])
            assert known is not None
            length = known.queries.shape[1] // rows[i].shape[1]
            parts = known.scored(decoder.heads, outputs[i].text.parts)
            whole[i] = outputs[i]._replace(parts=parts, parent=rows[i].repeat_interleave(length, dim=1))
        return whole

    def _decode(
        self, proposed: ProposedQueries, decoder: DeformableDecoder, heads: PredictionHeads
    ) -> list[QueryStates]:
        """One for each row."""
        found: list[QueryStates] = []
        for content, boxes in zip(proposed.content.split(_PER_PASS), proposed.boxes.split(_PER_PASS), strict=True):
            states = decoder(content, boxes, self.pixels, heads)
            last = QueryStates(states.queries[-1], states.boxes[-1], heads.mask_embed(states.queries[-1]))
            found += [QueryStates(*(x[i : i + 1] for x in last)) for i in range(len(content))]
        return found

    def _known_objects(self, names: Tensor) -> QueryStates | None:
        return next((chosen.states for chosen in self._objects if _equal(chosen.names, names)), None)

    def _known_parts(self, objects: Tensor, rows: Tensor) -> QueryStates | None:
        return next((c.states for c in self._parts if _same_choice((c.objects, c.rows), (objects, rows))), None)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether both are the embeddings of the same names. What is projected beside a name may move its last bits, on
    some processors; other names are far away."""
    if a is b or a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    return bool((a - b).abs().max() <= _SAME * a.abs().max())


def _same_choice(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return a[0] is b[0] and torch.equal(a[1], b[1])
