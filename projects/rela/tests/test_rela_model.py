"""The whole model: an image is encoded once, batches change nothing, every place of words does what it says."""

from __future__ import annotations

import pytest
import torch
from rela.model import ReLA
from rela_helpers import tiny_rela
from torch import Tensor

from partglee.modeling.photo_model import Words

EXPRESSIONS = ["the red car", "all boats on the left", "the ball"]


def images(count: int, height: int = 64, width: int = 96, *, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8) for _ in range(count)]


@pytest.fixture(scope="module", params=["backbone", "memory", "none", "gates"])
def model(request: pytest.FixtureRequest) -> ReLA:
    place = "backbone" if request.param == "gates" else request.param
    return tiny_rela(["MODEL.FUSION.PLACE", place, "MODEL.FUSION.GATES", request.param == "gates"])


@torch.no_grad()
def test_batches_change_nothing(model: ReLA) -> None:
    """Two images with three expressions, mixed, against each pair alone."""
    batch = model.batch(images(2))
    image_of = torch.tensor([0, 1, 0])
    words = model.read(EXPRESSIONS)
    together = model(batch, words, image_of)
    assert together.masks.shape == (3, 2, 16, 24)
    for e, row in enumerate(image_of):
        alone = model(batch.tensor[row : row + 1], model.read(EXPRESSIONS[e : e + 1]), torch.tensor([0]))
        torch.testing.assert_close(together.minimap[e], alone.minimap[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.no_target[e], alone.no_target[0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.masks[e], alone.masks[0], atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_encode_once_then_decode(model: ReLA) -> None:
    batch = model.batch(images(1))
    encoded = model.encode_image(batch)
    words = model.read(EXPRESSIONS)
    image_of = torch.zeros(3, dtype=torch.long)
    torch.testing.assert_close(model.decode(encoded, words, image_of).masks, model(batch, words, image_of).masks)
    for e, text in enumerate(EXPRESSIONS):
        alone = model.decode(encoded, model.read([text]), image_of[:1])
        torch.testing.assert_close(alone.no_target[0], model(batch, words, image_of).no_target[e], atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_words_matter_and_so_do_images(model: ReLA) -> None:
    batch, other = model.batch(images(1)), model.batch(images(1, seed=1))
    row = torch.tensor([0])
    said = [model(batch, model.read([text]), row).masks for text in EXPRESSIONS[:2]]
    assert not torch.allclose(said[0], said[1], atol=1e-4)
    assert not torch.allclose(said[0], model(other, model.read(EXPRESSIONS[:1]), row).masks, atol=1e-4)


def test_what_runs_once() -> None:
    """With words behind the pixel decoder, or nowhere, its output is part of the encoded image; else maps are."""
    batch = images(1)
    for place, shared in (("memory", True), ("none", True), ("backbone", False)):
        made = tiny_rela(["MODEL.FUSION.PLACE", place])
        calls: list[int] = []
        made.pixel_decoder.register_forward_hook(lambda module, inputs, output, calls=calls: calls.append(1))
        made.backbone.register_forward_hook(lambda module, inputs, output, calls=calls: calls.append(10))
        with torch.no_grad():
            encoded = made.encode_image(made.batch(batch))
            assert sum(calls) == (11 if shared else 10)
            made.decode(encoded, made.read(EXPRESSIONS), torch.zeros(3, dtype=torch.long))
        assert sum(calls) == 11


@torch.no_grad()
def test_closed_gates_are_as_none() -> None:
    plain = tiny_rela(["MODEL.FUSION.PLACE", "backbone"])
    gated = tiny_rela(["MODEL.FUSION.PLACE", "backbone", "MODEL.FUSION.GATES", True])
    gated.load_state_dict(plain.state_dict(), strict=False)
    batch, words, row = plain.batch(images(1)), plain.read(EXPRESSIONS), torch.zeros(3, dtype=torch.long)
    assert not torch.allclose(plain(batch, words, row).masks, gated(batch, words, row).masks, atol=1e-3)
    for gate in gated.gates:
        gate.outer.weight.zero_()
    torch.testing.assert_close(plain(batch, words, row).masks, gated(batch, words, row).masks, atol=1e-3, rtol=1e-3)
    assert torch.equal(gated(batch, words, row).masks, gated(batch, words, row).masks)  # no hook stays behind


@torch.no_grad()
def test_hard_split_of_the_input() -> None:
    """A change inside one piece of the image leaves the backbone's maps of the others alone."""
    made = tiny_rela(["MODEL.REGIONS.SPLIT", "input", "MODEL.REGIONS.NUM", 2])
    seen: list[Tensor] = []
    made.pixel_decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    picture = images(1, 64, 64)[0]
    changed = picture.clone()
    changed[:, 40:, 40:] = 255 - changed[:, 40:, 40:]
    for one in (picture, changed):
        output = made(made.batch([one]), made.read(EXPRESSIONS[:1]), torch.tensor([0]))
    assert output.masks.shape[-2:] == (16, 16)
    before, after = seen
    assert torch.equal(before[..., :8, :], after[..., :8, :]) and torch.equal(before[..., :8], after[..., :8])
    assert not torch.allclose(before[..., 8:, 8:], after[..., 8:, 8:])
    odd = made(made.batch(images(1, 96, 160)), made.read(EXPRESSIONS[:1]), torch.tensor([0]))  # pieces are made to fit
    assert odd.masks.isfinite().all()


@torch.no_grad()
@pytest.mark.parametrize("size", [(32, 64), (33, 97), (160, 64)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    for place in ("backbone", "memory"):
        made = tiny_rela(["MODEL.FUSION.PLACE", place])
        output = made(made.batch(images(1, *size)), made.read(EXPRESSIONS), torch.zeros(3, dtype=torch.long))
        assert output.masks.isfinite().all() and output.minimap.isfinite().all()


def test_every_weight_learns() -> None:
    for place in ("backbone", "memory"):
        made = tiny_rela(["MODEL.FUSION.PLACE", place]).train()
        output = made(made.batch(images(2)), made.read(EXPRESSIONS), torch.tensor([0, 1, 1]))
        (output.masks.square().mean() + output.no_target.square().mean()).backward()
        still = [n for n, p in made.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
        # Keys shift all logits of a row alike; a channel's mean is taken off again behind these biases.
        known = (".key.bias", ".query.bias", ".out.bias", "fusion.0.value.bias", "fusion.1.value.bias",
                 "fusion.2.value.bias", "fusion.3.value.bias")  # fmt: skip
        still = [n for n in still if not n.endswith(known) and not n.startswith(("text_encoder.", "backbone."))]
        assert not still
        assert made.text_encoder.tower.embeddings.word_embeddings.weight.grad.any()
        assert made.backbone.body.conv1[0].weight.grad.any()


def test_frozen_words() -> None:
    made = tiny_rela(["MODEL.TEXT.FROZEN_LAYERS", [1], "MODEL.TEXT.FROZEN_EMBEDDINGS", True])
    learn = {n for n, p in made.text_encoder.named_parameters() if p.requires_grad}
    assert learn and all(".layer.0." in name for name in learn)
    assert not any(p.requires_grad for p in tiny_rela(["MODEL.TEXT.TRAINABLE", False]).text_encoder.parameters())


def test_wrong_input() -> None:
    made = tiny_rela()
    with pytest.raises(ValueError, match="multiples of 32"):
        made.encode_image(torch.zeros(1, 3, 40, 64))
    encoded = made.encode_image(torch.zeros(1, 3, 64, 64))
    with pytest.raises(ValueError, match="the image of each of 3 expressions, got 1"):
        made.decode(encoded, made.read(EXPRESSIONS), torch.tensor([0]))
    with pytest.raises(ValueError, match="gates need fusion"):
        tiny_rela(["MODEL.FUSION.PLACE", "memory", "MODEL.FUSION.GATES", True])
    with pytest.raises(ValueError, match="fusion must be one of"):
        tiny_rela_with_fusion("everywhere")


def tiny_rela_with_fusion(place: str) -> ReLA:
    made = tiny_rela()
    return ReLA(
        backbone=made.backbone, text_encoder=made.text_encoder, pixel_decoder=made.pixel_decoder,
        region_decoder=made.region_decoder, fusion=place, fusion_blocks=[],
    )  # fmt: skip


@torch.no_grad()
def test_padding_that_takes_part_is_always_the_same() -> None:
    """As released: otherwise an answer would depend on the longest expression that is asked with it."""
    made = tiny_rela(["MODEL.REGIONS.ATTEND_TO_PADDING", True])
    texts = ["car", "the red car on the left"]
    words = made.read(texts)
    assert words.states.shape[1] == made.text_encoder.context_length == 20
    batch = made.batch(images(1))
    together = made(batch, words, torch.tensor([0, 0]))
    alone = made(batch, made.read(texts[:1]), torch.tensor([0]))
    torch.testing.assert_close(together.minimap[0], alone.minimap[0], atol=1e-4, rtol=1e-4)
    assert tiny_rela().read(texts).states.shape[1] == 8


def test_expressions_of_other_lengths_pad_each_other() -> None:
    made = tiny_rela()
    words: Words = made.read(["car", "the red car on the left"])
    assert words.mask.sum(1).tolist() == [3, 8]
    torch.testing.assert_close(words.states[0, :3], made.read(["car"]).states[0], atol=1e-5, rtol=1e-5)
