"""The whole model: sizes, batches, precisions, gradients, hierarchy."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from partglee.modeling import PartGLEE
from partglee.modeling.decoder import DeformableDecoder
from partglee.modeling.denoising import DenoisingBuilder, denoising_mask
from partglee.modeling.heads import PredictionHeads
from partglee.modeling.shared_decoding import SharedDecoding
from partglee.structures import (
    HierarchicalTargets,
    LevelTargets,
    ModelOutput,
    PixelFeatures,
    Vocabulary,
    batch_images,
)
from partglee.testing import tiny_model

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm", "lower leg"]})


def image(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def run(model: PartGLEE, *images: torch.Tensor, vocabulary: Vocabulary = VOCABULARY) -> ModelOutput:
    with torch.inference_mode():
        return model(model.batch(images), model.embed(vocabulary))


def test_shapes_and_parents(tiny: PartGLEE) -> None:
    output = run(tiny, image(96, 128))
    assert output.parts is not None and output.parent is not None
    assert output.objects.layers[-1].logits.shape == (1, 100, 2)
    assert output.parts.layers[-1].logits.shape == (1, 400, 4)
    assert output.mask_features.shape == (1, 128, 24, 32)
    best = output.objects.layers[-1].logits.max(-1).values.topk(20).indices
    assert output.parent.tolist() == best.repeat_interleave(20, dim=1).tolist()


def test_inference_builds_nothing_for_training(tiny: PartGLEE) -> None:
    output = run(tiny, image(64, 64))
    for level in (output.objects, output.parts):
        assert level is not None and len(level.layers) == 1
        assert level.proposals is None and level.denoising == () and level.denoising_source is None
    assert output.text.tokens is None and output.text.distill is None


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (64, 200), (199, 65), (224, 224)])
def test_any_size(tiny: PartGLEE, size: tuple[int, int]) -> None:
    output = run(tiny, image(*size))
    assert output.parts is not None
    for layer in (output.objects.layers[-1], output.parts.layers[-1]):
        assert torch.isfinite(layer.logits).all() and torch.isfinite(layer.boxes).all()
        assert layer.boxes.min() >= 0 and layer.boxes.max() <= 1


def test_small_images_have_fewer_queries(tiny: PartGLEE) -> None:
    assert run(tiny, image(32, 32)).objects.layers[-1].logits.shape[1] == 16 + 4 + 1


def test_mixed_sizes_in_a_batch(tiny: PartGLEE) -> None:
    """Padding is zeros on a common canvas: an image gives the same alone on that canvas and beside another."""
    small, large = image(50, 90, 1), image(96, 128, 2)
    both = run(tiny, small, large)
    with torch.inference_mode():
        alone = tiny(tiny.batch([small], canvas=(96, 128)), tiny.embed(VOCABULARY))
    torch.testing.assert_close(
        both.objects.layers[-1].logits[:1], alone.objects.layers[-1].logits, atol=1e-3, rtol=1e-3
    )


def test_what_else_is_asked_for_moves_no_score_where_selection_is_by_known_names(tiny: PartGLEE) -> None:
    picture, alone, more = image(256, 320), Vocabulary(["dog"]), Vocabulary(["dog", "person", "cat", "dog tail"])
    free = [run(tiny, picture, vocabulary=v).objects.layers[-1].logits[0, :, 0].sort().values for v in (alone, more)]
    assert not torch.allclose(*free, atol=1e-2)  # other queries
    tiny.selection = Vocabulary(["person", "cat"])  # others are selected by where they are asked for
    try:
        known = Vocabulary(["dog", "person", "cat"])
        fixed = [run(tiny, picture, vocabulary=v).objects.layers[-1].logits[0, :, 0] for v in (alone, known, more)]
        assert tiny.embed(more).selection.shape[0] == 4
        torch.testing.assert_close(fixed[0], fixed[1], atol=1e-5, rtol=1e-4)
        assert not torch.allclose(fixed[0], fixed[2], atol=1e-2)  # a new name
        output = run(tiny, picture, vocabulary=VOCABULARY)
        assert output.objects.layers[-1].logits.shape[-1] == 2
    finally:
        tiny.selection = None


def test_names_that_training_lacked_are_shifted(tiny: PartGLEE) -> None:
    picture, asked = image(64, 64), Vocabulary({"dog": ["tail"], "cat": []})
    tiny.selection = Vocabulary(["person", "cat"])
    try:
        assert tiny.embed(asked).object_shift is None
        plain = run(tiny, picture, vocabulary=asked)
        tiny.unseen_shift = 0.75
        assert tiny.embed(Vocabulary(["person", "cat"])).object_shift is None
        text = tiny.embed(asked)
        assert text.object_shift is not None and text.object_shift.tolist() == [0.75, 0.0]
        found = run(tiny, picture, vocabulary=asked)
        shift = found.objects.layers[-1].logits - plain.objects.layers[-1].logits
        torch.testing.assert_close(shift, text.object_shift.expand_as(shift), atol=1e-4, rtol=0)
        with torch.inference_mode():
            pixels = tiny.pixel_decoder(tiny.backbone(tiny.batch([picture]).tensor))
            (shared,) = SharedDecoding(model=tiny, pixels=pixels).objects([text])
        torch.testing.assert_close(
            shared.objects.layers[-1].logits, found.objects.layers[-1].logits, atol=1e-4, rtol=1e-4
        )
    finally:
        tiny.selection, tiny.unseen_shift = None, 0.0


def test_vocabulary_without_parts(tiny: PartGLEE) -> None:
    output = run(tiny, image(64, 64), vocabulary=Vocabulary(["dog", "cat"]))
    assert output.parts is None and output.parent is None


def test_one_name(tiny: PartGLEE) -> None:
    assert run(tiny, image(64, 64), vocabulary=Vocabulary({"dog": ["head"]})).parts is not None


def test_names_do_not_depend_on_each_other_without_fusion(tiny: PartGLEE) -> None:
    """A name's logit for a given query is its own dot product."""
    output = run(tiny, image(64, 64))
    heads, text = tiny.object_decoder.heads, output.text
    with torch.inference_mode():
        one = heads.classify(output.objects.queries, text.objects[:1])
    torch.testing.assert_close(one, output.objects.layers[-1].logits[..., :1], atol=1e-4, rtol=1e-4)


