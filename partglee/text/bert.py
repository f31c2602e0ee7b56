"""BERT (arXiv 1810.04805) as a source of token states, through the `transformers` library.

N texts, T tokens, W text width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from partglee.text.backend import TextBackend, fingerprint_of
from partglee.text.word_pieces import vocabulary_file

_SPECIAL = _BEGIN, _END, _PAD, _UNKNOWN = "[CLS]", "[SEP]", "[PAD]", "[UNK]"
_FILES = ("tokenizer.json", "vocab.txt")


class BertBackend(TextBackend):
    """A BERT encoder without its pooler, read at its last hidden state. Pads are hidden from the other tokens.

    `from_sizes` builds one with fresh weights, `from_pretrained` loads one in the library's own format.

    Args:
        tower: `transformers.BertModel(config, add_pooling_layer=False)`, or an encoder that is called the same way.
        tokenizer: of `read_word_pieces`; None = `tokenize` cannot be called.
        context_length: longest text, `[CLS]` and `[SEP]` included.
        keep_end: a text that is cut ends with `[SEP]` all the same; False cuts it off with the rest (ReLA as released).
    """

    def __init__(
        self, *, tower: nn.Module, tokenizer: Any | None = None, context_length: int = 77, keep_end: bool = True
    ) -> None:
        super().__init__()
        config: Any = tower.config
        self.tower = tower
        self.tokenizer = tokenizer
        self.width = int(config.hidden_size)
        self.num_positions = int(config.max_position_embeddings)
        self.context_length = self._checked(context_length)
        self.keep_end = keep_end
        if tokenizer is not None and tokenizer.get_vocab_size() > config.vocab_size:
            raise ValueError(
                f"the vocabulary holds {tokenizer.get_vocab_size()} words, the tower {config.vocab_size}; "
                "use the vocabulary of its weights"
            )

    @classmethod
    def from_sizes(
        cls,
        *,
        vocabulary: str | Path | None = None,
        width: int = 768,
        num_layers: int = 12,
        num_heads: int = 12,
        ffn_dim: int = 3072,
        num_words: int = 30522,
        num_positions: int = 512,
        dropout: float = 0.1,
        **options: Any,
    ) -> BertBackend:
        """A tower with fresh weights; the defaults are those of BERT-base, uncased.

        Args:
            vocabulary: a file for `read_word_pieces`.
            dropout: of states and attention, while training.
            options: as for the class.
        """
        if width % num_heads:
            raise ValueError(f"width {width} must be a multiple of num_heads {num_heads}")
        library = _transformers()
        config = library.BertConfig(
            vocab_size=num_words,
            hidden_size=width,
            num_hidden_layers=num_layers,
            num_attention_heads=num_heads,
            intermediate_size=ffn_dim,
            max_position_embeddings=num_positions,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        tokenizer = None if vocabulary is None else read_word_pieces(vocabulary)
        return cls(tower=library.BertModel(config, add_pooling_layer=False), tokenizer=tokenizer, **options)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, vocabulary: str | Path | None = None, **options: Any) -> BertBackend:
        """Weights that `transformers` has written to a folder, or that it finds by name.

        Args:
            vocabulary: a file for `read_word_pieces`; None = what belongs to the weights.
            options: as for the class.

        Raises:
            ValueError: when there are no such weights, or none of BERT's form.
        """
        library = _transformers()
        try:
            tower = library.BertModel.from_pretrained(str(name), add_pooling_layer=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"no BERT weights at {str(name)!r}: {error}") from error
        beside = [Path(name) / file for file in _FILES if (Path(name) / file).is_file()]
        if vocabulary is None and not beside:
            tokenizer = library.AutoTokenizer.from_pretrained(str(name)).backend_tokenizer
        else:
            tokenizer = read_word_pieces(vocabulary or beside[0])
        return cls(tower=tower, tokenizer=tokenizer, **options)

    def tokenize(self, texts: Sequence[str], *, context_length: int | None = None) -> tuple[Tensor, Tensor]:
        """Token ids (N, T) long, padded with `[PAD]`, and their mask (N, T), True = valid, begin and end included.

        Args:
            context_length: T, longer texts are cut; None = the longest of these texts, at most the backend's own.
        """
        if self.tokenizer is None:
            raise ValueError(
                "this BERT has no vocabulary: pass vocabulary= (MODEL.TEXT.BERT.VOCABULARY), the vocab.txt or "
                "tokenizer.json of its weights"
            )
        limit = self.context_length if context_length is None else self._checked(context_length)
        end = self.tokenizer.token_to_id(_END)
        rows = [encoded.ids for encoded in self.tokenizer.encode_batch(list(texts))]
        self.tell_cut([text for text, row in zip(texts, rows, strict=True) if len(row) > limit], limit)
        rows = [[*row[: limit - 1], end] if len(row) > limit and self.keep_end else row[:limit] for row in rows]
        length = limit if context_length is not None else max(map(len, rows), default=1)
        ids = torch.full((len(rows), length), self.tokenizer.token_to_id(_PAD), dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        mask = torch.arange(length)[None] < torch.tensor([len(row) for row in rows])[:, None]
        return ids, mask

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """(N, T) ids and mask -> (N, T, W) states of the last layer."""
        return self.tower(input_ids=ids, attention_mask=mask.long()).last_hidden_state

    def fingerprint(self) -> str:
        """Hash of the configuration, the vocabulary and the weights, for caches on disk."""
        words = "" if self.tokenizer is None else self.tokenizer.to_str()
        config: Any = self.tower.config
        return fingerprint_of(f"{config.to_json_string()}{words}", self.tower.state_dict())

    def _checked(self, context_length: int) -> int:
        if not 2 <= context_length <= self.num_positions:
            raise ValueError(f"context_length must be in [2, {self.num_positions}], got {context_length}")
        return context_length


def read_word_pieces(file: str | Path) -> Any:
    """A WordPiece tokenizer that adds `[CLS]` and `[SEP]` and neither cuts nor pads.

    Args:
        file: a `tokenizer.json`, or a `vocab.txt`, one WordPiece a line, whose words are lower case if they all are; or
            the name of a vocabulary that comes with the library (`toy`).

    Raises:
        ValueError: for a file that is neither.
    """
    _transformers()
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    file = vocabulary_file(file)
    if not file.is_file():
        raise ValueError(f"no vocabulary {file}; pass BERT's vocab.txt or tokenizer.json")
    try:
        if file.suffix == ".json":
            tokenizer = Tokenizer.from_file(str(file))
        else:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
            words = {word: row for row, word in enumerate(lines)}
            plain = [word for word in lines if word not in _SPECIAL and not word.startswith("[unused")]
            tokenizer = BertWordPieceTokenizer(vocab=words, lowercase=all(w == w.lower() for w in plain))._tokenizer
    except Exception as error:  # the library has no type of its own for what it cannot read
        raise ValueError(f"{file} is no vocabulary of WordPieces: {error}") from error
    if missing := [word for word in _SPECIAL if tokenizer.token_to_id(word) is None]:
        raise ValueError(f"{file} lacks {', '.join(missing)}; is it the vocabulary of another kind of tokenizer?")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError("BERT needs the library transformers: pip install 'partglee[bert]'") from error
    return transformers
