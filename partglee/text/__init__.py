"""The text side: a tower (CLIP, BERT) or a table of name embeddings, pooled and projected."""

from partglee.text.backend import TextBackend, mean_of_valid
from partglee.text.bert import BertBackend, read_word_pieces
from partglee.text.build import BACKENDS, BackendKind, backend_kind, build_text_encoder
from partglee.text.cache import TextCache
from partglee.text.clip import ClipBackend
from partglee.text.encoder import TextEncoder, clean_expression
from partglee.text.table import TableBackend, plain_name

__all__ = [
    "BACKENDS",
    "BackendKind",
    "BertBackend",
    "ClipBackend",
    "TableBackend",
    "TextBackend",
    "TextCache",
    "TextEncoder",
    "backend_kind",
    "build_text_encoder",
    "clean_expression",
    "mean_of_valid",
    "plain_name",
    "read_word_pieces",
]
