"""Text backends, pooling, caching, expressions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from partglee.structures import BatchNames, TextTokens, Vocabulary
from partglee.testing import fill_weights, write_name_table
from partglee.text import ClipBackend, TableBackend, TextCache, TextEncoder, clean_expression


def small_clip() -> ClipBackend:
    """CLIP's architecture cut down to two thin layers."""
    from open_clip.transformer import QuickGELU, TextTransformer

    backend = ClipBackend.__new__(ClipBackend)
    nn.Module.__init__(backend)
    backend.architecture, backend.width, backend.end_of_text = "small", 32, 49407
    backend.tower = TextTransformer(width=32, heads=4, layers=2, proj_type="none", output_dim=None, act_layer=QuickGELU)
    return fill_weights(backend).eval()


@pytest.fixture
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(backend=small_clip(), embed_dim=16).eval()


VOCABULARY = Vocabulary({"dog": ["head", "left front leg"], "car_(automobile)": []})


def test_tokens_end_with_end_of_text_and_pad_with_it() -> None:
    ids, mask = small_clip().tokenize(["dog", "a big brown dog"])
    assert ids.shape == mask.shape == (2, 6)
    assert ids[0, 0] == 49406 and ids[0, 2:].tolist() == [49407] * 4
    assert mask.sum(1).tolist() == [3, 6]
    assert small_clip().tokenize(["dog"], context_length=77)[0].shape == (1, 77)


def test_long_names_are_cut_at_77_tokens() -> None:
    ids, mask = small_clip().tokenize(["dog " * 200])
    assert ids.shape == (1, 77) and mask.all() and ids[0, -1] == 49407


def test_padding_does_not_change_valid_tokens() -> None:
    backend = small_clip()
    short = backend(*backend.tokenize(["dog"]))
    long = backend(*backend.tokenize(["dog"], context_length=77))
    torch.testing.assert_close(long[:, :3], short, atol=1e-5, rtol=0)


def test_pads_see_the_valid_tokens_and_no_pad() -> None:
    """Then every pad sees the same keys, so two pads differ by their own position alone."""
    backend = small_clip()
    ids, mask = backend.tokenize(["dog"], context_length=77)
    with torch.no_grad():
        backend.tower.positional_embedding[5] = backend.tower.positional_embedding[9]
        states = backend(ids, mask)
    torch.testing.assert_close(states[0, 5], states[0, 9])


def test_tower_equals_open_clips_own_forward() -> None:
    backend = small_clip()
    ids, mask = backend.tokenize(["a photo of a dog"])
    tower = backend.tower
    padded = torch.zeros(1, 77, dtype=torch.long)
    padded[0, : ids.shape[1]] = ids[0]
    tower.output_tokens = True
    _, tokens = tower(padded)
    torch.testing.assert_close(backend(ids, mask)[0], tokens[0, : ids.shape[1]], atol=1e-5, rtol=0)


def test_pooling_is_the_mean_of_projected_valid_tokens(encoder: TextEncoder) -> None:
    tokens = encoder.tokenize(VOCABULARY)
    states = encoder.backend(tokens.ids, tokens.mask)
    text = encoder(tokens, with_tokens=False)
    assert encoder.projection is not None
    for row, expected in enumerate(torch.cat((text.objects, text.parts))):
        valid = [s @ encoder.projection for s, m in zip(states[row], tokens.mask[row], strict=True) if m]
        torch.testing.assert_close(expected, torch.stack(valid).mean(0), atol=1e-5, rtol=1e-5)
    assert text.objects.shape == (2, 16) and text.parts.shape == (2, 16) and text.tokens is None


def test_fusion_tokens_are_all_valid_tokens(encoder: TextEncoder) -> None:
    tokens = encoder.tokenize(VOCABULARY)
    text = encoder(tokens, with_tokens=True)
    assert text.tokens is not None and text.token_mask is not None
    assert text.tokens.shape == (1, int(tokens.mask.sum()), 16) and text.token_mask.all()


