"""The text side: CLIP's tower or a table of name embeddings, pooled and projected."""

from partglee.text.cache import TextCache
from partglee.text.clip import ClipBackend
from partglee.text.encoder import TextEncoder, clean_expression
from partglee.text.table import TableBackend

__all__ = ["ClipBackend", "TableBackend", "TextCache", "TextEncoder", "clean_expression"]
