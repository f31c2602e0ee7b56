"""Precomputed name embeddings from a file, in place of a text tower.

N names, R rows of the table, W its width.
"""

from __future__ import annotations

import difflib
import logging
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from partglee.text.backend import TextBackend, fingerprint_of

_log = logging.getLogger(__name__)
_TOLD_KEPT = 10_000  # then all are forgotten, and told again


class TableBackend(TextBackend):
    """Serves one vector per known name.

    The file is an `.npz` with arrays `names` (R,) and `embeddings` (R, W), or a `.safetensors` file with a tensor
    `embeddings` and the metadata entry `names` (one name per line). A name is found as written, or else by its plain
    form: lower case, `:`, `_` and `'s` as spaces, remarks in brackets dropped. A part that is not there together with
    its object ("person coat") is found by its own name ("coat").

    Without a file the backend has the width alone: weights can be built and loaded, names can not be looked up.

    Attributes:
        names: R, as the file has them.
        plain_rows: {plain form of a name: its row}.
    """

    context_length = 1
    embeddings: Tensor

    def __init__(self, *, file: str | Path | None, width: int, projected: bool = False) -> None:
        super().__init__()
        self.width = width
        self.projected = projected
        self.file = None if not file else Path(file)
        self.names: tuple[str, ...] = ()
        embeddings = torch.zeros(0, width, device="cpu")
        if self.file is not None:
            self.names, embeddings = read_table(self.file)
            if embeddings.shape[1] != width:
                raise ValueError(
                    f"{self.file} holds {embeddings.shape[1]}-d embeddings, the model expects {width}; "
                    "set MODEL.TEXT.TABLE.WIDTH to the file's width, or use the table of the weights"
                )
        self.register_buffer("embeddings", embeddings, persistent=False)
        self._exact = {name: row for row, name in reversed(list(enumerate(self.names)))}  # of equal names the first
        self.plain_rows = plain_rows(self.names)
        self._told: set[str] = set()  # parts of which the log has said that their own name is read

    def tokenize(self, texts: Sequence[str], *, context_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Row numbers (N, 1) and a mask of ones; each name counts as one token.

        Raises:
            ValueError: for a name that the table lacks, or when texts are to be of one length, as expressions are.
        """
        if context_length is not None:
            raise ValueError(
                "a name table cannot encode referring expressions; use MODEL.TEXT.BACKEND clip or bert for grounding"
            )
        ids = torch.tensor([self._row(name) for name in texts], dtype=torch.long).view(-1, 1)
        return ids, torch.ones_like(ids, dtype=torch.bool)

    def part_texts(self, prompts: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
        """The prompts (Cp) of parts, or where the table lacks one ("person coat") the part's own name ("coat").

        That is the word which was asked for: the log alone says it, once. Without both, the prompt stays and
        `tokenize` refuses it.
        """
        pairs = list(zip(prompts, names, strict=True))
        texts = tuple(name if not self.knows(prompt) and self.knows(name) else prompt for prompt, name in pairs)
        new = {p: text for p, text in zip(prompts, texts, strict=True) if p != text and p not in self._told}
        if new:
            if len(self._told) >= _TOLD_KEPT:
                self._told.clear()
            self._told.update(new)
            told = ", ".join(f"{p!r} as {text!r}" for p, text in new.items())
            _log.info(f"parts that the name table lacks are read by their own names: {told}")
        return texts

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, 1) rows -> (N, 1, W)."""
        return self.embeddings[ids]

    def fingerprint(self) -> str:
        """Hash of the names and their vectors, for caches on disk."""
        return fingerprint_of("\n".join(self.names), {"": self.embeddings})

    def only_names(self) -> TableBackend | None:
        """The table itself; None without a file, which leaves nothing to choose from."""
        return None if self.file is None else self

    def knows(self, name: str) -> bool:
        """Whether a name is in the table, as written or in plain form."""
        return name in self._exact or plain_name(name) in self.plain_rows

    def _row(self, name: str) -> int:
        row = self._exact.get(name, self.plain_rows.get(plain_name(name)))
        if row is None:
            if self.file is None:
                raise ValueError(
                    f"cannot encode {name!r}: this model reads names from a table and none was given; "
                    "set MODEL.TEXT.TABLE.FILE to an .npz or .safetensors file of name embeddings"
                )
            near = difflib.get_close_matches(plain_name(name), self.plain_rows, n=5, cutoff=0.5)
            known = ", ".join(repr(self.names[self.plain_rows[n]]) for n in near) or "none is near"
            raise ValueError(
                f"unknown name {name!r}: {self.file} knows {len(self.names)} names; nearest: {known}. "
                "Use one of them, or a model with a text tower (MODEL.TEXT.BACKEND clip)"
            )
        return row


def plain_name(name: str) -> str:
    """Lower case, separators as single spaces, bracketed remarks dropped: 'car_(automobile):wheel' -> 'car wheel'."""
    name = re.sub(r"\([^)]*\)", " ", name.lower())
    name = name.replace("'s ", " ").replace(":", " ").replace("_", " ")
    return " ".join(name.split())


def plain_rows(names: Iterable[str]) -> dict[str, int]:
    """{name in plain form: place of the first that has it}."""
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        rows.setdefault(plain_name(name), row)
    return rows


def read_table(file: Path) -> tuple[tuple[str, ...], Tensor]:
    """R names and their (R, W) vectors, float32.

    Raises:
        ValueError: for a file that is missing, of another kind or damaged.
    """
    if not file.is_file():
        raise ValueError(f"no name table at {file}; MODEL.TEXT.TABLE.FILE must be an .npz or .safetensors file")
    if file.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"a name table is an .npz or a .safetensors file, got {file}")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                names = tuple(str(n) for n in arrays["names"])
                embeddings = torch.from_numpy(arrays["embeddings"].astype(np.float32))
        else:
            with safe_open(file, framework="pt") as tensors:
                names = tuple((tensors.metadata() or {})["names"].split("\n"))
                embeddings = tensors.get_tensor("embeddings").float()
    except (KeyError, ValueError, TypeError, OSError, EOFError, SafetensorError, BadZipFile, zlib.error) as error:
        raise ValueError(
            f"{file} is not a readable name table ({type(error).__name__}); "
            "expected arrays 'names' (R,) and 'embeddings' (R, W)"
        ) from error
    if embeddings.ndim != 2 or len(names) != len(embeddings):
        raise ValueError(f"{file}: {len(names)} names but embeddings of shape {tuple(embeddings.shape)}")
    if not torch.isfinite(embeddings).all():
        raise ValueError(f"{file}: embeddings contain NaN or infinite values")
    return names, embeddings
