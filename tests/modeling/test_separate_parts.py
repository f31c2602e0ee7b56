"""Parts of an object that depend on it alone: what else is parsed changes nothing, so little need be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from partglee.engine import Predictor
from partglee.modeling import PartGLEE
from partglee.modeling.denoising import denoising_mask
from partglee.structures import Vocabulary
from partglee.testing import tiny_model

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm", "lower leg"], "cat": []})
LENGTH = 20  # part queries of an object


@pytest.fixture(scope="module")
def separate(table: Path) -> PartGLEE:
    return tiny_model(table=table, overrides=["MODEL.PART_DECODER.WITHIN_OBJECTS", True])


def photo(seed: int = 0, height: int = 60, width: int = 90) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def parts_of(model: PartGLEE, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (K, L, C) and boxes of the parts of some object queries of one image."""
    with torch.no_grad():
        batch = model.batch([torch.from_numpy(photo()).permute(2, 0, 1)])
        text, pixels = model.embed(VOCABULARY), model.pixel_decoder(model.backbone(batch.tensor))
        objects = model.decode_objects(pixels, text).objects
        parts = model.part_decoder(model.qformer(objects.queries, rows[None]), pixels, text).layers[-1]
    return parts.logits[0].unflatten(0, (len(rows), -1)), parts.boxes[0].unflatten(0, (len(rows), -1))


def test_what_is_parsed_beside_an_object_changes_nothing(separate: PartGLEE, tiny: PartGLEE) -> None:
    several, alone = torch.tensor([3, 41, 7, 60]), torch.tensor([7])
    for together, one in zip(parts_of(separate, several), parts_of(separate, alone), strict=True):
        assert together.shape[:2] == (4, LENGTH)
        torch.testing.assert_close(together[2], one[0], atol=1e-4, rtol=1e-4)
    together, one = parts_of(tiny, several)[0], parts_of(tiny, alone)[0]
    assert not torch.allclose(together[2], one[0], atol=1e-2)  # as released they are not independent


def test_alone_both_kinds_are_one(separate: PartGLEE, tiny: PartGLEE) -> None:
    for ours, theirs in zip(parts_of(separate, torch.tensor([5])), parts_of(tiny, torch.tensor([5])), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_mask_of_training_says_the_same(separate: PartGLEE) -> None:
    """Denoising queries beside them go through a mask instead of runs."""
    torch.manual_seed(0)
    decoder = separate.part_decoder.decoder
    content, boxes = torch.randn(2, 3 * LENGTH, 128), torch.rand(2, 3 * LENGTH, 4) * 0.4 + 0.3
    with torch.no_grad():
        pixels = separate.pixel_decoder(separate.backbone(torch.randn(2, 3, 64, 64)))
        heads = separate.part_decoder.heads
        runs = decoder(content, boxes, pixels, heads, run=LENGTH)
        noised, group = torch.randn(2, 6, 128), torch.arange(6) // 3
        masked = decoder(
            torch.cat((noised, content), 1), torch.cat((torch.rand(2, 6, 4), boxes), 1), pixels, heads,
            attn_mask=denoising_mask(group, 3 * LENGTH, LENGTH),
        )  # fmt: skip
    torch.testing.assert_close(masked.queries[-1][:, 6:], runs.queries[-1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(masked.boxes[-1][:, 6:], runs.boxes[-1], atol=1e-4, rtol=1e-4)


def test_who_sees_whom() -> None:
    blocked = denoising_mask(torch.tensor([0, 0, 1]), 4, run=2)
    seen = ["1101111", "1101111", "0011111", "0001100", "0001100", "0000011", "0000011"]
    assert (~blocked).int().tolist() == [[int(c) for c in row] for row in seen]


def test_gradients_reach_every_part_query_from_its_own_object_alone(separate: PartGLEE) -> None:
    content = torch.randn(1, 2 * LENGTH, 128, requires_grad=True)
    pixels = separate.pixel_decoder(separate.backbone(torch.randn(1, 3, 64, 64)))
    boxes = torch.rand(1, 2 * LENGTH, 4) * 0.4 + 0.3
    states = separate.part_decoder.decoder(content, boxes, pixels, separate.part_decoder.heads, run=LENGTH)
    states.queries[-1][:, :LENGTH].square().sum().backward()
    assert content.grad is not None
    assert content.grad[:, :LENGTH].abs().sum(-1).min() > 0 and content.grad[:, LENGTH:].abs().max() == 0


def counted(module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Images and queries of every pass through a decoder."""
    sizes: list[tuple[int, int]] = []
    forward = module.forward
    monkeypatch.setattr(module, "forward", lambda *a, **k: (sizes.append(tuple(a[0].shape[:2])), forward(*a, **k))[1])
    return sizes


def test_only_objects_that_are_kept_are_parsed(separate: PartGLEE, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(model=separate, short_side=96, max_side=160)
    options: dict[str, Any] = {"score_threshold": 0.0, "max_objects": 3}
    monkeypatch.setattr(separate, "num_parsed_objects", 100)  # or one that is kept may be none of them
    sizes = counted(separate.part_decoder.decoder, monkeypatch)
    found = predictor(photo(), VOCABULARY, **options)
    whole = [found.names[row] in ("dog", "person") for row in found.objects()]
    assert len(whole) == 3 and sizes == [(1, LENGTH * sum(whole))]
    # Nothing can be kept under cats, so they are not parsed.
    del sizes[:]
    predictor(photo(), "cat; dog: head", score_threshold=0.0, max_objects=1)
    assert sizes in ([], [(1, LENGTH)])
    # Another question about the same objects needs no further pass.
    encoded = predictor.encode_image(photo())
    predictor(encoded, VOCABULARY, **options)
    del sizes[:]
    again = predictor(encoded, VOCABULARY, score_threshold=0.0, max_objects=2)
    assert sizes == [] and len(again.objects()) == 2
    # Of several images together as many as of the one with most.
    several = [photo(seed) for seed in range(3)]
    found_in = predictor(several, VOCABULARY, **options, batch_size=3)
    assert len(sizes) == 1 and sizes[0][0] == 3 and sizes[0][1] <= 3 * LENGTH
    for image, ours in zip(several, found_in, strict=True):
        alone = predictor(image, VOCABULARY, **options)
        assert ours.names == alone.names and ours.parent.tolist() == alone.parent.tolist()
        torch.testing.assert_close(ours.scores, alone.scores, atol=1e-4, rtol=0)