def test_fusion_lets_the_text_reach_the_memory(table: Path) -> None:
    model = tiny_model(table=table, overrides=["MODEL.EARLY_FUSION.CATEGORIES", True])
    with_dogs = run(model, image(64, 64), vocabulary=Vocabulary(["dog"]))
    with_cats = run(model, image(64, 64), vocabulary=Vocabulary(["cat"]))
    assert not torch.allclose(with_dogs.mask_features, with_cats.mask_features)


def test_bfloat16_autocast(tiny: PartGLEE) -> None:
    exact = run(tiny, image(96, 96))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = run(tiny, image(96, 96))
    assert rough.objects.layers[-1].logits.dtype == rough.objects.layers[-1].boxes.dtype == torch.float32
    assert torch.isfinite(rough.objects.layers[-1].logits).all()
    relative = (rough.mask_features.float() - exact.mask_features).norm() / exact.mask_features.norm()
    assert relative < 0.1


def test_double_precision_agrees(table: Path) -> None:
    single, double = tiny_model(table=table), tiny_model(table=table).double()
    text = single.embed(VOCABULARY)
    batch = single.batch([image(64, 96)])
    with torch.inference_mode():
        a = single(batch, text)
        b = double(batch.tensor.double(), text._replace(objects=text.objects.double(), parts=text.parts.double()))
    torch.testing.assert_close(a.mask_features.double(), b.mask_features, atol=1e-3, rtol=1e-3)


def targets(num_objects: int, num_parts: int) -> HierarchicalTargets:
    def level(count: int, names: int) -> LevelTargets:
        return LevelTargets(torch.arange(count) % names, torch.rand(count, 4) * 0.4 + 0.3)

    return HierarchicalTargets(level(num_objects, 2), level(num_parts, 4), torch.zeros(num_parts, dtype=torch.long))


