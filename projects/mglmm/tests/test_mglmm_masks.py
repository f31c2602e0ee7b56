"""Mask decoders: prompts to masks of the image as it is, and who learns."""

from __future__ import annotations

import mglmm_helpers as helpers
import pytest
import torch
from mglmm.masks import QueryMasks
from mglmm.masks.base import map_tensors, stack_features
from mglmm.masks.queries import best_cover
from torch.nn import functional as F

from partglee import Vocabulary
from partglee.engine.image_input import ImageInput, frames

VOCABULARY = Vocabulary.parse("dog: head, tail; person: arm, lower leg; cat")


@pytest.fixture(scope="module")
def queries(tiny):
    return QueryMasks(model=tiny, vocabulary=VOCABULARY, image_input=ImageInput(short_side=64, max_side=96))


@pytest.fixture(params=["sam", "sam2", "queries"])
def decoder(request):
    if request.param == "queries":
        return request.getfixturevalue("queries").eval()
    return {"sam": helpers.sam, "sam2": helpers.sam2}[request.param]().eval()


def seen(decoder, *sizes):
    """Features of pictures and their frames."""
    read = [decoder.image_input.read(helpers.picture(*size, seed=n)) for n, size in enumerate(sizes)]
    batch = decoder.batch([image.resized for image in read], decoder.canvas)
    return decoder.features(batch.tensor), frames(read, batch)


def test_masks_of_the_image_as_it_is(decoder):
    features, frame = seen(decoder, (40, 60), (50, 30))
    torch.manual_seed(0)
    prompts, image_of = torch.randn(3, decoder.prompt_dim), torch.tensor([0, 0, 1])
    with torch.no_grad():
        found = decoder.decode(features, prompts, image_of)
    assert found.logits.shape[0] == 3 and found.confidence.shape == (3,)
    assert bool(((found.confidence >= 0) & (found.confidence <= 1)).all())
    assert decoder.to_image(found.logits[:2], frame[0]).shape == (2, 40, 60)
    assert decoder.to_image(found.logits[2:], frame[1]).shape == (1, 50, 30)
    assert decoder.to_image(found.logits[:0], frame[1]).shape == (0, 50, 30)


