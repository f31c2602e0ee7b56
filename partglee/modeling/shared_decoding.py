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

    @staticmethod
    def join(some: Sequence[QueryStates]) -> QueryStates:
        """Q of one after Q of the other."""
        return QueryStates(*(torch.cat(column, dim=1) for column in zip(*some, strict=True)))


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
        self._parts_of: dict[tuple[int, int], QueryStates] = {}  # of an object query: its tensor and row
        self._asked_about: list[Tensor] = []

    def objects(self, texts: Sequence[TextEmbeddings]) -> list[ModelOutput]:
        """The objects of each vocabulary; parts are None."""
        decoder = self.model.object_decoder
        rankers = [text.objects if text.selection is None else text.selection for text in texts]
        known, new = self._objects[-_KEPT:], list[Tensor]()  # of this call, whatever another thread asks
        for names in rankers:
            if _states_of(names, known) is None and not any(_equal(names, other) for other in new):
                new.append(names)
        if new:
            if self._memory is None:
                self._memory = decoder.selection.read(self.pixels)
            rows = [decoder.selection.rank(self._memory, decoder.heads, names) for names in new]
            proposed = decoder.selection.propose(self._memory, decoder.heads, torch.cat(rows))
            states = self._decode(proposed, decoder.decoder, decoder.heads)
            known += [_ChosenObjects(*pair) for pair in zip(new, states, strict=True)]
            self._objects = known
        outputs = []
        for names, text in zip(rankers, texts, strict=True):
            chosen = _states_of(names, known)
            assert chosen is not None
            objects = chosen.scored(decoder.heads, text.objects).shifted(text.object_shift)
            outputs.append(ModelOutput(objects, None, None, text, self.pixels.mask_features))
        return outputs

    def parts(self, outputs: Sequence[ModelOutput], wanted: Sequence[Tensor] | None = None) -> list[ModelOutput]:
        """What `objects` gave, with the parts; unchanged for vocabularies without.

        Args:
            wanted: of each vocabulary the rows of the object queries whose parts are asked for. The others are not
                parsed where parts of an object depend on it alone. None = all that the model parses.
        """
        rows = [self.model.objects_to_parse(output.objects.layers[-1].logits, None) for output in outputs]
        if self.model.part_decoder.run is not None and wanted is not None:
            rows = [those[:, torch.isin(those[0], asked)] for those, asked in zip(rows, wanted, strict=True)]
        asked = [i for i, output in enumerate(outputs) if len(output.text.parts) and rows[i].shape[1]]
        keys = [(outputs[i].objects.queries, rows[i]) for i in asked]
        parse = self._parse_together if self.model.part_decoder.run is None else self._parse_each
        whole, heads = list(outputs), self.model.part_decoder.heads
        for i, states in zip(asked, parse(keys), strict=True):
            length = states.queries.shape[1] // rows[i].shape[1]
            parts = states.scored(heads, outputs[i].text.parts)
            whole[i] = outputs[i]._replace(parts=parts, parent=rows[i].repeat_interleave(length, dim=1))
        return whole

    def _parse_together(self, keys: Sequence[tuple[Tensor, Tensor]]) -> list[QueryStates]:
        """Parts of each choice of objects; a part depends on all of its choice."""
        decoder, known, new = self.model.part_decoder, self._parts[-_KEPT:], list[tuple[Tensor, Tensor]]()
        for key in keys:
            if _parts_of(key, known) is None and not any(_same_choice(key, other) for other in new):
                new.append(key)
        if new:
            content = self.model.qformer.parse(torch.cat([queries[0, chosen[0]] for queries, chosen in new]))
            proposed = decoder.propose(content.reshape(len(new), -1, content.shape[-1]))
            states = self._decode(proposed, decoder.decoder, decoder.heads)
            known += [_ChosenParts(*key, one) for key, one in zip(new, states, strict=True)]
            self._parts = known
        found = [_parts_of(key, known) for key in keys]
        return [states for states in found if states is not None]

    def _parse_each(self, keys: Sequence[tuple[Tensor, Tensor]]) -> list[QueryStates]:
        """Parts of each choice of objects; those of an object depend on it alone, so it is parsed once."""
        decoder = self.model.part_decoder
        if len(self._asked_about) > _KEPT:
            self._asked_about, self._parts_of = [], {}
        parts_of = self._parts_of  # of this call, whatever another thread asks
        asked = [(queries, [(id(queries), row) for row in rows[0].tolist()]) for queries, rows in keys]
        new = {key: queries[0, key[1]] for queries, those in asked for key in those if key not in parts_of}
        if new:
            content = self.model.qformer.parse(torch.stack(tuple(new.values())))
            proposed = decoder.propose(content.reshape(1, -1, content.shape[-1]))
            (states,) = self._decode(proposed, decoder.decoder, decoder.heads, decoder.run)
            of_each = zip(*(x.split(content.shape[1], dim=1) for x in states), strict=True)
            parts_of.update(zip(new, (QueryStates(*one) for one in of_each), strict=True))
            self._asked_about += [queries for queries, _ in asked]  # an id is a tensor's as long as it is there
        return [QueryStates.join([parts_of[key] for key in those]) for _, those in asked]

    def _decode(
        self, proposed: ProposedQueries, decoder: DeformableDecoder, heads: PredictionHeads, run: int | None = None
    ) -> list[QueryStates]:
        """One for each row."""
        found: list[QueryStates] = []
        for content, boxes in zip(proposed.content.split(_PER_PASS), proposed.boxes.split(_PER_PASS), strict=True):
            states = decoder(content, boxes, self.pixels, heads, run=run)
            last = QueryStates(states.queries[-1], states.boxes[-1], heads.mask_embed(states.queries[-1]))
            found += [QueryStates(*(x[i : i + 1] for x in last)) for i in range(len(content))]
        return found


def _states_of(names: Tensor, known: Sequence[_ChosenObjects]) -> QueryStates | None:
    return next((chosen.states for chosen in known if _equal(chosen.names, names)), None)


def _parts_of(key: tuple[Tensor, Tensor], known: Sequence[_ChosenParts]) -> QueryStates | None:
    return next((chosen.states for chosen in known if _same_choice((chosen.objects, chosen.rows), key)), None)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Whether both are the embeddings of the same names. What is projected beside a name may move its last bits, on
    some processors; other names are far away."""
    if a is b or a.shape != b.shape or not a.numel():
        return a.shape == b.shape
    return bool((a - b).abs().max() <= _SAME * a.abs().max())


def _same_choice(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor]) -> bool:
    return a[0] is b[0] and torch.equal(a[1], b[1])