def test_embed_equals_forward_and_is_cached(encoder: TextEncoder) -> None:
    fresh = encoder(encoder.tokenize(VOCABULARY), with_tokens=True)
    cached = encoder.embed(VOCABULARY, with_tokens=True)
    for ours, theirs in zip(cached[:4], fresh[:4], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert encoder.embed(VOCABULARY, with_tokens=True) is cached


def test_no_name_is_encoded_twice(encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    forward = encoder.backend.forward
    monkeypatch.setattr(encoder.backend, "forward", lambda ids, mask: (seen.append(len(ids)), forward(ids, mask))[1])
    encoder.embed(VOCABULARY, with_tokens=False)
    encoder.embed(Vocabulary({"dog": ["head", "tail"]}), with_tokens=False)
    assert seen == [4, 1]  # the second time only "dog tail" is new


def test_cache_follows_the_weights(encoder: TextEncoder) -> None:
    before = encoder.embed(VOCABULARY, with_tokens=False).objects.clone()
    with torch.no_grad():
        encoder.backend.tower.ln_final.bias.add_(1.0)
    after = encoder.embed(VOCABULARY, with_tokens=False).objects
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, encoder(encoder.tokenize(VOCABULARY), with_tokens=False).objects)


def test_cache_on_disk(tmp_path: Path) -> None:
    torch.manual_seed(0)
    first = TextEncoder(backend=small_clip(), embed_dim=16, cache_dir=tmp_path).eval()
    expected = first.embed(VOCABULARY, with_tokens=False)
    files = list(tmp_path.iterdir())
    assert len(files) == 1 and files[0].suffix == ".safetensors"
    second = TextEncoder(backend=small_clip(), embed_dim=16, cache_dir=tmp_path).eval()
    second.load_state_dict(first.state_dict())
    second.backend.forward = None  # type: ignore[assignment]  # must not be needed
    torch.testing.assert_close(second.embed(VOCABULARY, with_tokens=False).parts, expected.parts)
    files[0].write_bytes(b"damaged")
    cache = TextCache(directory=tmp_path)
    cache.open(files[0].stem)
    assert cache.get("dog") is None


def test_expressions(encoder: TextEncoder) -> None:
    tokens = encoder.tokenize_expressions(["The left-most Dog!", "car"])
    assert tokens.ids.shape == (2, 77) and tokens.expressions and tokens.num_objects == 2
    text = encoder.embed_expressions(["the left most dog", "car"])
    assert text.tokens is not None and text.tokens.shape == (2, 77, 16) and text.expressions
    assert text.parts.shape == (0, 16)
    same = encoder(tokens, with_tokens=True)
    torch.testing.assert_close(same.objects, text.objects)


def test_clean_expression() -> None:
    assert clean_expression("Left-hand man's  hat, w/ feather.") == "left hand mans hat w feather"


def test_empty_expression(encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="at least one word"):
        encoder.tokenize_expressions(["dog", "?!"])


def test_trainable_and_frozen_gradients() -> None:
    for trainable in (False, True):
        encoder = TextEncoder(backend=small_clip(), embed_dim=16, trainable=trainable)
        encoder(encoder.tokenize(VOCABULARY), with_tokens=False).objects.sum().backward()
        assert encoder.projection is not None and encoder.projection.grad is not None
        assert (encoder.backend.tower.positional_embedding.grad is not None) == trainable


def test_distillation_exposes_both_towers() -> None:
    encoder = TextEncoder(backend=small_clip(), embed_dim=16, trainable=True, distill=True).train()
    with torch.no_grad():
        encoder.backend.tower.ln_final.weight.mul_(1.5)
    tokens = encoder.tokenize(VOCABULARY)
    text = encoder(tokens, with_tokens=False)
    assert text.distill is not None
    student, teacher = text.distill
    assert student.shape == teacher.shape == (int(tokens.mask.sum()), 32)
    assert student.requires_grad and not teacher.requires_grad and not torch.allclose(student, teacher)
    assert encoder.eval()(tokens, with_tokens=False).distill is None


def test_teacher_is_the_tower_that_was_loaded() -> None:
    plain = TextEncoder(backend=small_clip(), embed_dim=16)
    with torch.no_grad():
        plain.backend.tower.ln_final.bias.add_(3.0)
    distilled = TextEncoder(backend=small_clip(), embed_dim=16, trainable=True, distill=True)
    distilled.load_state_dict(plain.state_dict())
    assert distilled.teacher is not None
    torch.testing.assert_close(distilled.teacher.tower.ln_final.bias, plain.backend.tower.ln_final.bias)


def test_distill_needs_trainable() -> None:
    with pytest.raises(ValueError, match="trainable=True"):
        TextEncoder(backend=small_clip(), embed_dim=16, distill=True)


# ---------------------------------------------------------------- tables


@pytest.fixture
def table(tmp_path: Path) -> TableBackend:
    names = ["dog", "dog:head", "car_(automobile)", "car_(automobile):inner_body", "wheel"]
    return TableBackend(file=write_name_table(tmp_path / "names.npz", names, width=8), width=8)


@pytest.mark.parametrize(
    ("name", "row"),
    [("dog", 0), ("Dog Head", 1), ("dog's head", 1), ("car", 2), ("car inner body", 3), ("car_(automobile)", 2)],
)
def test_table_finds_plain_forms(table: TableBackend, name: str, row: int) -> None:
    assert table.tokenize([name])[0].tolist() == [[row]]


def test_table_vocabulary(table: TableBackend) -> None:
    encoder = TextEncoder(backend=table, embed_dim=4)
    text = encoder.embed(Vocabulary({"dog": ["head"]}), with_tokens=True)
    assert encoder.projection is not None and text.tokens is not None
    torch.testing.assert_close(text.parts[0], table.embeddings[1] @ encoder.projection)
    assert text.tokens.shape == (1, 2, 4)


def test_table_reads_a_part_by_its_own_name_where_it_lacks_the_pair(
    table: TableBackend, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    vocabulary = Vocabulary({"dog": ["head", "wheel"]})  # it has "dog:head" and, of the other, "wheel" alone
    encoder = TextEncoder(backend=table, embed_dim=4)
    with caplog.at_level("INFO"):
        assert encoder.tokenize(vocabulary).ids.flatten().tolist() == [0, 1, 4]
        parts = encoder.embed(vocabulary, with_tokens=False).parts
        assert encoder.projection is not None
        torch.testing.assert_close(parts, table.embeddings[[1, 4]] @ encoder.projection)
        batch = BatchNames(vocabulary.object_prompts, vocabulary.part_prompts, vocabulary.part_names)
        assert encoder.tokenize(batch).ids.flatten().tolist() == [0, 1, 4], "training reads the same rows"
    assert [record.message for record in caplog.records] == [
        "parts that the name table lacks are read by their own names: 'dog wheel' as 'wheel'"
    ], "once, whatever is asked how often"
    assert not len(recwarn), "it is the word that was asked for"
    with pytest.raises(ValueError, match="unknown name 'dog wheel'"):
        encoder.tokenize(batch._replace(part_names=()))


@pytest.mark.parametrize("names", [{"dog": ["tail"]}, ["dog wheel"]])  # neither has the tail; an object keeps its name
def test_table_refuses_what_it_has_under_no_name(table: TableBackend, names: Any) -> None:
    with pytest.raises(ValueError, match="unknown name 'dog "):
        TextEncoder(backend=table, embed_dim=4).tokenize(Vocabulary(names))


def test_projected_table_has_no_projection(tmp_path: Path) -> None:
    file = write_name_table(tmp_path / "names.npz", ["dog"], width=4)
    encoder = TextEncoder(backend=TableBackend(file=file, width=4, projected=True), embed_dim=4)
    assert encoder.projection is None and not list(encoder.parameters())
    torch.testing.assert_close(
        encoder.embed(Vocabulary(["dog"]), with_tokens=False).objects, encoder.backend.embeddings
    )
    with pytest.raises(ValueError, match="must be 8 wide"):
        TextEncoder(backend=TableBackend(file=file, width=4, projected=True), embed_dim=8)


def test_unknown_name_lists_the_nearest(table: TableBackend) -> None:
    with pytest.raises(ValueError, match=r"'wheels'.*'wheel'"):
        table.tokenize(["wheels"])


def test_table_without_a_file() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.TEXT\.TABLE\.FILE"):
        TableBackend(file=None, width=4).tokenize(["dog"])


def test_table_refuses_expressions(table: TableBackend) -> None:
    with pytest.raises(ValueError, match="referring expressions"):
        TextEncoder(backend=table, embed_dim=4).tokenize_expressions(["the dog"])


def test_bad_tables(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("nothing")
    np.savez(tmp_path / "keys.npz", vectors=np.zeros((2, 4)))
    np.savez(tmp_path / "rows.npz", names=np.array(["a"]), embeddings=np.zeros((2, 4)))
    np.savez(tmp_path / "nan.npz", names=np.array(["a"]), embeddings=np.full((1, 4), np.nan))
    (tmp_path / "names.csv").write_text("dog,1,2,3,4")
    for name, message in {
        "text.npz": "not a readable|allow_pickle|pickled", "keys.npz": "names", "rows.npz": "1 names", "nan.npz": "NaN",
        "names.csv": r"\.npz or a \.safetensors", "gone.npz": "no name table",
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            TableBackend(file=tmp_path / name, width=4)
    with pytest.raises(ValueError, match="4-d embeddings"):
        TableBackend(file=write_name_table(tmp_path / "ok.npz", ["a"], width=4), width=8)


def test_real_table(shared: Path) -> None:
    table = TableBackend(file=shared / "data" / "clip_name_embeddings" / "clip_rn50_names.npz", width=1024)
    for name in ("person", "car_(automobile):wheel", "dog head", "aeroplane:wing", "quadruped head"):
        assert table.tokenize([name])[0].shape == (1, 1)
    vocabulary = Vocabulary.builtin("paco")
    text = TextEncoder(backend=table, embed_dim=16).embed(vocabulary, with_tokens=False)
    assert text.objects.shape == (75, 16) and text.parts.shape == (456, 16)


def test_two_thousand_names(encoder: TextEncoder) -> None:
    text = encoder.embed(Vocabulary([f"thing number {i}" for i in range(2000)]), with_tokens=False)
    assert text.objects.shape == (2000, 16) and torch.isfinite(text.objects).all()


def test_tokens_are_tensors(encoder: TextEncoder) -> None:
    tokens = encoder.tokenize(VOCABULARY)
    assert isinstance(tokens, TextTokens) and tokens.num_objects == 2 and tokens.ids.dtype == torch.long


def test_cache_serves_callers_in_any_mode(encoder: TextEncoder) -> None:
    """Filled under autocast and inference mode, read with gradients on."""
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        first = encoder.embed(VOCABULARY, with_tokens=False)
    assert first.objects.dtype == torch.float32 and not first.objects.is_inference()
    (encoder.embed(VOCABULARY, with_tokens=False).objects * torch.ones(1, requires_grad=True)).sum().backward()


def test_clear_cache_after_writes_that_do_not_count(encoder: TextEncoder) -> None:
    before = encoder.embed(VOCABULARY, with_tokens=False).objects
    assert encoder.projection is not None
    encoder.projection.data.mul_(2)
    encoder.clear_cache()
    torch.testing.assert_close(encoder.embed(VOCABULARY, with_tokens=False).objects, 2 * before)


def test_expression_must_be_text(encoder: TextEncoder) -> None:
    with pytest.raises(TypeError, match="int 5"):
        encoder.tokenize_expressions([5])  # type: ignore[list-item]


def test_damaged_table(tmp_path: Path) -> None:
    good = write_name_table(tmp_path / "good.npz", ["dog"] * 200, width=64)
    (tmp_path / "half.npz").write_bytes(good.read_bytes()[:900])
    with pytest.raises(ValueError, match=r"half\.npz is not a readable name table"):
        TableBackend(file=tmp_path / "half.npz", width=64)
