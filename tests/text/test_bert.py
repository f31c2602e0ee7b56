"""BERT as a text backend: a tower of two thin layers, a vocabulary of a few WordPieces."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from partglee.config import load_config
from partglee.modeling import build_model
from partglee.structures import Vocabulary
from partglee.testing import fill_weights
from partglee.text import BertBackend, TextEncoder, read_word_pieces

tokenizers = pytest.importorskip("tokenizers")
pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "left", "dog", "##s", "##house", "car", "##pet", "tail", "head"]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    file = tmp_path / "vocab.txt"
    file.write_text("\n".join(WORDS) + "\n")
    return file


def small_bert(vocabulary: Path | None, **options: object) -> BertBackend:
    sizes = {"width": 16, "num_layers": 2, "num_heads": 2, "ffn_dim": 24, "num_words": len(WORDS), "num_positions": 40}
    backend = BertBackend.from_sizes(vocabulary=vocabulary, **{"context_length": 20, **sizes, **options})  # type: ignore[arg-type]
    fill_weights(backend)
    return backend.eval()


def word_pieces(text: str) -> list[str]:
    """Greedy, longest first: the definition (arXiv 1609.08144, section 4.1)."""
    pieces = ["[CLS]"]
    for word in text.lower().split():
        start, found = 0, []
        while start < len(word):
            end = len(word)
            while end > start and ("##" if start else "") + word[start:end] not in WORDS:
                end -= 1
            if end == start:
                found = ["[UNK]"]
                break
            found.append(("##" if start else "") + word[start:end])
            start = end
        pieces += found
    return [*pieces, "[SEP]"]


def test_words_are_cut_into_pieces(vocabulary: Path) -> None:
    texts = ["The left dogs", "doghouse carpet", "catdog dog", ""]
    ids, mask = small_bert(vocabulary).tokenize(texts)
    assert ids.shape == mask.shape == (4, 6)
    for row, valid, text in zip(ids, mask, texts, strict=True):
        assert [WORDS[i] for i in row[valid]] == word_pieces(text) and (row[~valid] == 0).all()


def test_long_texts_are_cut(vocabulary: Path) -> None:
    backend = small_bert(vocabulary)
    ids, mask = backend.tokenize(["dog " * 50, "dog"])
    assert ids.shape == (2, 20) and mask.sum(1).tolist() == [20, 3] and ids[0, -1] == WORDS.index("[SEP]")
    assert backend.tokenize(["dog"], context_length=5)[1].tolist() == [[True] * 3 + [False] * 2]
    released = small_bert(vocabulary, keep_end=False)
    assert released.tokenize(["dog " * 50])[0][0, -1] == WORDS.index("dog")
    for length in (1, 41):
        with pytest.raises(ValueError, match=r"context_length must be in \[2, 40\]"):
            backend.tokenize(["dog"], context_length=length)


def slow_bert(backend: BertBackend, ids: Tensor, mask: Tensor) -> Tensor:
    """One text (T,) through the definition: post-norm layers, head by head."""
    weights = {name.removeprefix("tower."): value for name, value in backend.state_dict().items()}

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x: Tensor, name: str) -> Tensor:
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-12).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = weights["embeddings.word_embeddings.weight"][ids]
    x = x + weights["embeddings.position_embeddings.weight"][: len(ids)]
    x = norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for i in range(2):
        layer = f"encoder.layer.{i}."
        q, k, v = (linear(x, f"{layer}attention.self.{name}").split(8, dim=-1) for name in ("query", "key", "value"))
        heads = [
            (q[h] @ k[h].T / math.sqrt(8)).masked_fill(~mask[None], float("-inf")).softmax(-1) @ v[h] for h in range(2)
        ]
        x = norm(
            x + linear(torch.cat(heads, -1), f"{layer}attention.output.dense"), f"{layer}attention.output.LayerNorm"
        )
        inner = linear(x, f"{layer}intermediate.dense")
        inner = inner * 0.5 * (1 + torch.erf(inner / math.sqrt(2)))
        x = norm(x + linear(inner, f"{layer}output.dense"), f"{layer}output.LayerNorm")
    return x


def test_states_follow_the_definition(vocabulary: Path) -> None:
    backend = small_bert(vocabulary)
    ids, mask = backend.tokenize(["the left dog", "dog"], context_length=9)
    with torch.no_grad():
        states = backend(ids, mask)
    assert states.shape == (2, 9, 16)
    for i in range(2):
        torch.testing.assert_close(states[i], slow_bert(backend, ids[i], mask[i]), atol=1e-4, rtol=1e-4)


def test_encoder_over_bert(vocabulary: Path) -> None:
    encoder = TextEncoder(backend=small_bert(vocabulary), embed_dim=8).train()
    names = Vocabulary({"dog": ["tail"]})
    first = encoder(encoder.tokenize(names), with_tokens=False)
    assert torch.equal(first.objects, encoder(encoder.tokenize(names), with_tokens=False).objects)  # no dropout: frozen
    torch.testing.assert_close(encoder.embed(names, with_tokens=False).parts, first.parts, atol=1e-5, rtol=1e-5)
    text = encoder.embed_expressions(["the left dog", "car"])
    assert text.tokens is not None and text.tokens.shape == (2, 20, 8)
    trained = TextEncoder(backend=small_bert(vocabulary), embed_dim=8, trainable=True, distill=True).train()
    text = trained(trained.tokenize(names), with_tokens=False)
    text.objects.sum().backward()
    assert all(p.grad is not None for p in trained.backend.parameters())
    assert trained.teacher is not None and not trained.teacher.training and text.distill is not None


def test_fingerprint_follows_weights_and_words(vocabulary: Path) -> None:
    backend, other = small_bert(vocabulary), small_bert(None)
    assert backend.fingerprint() == small_bert(vocabulary).fingerprint() != other.fingerprint()
    before = backend.fingerprint()
    with torch.no_grad():
        next(backend.parameters()).add_(1)
    assert backend.fingerprint() != before


def test_from_a_folder(vocabulary: Path, tmp_path: Path) -> None:
    backend = small_bert(vocabulary)
    folder = tmp_path / "bert"
    backend.tower.save_pretrained(folder)
    (folder / "vocab.txt").write_text(vocabulary.read_text())
    read = BertBackend.from_pretrained(folder, context_length=20)
    assert read.fingerprint() == backend.fingerprint()
    backend.tokenizer.save(str(tmp_path / "tokenizer.json"))
    other = BertBackend.from_pretrained(folder, vocabulary=tmp_path / "tokenizer.json", context_length=20)
    assert torch.equal(other.tokenize(["the dogs"])[0], backend.tokenize(["the dogs"])[0])
    with pytest.raises(ValueError, match="no BERT weights"):
        BertBackend.from_pretrained(tmp_path / "nothing")


def test_a_model_of_the_configuration(vocabulary: Path) -> None:
    overrides = [
        "MODEL.TEXT.BACKEND", "bert", "MODEL.TEXT.BERT.VOCABULARY", str(vocabulary), "MODEL.TEXT.BERT.WIDTH", 16,
        "MODEL.TEXT.BERT.NUM_LAYERS", 1, "MODEL.TEXT.BERT.NUM_HEADS", 2, "MODEL.TEXT.BERT.FFN_DIM", 16,
    ]  # fmt: skip
    model = build_model(load_config("tiny", overrides)).eval()
    with torch.no_grad():
        batch = model.batch([torch.zeros(3, 64, 64)])
        assert model(batch, model.embed(Vocabulary({"dog": ["tail"]}))).parts is not None
        assert (
            model(batch, model.text_encoder.embed_expressions(["the left dog"])).objects.layers[-1].logits.shape[2] == 1
        )


def test_bad_vocabularies(tmp_path: Path, vocabulary: Path) -> None:
    (tmp_path / "short.txt").write_text("[PAD]\n[UNK]\n[CLS]\ndog\n")
    (tmp_path / "empty.json").write_text("{}")
    other = tokenizers.Tokenizer(tokenizers.models.WordPiece({"[UNK]": 0, "dog": 1}, unk_token="[UNK]"))
    other.save(str(tmp_path / "other.json"))
    for name, message in {
        "short.txt": "no vocabulary of WordPieces: sep_token",
        "empty.json": "no vocabulary of WordPieces",
        "other.json": r"lacks \[CLS\], \[SEP\], \[PAD\]",
        "gone.txt": "no vocabulary",
    }.items():
        with pytest.raises(ValueError, match=message):
            read_word_pieces(tmp_path / name)
    with pytest.raises(ValueError, match="no vocabulary: pass"):
        small_bert(None).tokenize(["dog"])
    with pytest.raises(ValueError, match="13 words, the tower 5"):
        small_bert(vocabulary, num_words=5)
    with pytest.raises(ValueError, match="multiple of num_heads"):
        small_bert(vocabulary, num_heads=3)


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'partglee\[bert\]'"):
        BertBackend.from_sizes()
