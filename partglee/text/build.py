"""The text side from a configuration."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from fvcore.common.config import CfgNode as CN

from partglee.text.backend import TextBackend
from partglee.text.bert import BertBackend
from partglee.text.clip import ClipBackend
from partglee.text.encoder import TextEncoder
from partglee.text.table import TableBackend

_MODES = ("frozen", "trainable", "distill")


class BackendKind(NamedTuple):
    """What is known of a backend from the configuration alone."""

    build: Callable[[CN], TextBackend]  # of MODEL.TEXT
    is_random: Callable[[CN], bool]  # of MODEL.TEXT: words mean nothing until weights are loaded into the model
    reads_table: bool = False  # names come from MODEL.TEXT.TABLE, which exported weights carry


BACKENDS: dict[str, BackendKind] = {
    "clip": BackendKind(build=lambda text: ClipBackend(architecture=text.ARCH), is_random=lambda text: True),
    "table": BackendKind(
        build=lambda text: TableBackend(
            file=text.TABLE.FILE or None, width=text.TABLE.WIDTH, projected=text.TABLE.PROJECTED
        ),
        is_random=lambda text: False,
        reads_table=True,
    ),
    "bert": BackendKind(build=lambda text: _build_bert(text.BERT), is_random=lambda text: not text.BERT.PRETRAINED),
}
"""Values of `MODEL.TEXT.BACKEND`."""


def backend_kind(cfg: CN) -> BackendKind:
    """What `MODEL.TEXT.BACKEND` names.

    Raises:
        ValueError: for a name that is none of `BACKENDS`.
    """
    name = cfg.MODEL.TEXT.BACKEND
    if name not in BACKENDS:
        raise ValueError(f"MODEL.TEXT.BACKEND must be one of {', '.join(BACKENDS)}, got {name!r}")
    return BACKENDS[name]


def build_text_encoder(cfg: CN) -> TextEncoder:
    """The text side alone."""
    text = cfg.MODEL.TEXT
    if text.MODE not in _MODES:
        raise ValueError(f"MODEL.TEXT.MODE must be frozen, trainable or distill, got {text.MODE!r}")
    backend = backend_kind(cfg).build(text)
    if text.MODE != "frozen" and not any(True for _ in backend.parameters()):
        raise ValueError(f"MODEL.TEXT.MODE {text.MODE!r} needs a text tower; a {text.BACKEND} has no weights to train")
    return TextEncoder(
        backend=backend,
        embed_dim=cfg.MODEL.EMBED_DIM,
        trainable=text.MODE != "frozen",
        distill=text.MODE == "distill",
        cache_dir=text.CACHE_DIR or None,
    )


def _build_bert(bert: CN) -> BertBackend:
    if bert.PRETRAINED:
        return BertBackend.from_pretrained(
            bert.PRETRAINED, vocabulary=bert.VOCABULARY or None, context_length=bert.CONTEXT_LENGTH
        )
    return BertBackend.from_sizes(
        vocabulary=bert.VOCABULARY or None,
        width=bert.WIDTH,
        num_layers=bert.NUM_LAYERS,
        num_heads=bert.NUM_HEADS,
        ffn_dim=bert.FFN_DIM,
        num_words=bert.NUM_WORDS,
        context_length=bert.CONTEXT_LENGTH,
    )