def test_training_output_and_gradients(table: Path) -> None:
    torch.manual_seed(0)
    model = tiny_model(table=table).train()
    batch = model.batch([image(64, 64), image(64, 96)])
    tokens = model.text_encoder.tokenize(VOCABULARY)
    output = model(batch, tokens, [targets(2, 3), targets(1, 0)])
    assert output.parts is not None
    total = torch.zeros(())
    for level, expected in ((output.objects, 1 + 3), (output.parts, 1 + 3)):
        assert len(level.layers) == expected and level.proposals is not None
        assert len(level.denoising) == expected and level.denoising_source is not None
        assert all(p.mask_embed is None for p in level.denoising)
        for p in (*level.layers, level.proposals, *level.denoising):
            total = total + p.logits.square().mean() + p.boxes.square().mean()
            if p.mask_embed is not None:
                total = total + (p.mask_embed @ output.mask_features.flatten(2)).square().mean()
    total.backward()
    lacking = {n for n, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert all("fusion" in n for n in lacking), lacking  # categories are not fused in this configuration
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


class ShiftingHeads(PredictionHeads):
    """Boxes move by a fresh parameter at every call, whatever the queries say: whose gradient arrives where."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__(embed_dim=embed_dim)
        self.shifts: list[torch.Tensor] = []

    def box_offsets(self, queries: torch.Tensor) -> torch.Tensor:
        self.shifts.append(torch.zeros(queries.shape[1], 4, requires_grad=True))
        return self.shifts[-1].expand(len(queries), -1, -1)


def test_boxes_look_forward_twice() -> None:
    """The box that a layer reports carries gradient into its own shift and the one before, not further."""
    decoder = DeformableDecoder(embed_dim=16, num_layers=3, num_heads=2, num_levels=1, num_points=2, ffn_dim=16)
    heads, reference = ShiftingHeads(16), torch.full((1, 5, 4), 0.4, requires_grad=True)
    pixels = PixelFeatures(torch.randn(1, 16, 16), ((4, 4),), torch.randn(1, 16, 8, 8))
    boxes = decoder(torch.randn(1, 5, 16), reference, pixels, heads, every_layer=True).boxes
    reached = []
    for layer in boxes[1:]:
        gradients = torch.autograd.grad(layer.sum(), [reference, *heads.shifts], allow_unused=True, retain_graph=True)
        assert all(g is None or g.abs().min() > 0 for g in gradients)
        reached.append([g is not None for g in gradients])
    assert [sum(row) for row in reached] == [2, 2, 2]
    assert [row[0] for row in reached] == [True, False, False], "the reference is the box before the first layer"


def test_targets_must_fit_the_batch(tiny: PartGLEE) -> None:
    with pytest.raises(ValueError, match="one target for each of 1 images, got 2"):
        tiny(tiny.batch([image(32, 32)]), tiny.embed(VOCABULARY), [targets(0, 0)] * 2)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [(torch.zeros(3, 32, 32), r"\(B, 3, H, W\)"), (torch.zeros(1, 3, 33, 32), "multiples of 32")],
)
def test_wrong_input(tiny: PartGLEE, tensor: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(tensor, tiny.embed(VOCABULARY))


def test_batch_refuses_wrong_images() -> None:
    options = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
    with pytest.raises(ValueError, match="at least one image"):
        batch_images([], **options)
    with pytest.raises(ValueError, match=r"image 1 must be \(3, h, w\)"):
        batch_images([torch.zeros(3, 4, 4), torch.zeros(4, 4, 3)], **options)


def test_batch_normalises_then_pads() -> None:
    batch = batch_images([torch.full((3, 30, 40), 10)], mean=(4, 5, 6), std=(1, 2, 4))
    assert batch.canvas == (32, 64) and batch.sizes == ((30, 40),)
    assert batch.tensor[0, :, 0, 0].tolist() == [6, 2.5, 1] and batch.tensor[0, :, 30:].abs().sum() == 0


# ---------------------------------------------------------------- denoising


def test_denoising_groups_and_sources() -> None:
    torch.manual_seed(0)
    builder = DenoisingBuilder(num_queries=10, label_noise=0.0, box_noise=0.0)
    directions = torch.randn(3, 8)
    noised = builder.build([targets(2, 0).objects, targets(3, 0).objects], directions)
    assert noised is not None
    assert noised.content.shape == (2, 9, 8) and noised.group.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert noised.source.tolist() == [[0, 1, -1] * 3, [0, 1, 2] * 3]
    torch.testing.assert_close(noised.content[1, 4], directions[1])


def test_denoising_mask_by_hand() -> None:
    mask = denoising_mask(torch.tensor([0, 0, 1]), 2)
    assert mask.int().tolist() == [
        [0, 0, 1, 0, 0],
        [0, 0, 1, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 0, 0],
    ]


def test_denoising_noise_stays_in_reach() -> None:
    torch.manual_seed(0)
    target = LevelTargets(torch.zeros(1, dtype=torch.long), torch.tensor([[0.5, 0.5, 0.2, 0.4]]))
    noised = DenoisingBuilder(num_queries=100, box_noise=0.4).build([target], torch.randn(2, 8))
    assert noised is not None
    moved = (noised.boxes[0] - target.boxes).abs()
    assert (moved <= torch.tensor([0.04, 0.08, 0.08, 0.16]) + 1e-6).all() and moved.max() > 0.1


def test_contrastive_negatives_lie_further_out() -> None:
    torch.manual_seed(0)
    target = LevelTargets(torch.zeros(1, dtype=torch.long), torch.tensor([[0.5, 0.5, 0.2, 0.4]]))
    noised = DenoisingBuilder(num_queries=50, contrastive=True).build([target], torch.randn(2, 8))
    assert noised is not None and noised.boxes.shape[1] == 100
    moved = (noised.boxes[0] - target.boxes).abs() / torch.tensor([0.04, 0.08, 0.08, 0.16])
    negative = noised.source[0] == -2
    assert negative.sum() == 50 and moved[negative].min() >= 1 - 1e-5 and moved[~negative].max() <= 1 + 1e-5
    # The criterion takes it for granted that they begin around a point of their target.
    noised = DenoisingBuilder(num_queries=50, box_noise=0.5, contrastive=True).build([target], torch.randn(2, 8))
    assert noised is not None
    assert ((noised.boxes[0] - target.boxes).abs()[:, :2] <= target.boxes[:, 2:] / 2 + 1e-6).all()


@pytest.mark.parametrize("count", [0, 11])
def test_no_denoising_without_targets_or_with_too_many(count: int) -> None:
    assert DenoisingBuilder(num_queries=10).build([targets(count, 0).objects], torch.randn(2, 8)) is None


def test_label_noise_changes_some_labels() -> None:
    torch.manual_seed(0)
    directions = torch.eye(4)
    noised = DenoisingBuilder(num_queries=100, label_noise=0.5).build([targets(1, 0).objects], directions)
    assert noised is not None
    share = float((noised.content[0].argmax(-1) == 0).float().mean())
    assert 0.4 < share < 0.9


def test_batch_refuses_nan() -> None:
    with pytest.raises(ValueError, match="image 0 has NaN"):
        batch_images([torch.full((3, 4, 4), float("nan"))], mean=(0.0,) * 3, std=(1.0,) * 3)


def test_boxes_stay_in_full_precision_under_autocast(tiny: PartGLEE) -> None:
    heads, queries = tiny.object_decoder.heads, torch.randn(1, 4, 128)
    with torch.no_grad():
        exact = heads.box_mlp(queries)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(heads.box_offsets(queries), exact)


@pytest.mark.gpu
@pytest.mark.parametrize("side", [50, 250])
def test_pixel_centres_agree_between_devices(side: int) -> None:
    from partglee.layers import pixel_centres

    assert torch.equal(
        pixel_centres(side, device=torch.device("cuda")).cpu(), pixel_centres(side, device=torch.device("cpu"))
    )