def test_prompts_do_not_disturb_each_other(decoder):
    """One at a time, and each image by itself, gives the same masks; a prompt of its own gives another mask."""
    features, _ = seen(decoder, (40, 60), (40, 60))
    torch.manual_seed(1)
    prompts, image_of = 3 * torch.randn(3, decoder.prompt_dim), torch.tensor([1, 0, 1])
    with torch.no_grad():
        together = decoder.decode(features, prompts, image_of)
        for n, image in enumerate(image_of.tolist()):
            own = map_tensors(features, lambda value, image=image: value[image : image + 1])
            alone = decoder.decode(own, prompts[n : n + 1], torch.zeros(1, dtype=torch.long))
            torch.testing.assert_close(alone.logits[0], together.logits[n], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(alone.confidence[0], together.confidence[n])
    assert not torch.allclose(together.confidence[0], together.confidence[2])


def test_no_prompt_no_mask(decoder):
    features, _ = seen(decoder, (40, 60))
    prompts = torch.zeros(0, decoder.prompt_dim, requires_grad=True)
    found = decoder.decode(features, prompts, torch.zeros(0, dtype=torch.long))
    assert len(found.logits) == len(found.confidence) == 0


def test_gradient_reaches_what_learns(decoder):
    """All that `learning` lists, nothing else; SAM 2's fine convolutions among it."""
    decoder.train()
    read = [decoder.image_input.read(helpers.picture())]
    batch = decoder.batch([image.resized for image in read], decoder.canvas)
    features = decoder.features(batch.tensor)
    assert decoder.training  # `features` puts the mode back
    prompts = torch.randn(2, decoder.prompt_dim, requires_grad=True)
    truth = torch.zeros(2, *batch.canvas, dtype=torch.bool)
    truth[:, 5:30, 5:20] = True
    found = decoder.decode(features, prompts, torch.zeros(2, dtype=torch.long), truth)
    loss = found.logits.pow(2).sum() + found.confidence.sum() + (0 if found.loss is None else found.loss)
    loss.backward()
    assert prompts.grad is not None and float(prompts.grad.abs().sum()) > 0
    meant = dict(decoder.learning())
    reached = {name for name, weight in decoder.named_parameters() if weight.grad is not None}
    assert reached <= set(meant)
    unread = {name for name in set(meant) - reached}
    # a mask decoder of SAM has a network for each of its masks, and we ask for one
    assert all("output_hypernetworks_mlps." in name and "mlps.0." not in name for name in unread), unread
    if any("conv_s0" in name for name in meant):
        assert float(decoder.sam.mask_decoder.conv_s0.weight.grad.abs().sum()) > 0
        assert float(decoder.sam.mask_decoder.conv_s1.weight.grad.abs().sum()) > 0
    assert all(weight.requires_grad == (name in meant) for name, weight in decoder.named_parameters())
    decoder.zero_grad()
    decoder.eval()


def test_sam_agrees_with_its_own_forward():
    """A point as prompt, given as its embedding: what transformers' model says to the point itself."""
    decoder = helpers.sam().eval()
    features, _ = seen(decoder, (64, 64))
    point = torch.tensor([[[[20.0, 30.0]]]])
    with torch.no_grad():
        whole = decoder.sam(image_embeddings=features, input_points=point, multimask_output=False)
        sparse, _ = decoder.sam.prompt_encoder(point, torch.ones(1, 1, 1, dtype=torch.int), None, None)
        ours = decoder.decode(features, sparse[0, 0, :1], torch.zeros(1, dtype=torch.long))
        padded = decoder.sam.mask_decoder(
            image_embeddings=features,
            image_positional_embeddings=decoder.sam.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse[:, :, :1],
            dense_prompt_embeddings=decoder.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand_as(
                features
            ),
            multimask_output=False,
        )[0]
    torch.testing.assert_close(ours.logits[0], padded[0, 0, 0])
    assert whole.pred_masks.shape[-2:] == ours.logits.shape[-2:]


def test_sam2_agrees_with_its_own_forward():
    decoder = helpers.sam2().eval()
    features, _ = seen(decoder, (64, 64))
    pixels = decoder.batch([decoder.image_input.read(helpers.picture(64, 64, 0)).resized], decoder.canvas).tensor
    point = torch.tensor([[[[20.0, 30.0]]]])
    with torch.no_grad():
        sparse, _ = decoder.sam.prompt_encoder(point, torch.ones(1, 1, 1, dtype=torch.int), None, None)
        maps = decoder.sam.get_image_embeddings(pixels)
        theirs = decoder.sam.mask_decoder(
            image_embeddings=maps[-1],
            image_positional_embeddings=decoder.sam.get_image_wide_positional_embeddings(),
            sparse_prompt_embeddings=sparse[:, :, :1],
            dense_prompt_embeddings=decoder.sam.prompt_encoder.no_mask_embed.weight.reshape(1, -1, 1, 1).expand(
                1, -1, *maps[-1].shape[-2:]
            ),
            multimask_output=False,
            high_resolution_features=maps[:-1],
        )
        ours = decoder.decode(features, sparse[0, 0, :1], torch.zeros(1, dtype=torch.long))
    torch.testing.assert_close(ours.logits[0], theirs[0][0, 0, 0], atol=1e-5, rtol=1e-4)
    sure = theirs[1].clamp(0, 1).flatten() * theirs[3].sigmoid().flatten()
    torch.testing.assert_close(ours.confidence, sure, atol=1e-5, rtol=1e-4)


def test_queries_say_level_parent_and_box(queries):
    queries.eval()
    features, _ = seen(queries, (40, 60), (50, 30))
    count = features.queries.shape[1]
    torch.manual_seed(0)
    prompts, image_of = torch.randn(6, queries.prompt_dim), torch.tensor([0, 1, 0, 1, 0, 1])
    with torch.no_grad():
        found = queries.decode(features, prompts, image_of).hierarchy
    assert found is not None
    num_objects = int((features.parent[0] < 0).sum())
    for n in range(6):
        row, image = int(found.query[n]), int(image_of[n])
        assert 0 <= row < count
        assert (row >= num_objects) == bool(found.level[n] == 1) == bool(found.parent[n] >= 0)
        torch.testing.assert_close(found.boxes[n], features.boxes[image, row])
        if row >= num_objects:
            assert int(found.parent[n]) == int(features.parent[image, row]) < num_objects


def test_the_choice_of_queries_can_be_learned(queries):
    """Fifty steps, and each of two prompts finds the query whose mask it was shown."""
    features, _ = seen(queries, (40, 60))
    maps = torch.einsum("qe,ehw->qhw", features.mask_embed[0], features.mask_features[0]) > 0
    areas = maps.flatten(1).sum(1)
    rows = [int(areas.argmax()), int((areas - areas.float().median()).abs().argmin())]
    truth = torch.stack([F.interpolate(maps[row][None, None].float(), scale_factor=4)[0, 0] > 0.5 for row in rows])
    torch.manual_seed(0)
    prompts, image_of = torch.randn(2, queries.prompt_dim), torch.zeros(2, dtype=torch.long)
    state = {name: value.clone() for name, value in queries.state_dict().items()}
    optimizer = torch.optim.Adam([weight for _, weight in queries.learning()], lr=1e-2)
    queries.train()
    losses = []
    for _ in range(50):
        found = queries.decode(features, prompts, image_of, truth)
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
        losses.append(float(found.loss.detach()))
    queries.eval()
    with torch.no_grad():
        said = queries.decode(features, prompts, image_of)
    iou = [(a & b).sum() / (a | b).sum() for a, b in zip(said.logits > 0, maps[rows], strict=True)]
    assert losses[-1] < 0.7 * losses[0] and min(iou) > 0.8, (losses[0], losses[-1], iou)
    queries.load_state_dict(state)


def test_best_cover():
    left, right = torch.zeros(4, 6, dtype=torch.bool), torch.zeros(4, 6, dtype=torch.bool)
    left[:, :2], right[:, 4:] = True, True
    noise = torch.zeros_like(left)
    noise[0, 3] = True
    masks = torch.stack([noise, left, right, left | right | noise])
    parts = torch.tensor([False, True, True, False])
    assert best_cover(masks, left, parts).tolist() == [1]
    assert sorted(best_cover(masks[:3], left | right, parts[:3]).tolist()) == [1, 2]
    assert best_cover(masks, left | right | noise, parts).tolist() == [3]
    assert best_cover(masks[:1], left, parts[:1]).tolist() == [0]  # nothing fits: the best there is
    other = torch.tensor([False, True, False, False])
    assert best_cover(masks[:3], left | right, other[:3]).tolist() == [1]  # the other half is of the other level


def test_features_stack():
    one, two = (torch.zeros(1, 2, 3), torch.ones(1, 4)), (torch.ones(1, 2, 3), torch.zeros(1, 4))
    maps, rows = stack_features([one, two])
    assert maps.shape == (2, 2, 3) and rows[:, 0].tolist() == [1, 0]
    with pytest.raises(ValueError, match="different canvases"):
        stack_features([torch.zeros(1, 2, 3), torch.zeros(1, 2, 4)])


def test_queries_refuse(tiny):
    with pytest.raises(ValueError, match="part names"):
        QueryMasks(model=tiny, vocabulary=Vocabulary.parse("dog; cat"), image_input=ImageInput())
    with pytest.raises(ValueError, match="chosen_from"):
        QueryMasks(model=tiny, vocabulary=VOCABULARY, image_input=ImageInput(), chosen_from=0)
