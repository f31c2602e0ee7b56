"""Names and expressions to embeddings: text backend, projection, pooling, caching (PartGLEE section 3.3).

N names (Co objects, then Cp parts), T tokens, W text width, E projected width, B images.
"""

from __future__ import annotations

import copy
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from partglee.structures import BatchNames, TextEmbeddings, TextTokens, Vocabulary
from partglee.text.backend import TextBackend, mean_of_valid
from partglee.text.cache import TextCache

_NAMES_PER_PASS = 256
_VOCABULARIES_KEPT = 16


class TextEncoder(nn.Module):
    """Pools the projected states of all valid tokens, begin and end of text included, into one vector per name.

    Args:
        backend: a tower or a name table.
        embed_dim: E; a backend whose states are already projected must have this width.
        trainable: let gradients reach the tower.
        distill: keep a frozen copy of the tower as it was loaded, and put both towers' states of the valid tokens into
            `TextEmbeddings.distill` while training.
        cache_dir: also keep a frozen tower's states on disk.
    """

    projection: nn.Parameter | None

    def __init__(
        self,
        *,
        backend: TextBackend,
        embed_dim: int,
        trainable: bool = False,
        distill: bool = False,
        cache_dir: str | Path | None = None,
    ) -> None:
        super().__init__()
        if distill and not trainable:
            raise ValueError("distill=True needs trainable=True: a frozen tower equals its teacher")
        if backend.projected and backend.width != embed_dim:
            raise ValueError(f"a projected table must be {embed_dim} wide, got {backend.width}; set projected=False")
        self.backend = backend
        self.embed_dim = embed_dim
        self.trainable = trainable
        self.backend.requires_grad_(trainable)
        self.teacher = copy.deepcopy(backend).requires_grad_(False) if distill else None
        if backend.projected:
            self.projection = None
        else:
            self.projection = nn.Parameter(torch.randn(backend.width, embed_dim) * backend.width**-0.5)
        self._cache = TextCache(directory=cache_dir)
        self._cache_version: tuple[Any, ...] | None = None
        self._vocabularies: OrderedDict[Any, TextEmbeddings] = OrderedDict()

    # ------------------------------------------------------------------ tokens

    def tokenize(self, vocabulary: Vocabulary | BatchNames) -> TextTokens:
        """All names of a vocabulary or of a training batch, objects first, on the encoder's device."""
        return self._tokens(self._texts(vocabulary), len(vocabulary.object_prompts))

    def tokenize_expressions(self, expressions: Sequence[str]) -> TextTokens:
        """One referring expression for each image, padded to the full context as the released weights expect."""
        cleaned = [clean_expression(e) for e in expressions]
        for raw, text in zip(expressions, cleaned, strict=True):
            if not text:
                raise ValueError(f"expected a referring expression with at least one word, got {raw!r}")
        ids, mask = self.backend.tokenize(cleaned, context_length=self.backend.context_length)
        return TextTokens(ids.to(self.device), mask.to(self.device), len(cleaned), expressions=True)

    def _tokens(self, texts: Sequence[str], num_objects: int) -> TextTokens:
        ids, mask = self.backend.tokenize(texts)
        return TextTokens(ids.to(self.device), mask.to(self.device), num_objects)

    def _texts(self, names: Vocabulary | BatchNames) -> list[str]:
        """What the backend reads: the prompts, but for parts that it knows by their own name alone."""
        parts = names.part_prompts
        if names.part_names:
            parts = self.backend.part_texts(parts, names.part_names)
        return [*names.object_prompts, *parts]

    @property
    def device(self) -> torch.device:
        return next((t.device for t in (*self.parameters(), *self.buffers())), torch.device("cpu"))

    # ------------------------------------------------------------------ embeddings

    def forward(self, tokens: TextTokens, *, with_tokens: bool) -> TextEmbeddings:
        """Encode now, with gradients where the tower is trainable.

        Args:
            with_tokens: also return the projected token states, which early fusion reads.
        """
        with torch.set_grad_enabled(self.trainable and torch.is_grad_enabled()):
            states = self._run(self.backend, tokens)
        distill = None
        if self.teacher is not None and self.training:
            with torch.no_grad():
                taught = self._run(self.teacher, tokens)
            distill = (states[tokens.mask], taught[tokens.mask])
        return self._assemble(states, tokens, with_tokens)._replace(distill=distill)

    def embed(self, vocabulary: Vocabulary, *, with_tokens: bool) -> TextEmbeddings:
        """Encode a vocabulary for inference; while the weights stay the same, no name is encoded twice."""
        # What is cached must serve every later caller: full precision, and usable where gradients are on.
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            return self._embed_cached(vocabulary, with_tokens)

    def clear_cache(self) -> None:
        """Forget all encoded names. Needed after writes that torch does not count (`parameter.data.mul_(...)`)."""
        self._cache.clear()
        self._vocabularies.clear()

    def train(self, mode: bool = True) -> TextEncoder:
        """Also forgets what is cached: weights are about to change, or have changed. What is frozen stays in evaluation
        mode: its states are the same in every pass."""
        self.clear_cache()
        super().train(mode)
        for tower in (self.teacher, None if self.trainable else self.backend):
            if tower is not None:
                tower.eval()
        return self

    def _embed_cached(self, vocabulary: Vocabulary, with_tokens: bool) -> TextEmbeddings:
        self._drop_stale()
        key = (vocabulary, with_tokens)
        if key in self._vocabularies:
            self._vocabularies.move_to_end(key)
            return self._vocabularies[key]
        names = self._texts(vocabulary)
        tokens = self._tokens(names, len(vocabulary.object_prompts))
        if self._cache.directory is not None:
            self._cache.open(self.backend.fingerprint())
        fresh = [i for i, name in enumerate(names) if self._cache.get(name) is None]
        states_of: dict[str, Tensor] = {}
        for rows in (fresh[i : i + _NAMES_PER_PASS] for i in range(0, len(fresh), _NAMES_PER_PASS)):
            states = self.backend(tokens.ids[rows], tokens.mask[rows])
            states_of.update({names[r]: states[i, tokens.mask[r]].clone() for i, r in enumerate(rows)})
        self._cache.add(states_of)
        states = tokens.mask.new_zeros((*tokens.mask.shape, self.backend.width), dtype=torch.float32)
        for i, name in enumerate(names):
            known = self._cache.get(name)
            assert known is not None
            states[i, tokens.mask[i]] = known.to(states)
        embeddings = self._assemble(states, tokens, with_tokens)
        self._vocabularies[key] = embeddings
        if len(self._vocabularies) > _VOCABULARIES_KEPT:
            self._vocabularies.popitem(last=False)
        return embeddings

    @torch.no_grad()
    def embed_expressions(self, expressions: Sequence[str]) -> TextEmbeddings:
        """Encode one referring expression for each image, for inference."""
        return self(self.tokenize_expressions(expressions), with_tokens=True)

    # ------------------------------------------------------------------ internals

    def _run(self, backend: TextBackend, tokens: TextTokens) -> Tensor:
        passes = zip(tokens.ids.split(_NAMES_PER_PASS), tokens.mask.split(_NAMES_PER_PASS), strict=True)
        return torch.cat([backend(ids, mask) for ids, mask in passes])

    def _assemble(self, states: Tensor, tokens: TextTokens, with_tokens: bool) -> TextEmbeddings:
        """(N, T, W) states to the structure that the model reads."""
        if with_tokens or tokens.expressions:
            projected = states if self.projection is None else states @ self.projection.to(states.dtype)
            pooled = mean_of_valid(projected, tokens.mask)
        else:  # pool first: the projection is linear, and T times less work
            pooled = mean_of_valid(states, tokens.mask)
            pooled = pooled if self.projection is None else pooled @ self.projection.to(states.dtype)
        objects, parts = pooled[: tokens.num_objects], pooled[tokens.num_objects :]
        if tokens.expressions:
            return TextEmbeddings(objects, parts, projected, tokens.mask, expressions=True)
        if not with_tokens:
            return TextEmbeddings(objects, parts)
        valid = projected[tokens.mask][None]
        return TextEmbeddings(objects, parts, valid, torch.ones_like(valid[..., 0], dtype=torch.bool))

    def _drop_stale(self) -> None:
        """Forget everything when a weight was written in place, replaced or moved."""
        tensors = (*self.parameters(), *self.buffers())
        version = tuple((id(t), t.data_ptr(), t.device, 0 if t.is_inference() else t._version) for t in tensors)
        if version != self._cache_version:
            self.clear_cache()
            self._cache_version = version

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """A checkpoint without a teacher: the tower that is loaded becomes the teacher."""
        if self.teacher is not None and not any(k.startswith(f"{prefix}teacher.") for k in state_dict):
            student = f"{prefix}backend."
            copies = {f"{prefix}teacher.{k[len(student) :]}": v for k, v in state_dict.items() if k.startswith(student)}
            state_dict.update(copies)
        super()._load_from_state_dict(state_dict, prefix, *args)


def clean_expression(text: str) -> str:
    """Lower case, `-` and `/` as spaces, other punctuation dropped, as released."""
    if not isinstance(text, str):
        raise TypeError(f"a referring expression is text, got {type(text).__name__} {text!r:.60}; pass one string")
    text = re.sub(r"[-/]", " ", text.lower())
    return " ".join(re.sub(r"[^\w\s]", "", text).split())
