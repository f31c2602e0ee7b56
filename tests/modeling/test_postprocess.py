"""From model output to predictions, on outputs made by hand."""

from __future__ import annotations

import math

import pytest
import torch

from partglee.modeling.frame import Frame
from partglee.modeling.postprocess import PostprocessOptions, ground_part, postprocess
from partglee.ops.masks import mask_confidence, mask_logits, masks_to_image
from partglee.structures import (
    DecoderOutput,
    ImageBatch,
    LayerPrediction,
    ModelOutput,
    Prediction,
    TextEmbeddings,
    Vocabulary,
)

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm"]})  # part columns: dog head, dog tail, person arm
ALL = {"score_threshold": 0.0, "object_overlap": None, "part_overlap": None, "part_inside": None}


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def output(
    objects: list[tuple[float, float]], parts: list[tuple[float, float, float]], parent: list[int], *, box: float = 0.25
) -> ModelOutput:
    """Scores by query; every mask covers the whole map with probability 0.9."""

    def level(scores: list[tuple[float, ...]], names: int, shift: float = 0.0) -> DecoderOutput:
        logits = torch.tensor([logit(p) for row in scores for p in row]).reshape(1, len(scores), names)
        centres = torch.linspace(0.2, 0.8, max(len(scores), 1))[: len(scores)] + shift
        boxes = torch.stack((centres, torch.full_like(centres, 0.5), *(torch.full_like(centres, box),) * 2), -1)[None]
        embed = torch.zeros(1, len(scores), 2)
        embed[..., 0] = logit(0.9)
        return DecoderOutput(torch.zeros(1, len(scores), 2), (LayerPrediction(logits, boxes, embed),))

    features = torch.zeros(1, 2, 8, 16)
    features[:, 0] = 1
    text = TextEmbeddings(torch.zeros(2, 2), torch.zeros(3, 2))
    return ModelOutput(level(objects, 2), level(parts, 3), torch.tensor([parent], dtype=torch.long), text, features)


IMAGES = ImageBatch(torch.zeros(1, 3, 32, 64), ((32, 48),))  # padded from 32 x 48 to 32 x 64


def run(out: ModelOutput, size: tuple[int, int] = (64, 96), **options: object) -> Prediction:
    return postprocess(out, VOCABULARY, IMAGES, [size], PostprocessOptions(**{**ALL, **options}))[0]  # type: ignore[arg-type]


TWO = output(
    [(0.2, 0.6), (0.8, 0.3)],  # a person, a dog
    [(0.9, 0.1, 0.5), (0.2, 0.7, 0.95), (0.3, 0.4, 0.2), (0.3, 0.1, 0.8)],
    [0, 1, 1, 0],
)


def test_names_scores_and_parents() -> None:
    p = run(TWO)
    assert [p.names[i] for i in p.objects()] == ["dog", "person"]
    dog, person = p.objects()
    assert [p.names[i] for i in p.parts_of(dog)] == ["tail", "tail"]
    assert [p.names[i] for i in p.parts_of(person)] == ["arm", "arm"]
    # score = name's probability x mean mask probability
    torch.testing.assert_close(p.scores[dog], torch.tensor(0.8 * 0.9), atol=1e-4, rtol=0)
    torch.testing.assert_close(p.scores[p.parts_of(dog)], torch.tensor([0.7 * 0.9, 0.4 * 0.9]), atol=1e-4, rtol=0)
    torch.testing.assert_close(p.scores[p.parts_of(person)], torch.tensor([0.8 * 0.9, 0.5 * 0.9]), atol=1e-4, rtol=0)


def test_released_behaviour_lets_all_part_names_compete() -> None:
    p = run(TWO, restrict_parts=False)
    dog, person = p.objects()
    assert [p.names[i] for i in p.parts_of(person)] == ["head", "arm"]
    assert [p.names[i] for i in p.parts_of(dog)] == ["arm", "tail"]


def test_an_object_below_the_threshold_takes_its_parts_along() -> None:
    p = run(TWO, score_threshold=0.6, part_score_threshold=0.0)
    assert [p.names[i] for i in p.objects()] == ["dog"]
    assert len(p) == 3 and set(p.parent[1:].tolist()) == {0}


def test_part_threshold_follows_the_object_threshold() -> None:
    p = run(TWO, score_threshold=0.5)
    assert [p.names[i] for i in range(len(p))] == ["dog", "person", "arm", "tail"] or sorted(p.names[2:]) == [
        "arm",
        "tail",
    ]


def test_limits() -> None:
    assert len(run(TWO, max_objects=1).objects()) == 1
    p = run(TWO, max_parts_per_object=1)
    assert [len(p.parts_of(i)) for i in p.objects()] == [1, 1]
    assert p.names[p.parts_of(p.objects()[1])[0]] == "arm" and len(run(TWO, max_parts_per_object=0)) == 2
    assert len(run(TWO, max_objects=0)) == 0


def test_equal_parts_that_overlap_are_merged() -> None:
    """Two tails of one dog on the same place; a head there and another dog's tail stay."""
    same = output(
        [(0.9, 0.1), (0.8, 0.1)],
        [(0.1, 0.7, 0.1), (0.1, 0.6, 0.1), (0.5, 0.1, 0.1), (0.1, 0.4, 0.1)],
        [0, 0, 0, 1],
    )
    same.parts.layers[-1].boxes[:] = torch.tensor([0.5, 0.5, 0.2, 0.2])
    assert len(run(same)) == 6
    p = run(same, part_overlap=0.7)
    first, second = p.objects()
    assert [p.names[i] for i in p.parts_of(first)] == ["tail", "head"]
    torch.testing.assert_close(p.scores[p.parts_of(first)[0]], torch.tensor(0.63), atol=1e-4, rtol=0)
    assert [p.names[i] for i in p.parts_of(second)] == ["tail"]


def paint(out: ModelOutput, objects: list[tuple[int, int]], parts: list[tuple[int, int]]) -> None:
    """Every mask covers the columns `start` to `stop` of the 8 x 16 map: one feature for each column."""
    features = torch.eye(16)[:, None].expand(16, 8, 16)[None].clone()
    out.mask_features.resize_(features.shape).copy_(features)
    for level, columns in ((out.objects, objects), (out.parts, parts)):
        embed = torch.full((1, len(columns), 16), -4.0)
        for row, (start, stop) in enumerate(columns):
            embed[0, row, start:stop] = 4.0
        level.layers[-1].mask_embed.resize_(embed.shape).copy_(embed)


def test_equal_objects_that_overlap_are_one() -> None:
    """Two dogs on one place and a person there; the worse dog goes with its parts, by option the person too."""
    same = output(
        [(0.9, 0.1), (0.8, 0.1), (0.1, 0.7), (0.6, 0.1)],  # dog, dog, person, another dog
        [(0.1, 0.7, 0.1), (0.1, 0.6, 0.1), (0.1, 0.1, 0.4), (0.5, 0.1, 0.1)],
        [0, 1, 2, 3],
    )
    paint(same, [(0, 8), (0, 7), (0, 8), (8, 12)], [(0, 2), (0, 2), (0, 2), (8, 10)])
    assert run(same).names == ["dog", "dog", "person", "dog", "tail", "tail", "head", "arm"]
    p = run(same, object_overlap=0.7)
    assert p.names[:3] == ["dog", "person", "dog"] and [len(p.parts_of(row)) for row in range(3)] == [1, 1, 1]
    assert run(same, object_overlap=0.9).names[:4] == ["dog", "dog", "person", "dog"]  # they share seven of eight
    p = run(same, object_overlap=0.7, across_names=True)
    assert p.names == ["dog", "dog", "tail", "head"] and p.parent.tolist() == [-1, -1, 0, 1]
    # the limit counts what is left, so worse rows move up
    assert run(same, object_overlap=0.7, max_objects=2).names[:2] == ["dog", "person"]
    p = run(same, object_overlap=0.7, across_names=True, max_objects=2)
    assert p.names == ["dog", "dog", "tail", "head"]
    assert len(run(same, object_overlap=0.7, max_objects=0)) == 0


def test_without_masks_boxes_are_compared() -> None:
    same = output([(0.9, 0.1), (0.8, 0.1)], [(0.1, 0.7, 0.1)], [0])
    paint(same, [(0, 8), (8, 12)], [(0, 2)])
    same.objects.layers[-1].boxes[:] = torch.tensor([0.5, 0.5, 0.2, 0.2])
    assert [len(run(same, object_overlap=0.7, masks=masks).objects()) for masks in (True, False)] == [2, 1]


def test_a_part_inside_its_twin_goes() -> None:
    """A tail inside the tail of the same dog; a head inside it and the tail of another dog stay."""
    same = output(
        [(0.9, 0.1), (0.8, 0.1)],
        [(0.1, 0.7, 0.1), (0.1, 0.6, 0.1), (0.5, 0.1, 0.1), (0.1, 0.4, 0.1)],
        [0, 0, 0, 1],
    )
    paint(same, [(0, 8), (8, 16)], [(0, 8), (2, 4), (2, 4), (2, 4)])
    same.parts.layers[-1].boxes[:] = torch.tensor([[0.5, 0.5, 0.5, 0.5], *[[0.5, 0.5, 0.1, 0.1]] * 3])
    assert len(run(same, part_overlap=0.7)) == 6
    p = run(same, part_overlap=0.7, part_inside=0.9)
    first, second = p.objects()
    assert [p.names[i] for i in p.parts_of(first)] == ["tail", "head"]
    assert [p.names[i] for i in p.parts_of(second)] == ["tail"]


def test_suppression_is_the_default() -> None:
    options = PostprocessOptions()
    assert (options.object_overlap, options.across_names, options.part_overlap, options.part_inside) == (
        0.7, False, 0.7, 0.9,
    )  # fmt: skip


def test_boxes_leave_the_canvas() -> None:
    """Boxes are relative to the padded 32 x 64; the image was 64 x 96, shown at half size."""
    p = run(TWO)
    dog = p.objects()[0]
    expected = torch.tensor([(0.8 - 0.125) * 128, (0.5 - 0.125) * 64, 96.0, (0.5 + 0.125) * 64])
    torch.testing.assert_close(p.boxes[dog], expected)


def test_masks_have_the_image_size() -> None:
    p = run(TWO, size=(37, 53))
    assert p.masks is not None and p.masks.shape == (len(p), 37, 53) and p.masks.all()
    assert run(TWO, masks=False).masks is None
    torch.testing.assert_close(run(TWO, masks=False).scores[0], torch.tensor(0.8), atol=1e-4, rtol=0)


def test_mask_confidence_counts_foreground_alone() -> None:
    out = output([(0.8, 0.1)], [], [])
    out.mask_features[:, 0, :, 8:] = -1  # the right half of the canvas is background
    p = run(out, size=(32, 48))
    assert p.masks is not None
    assert p.masks[0, :, :30].all() and not p.masks[0, :, 34:].any()
    assert 0.6 < float(p.scores[0]) <= 0.8 * 0.9 + 1e-4


@pytest.mark.parametrize("scale", [0.01, 1.0, 30.0])
def test_mask_confidence_is_the_mean_probability_inside(scale: float) -> None:
    """Beside the sum over the pixels inside in double precision; nothing inside: 0."""
    logits = scale * torch.randn(5, 40, 60, generator=torch.Generator().manual_seed(0)) - 0.5 * scale
    logits[3] = -logits[3].abs()
    logits[4, :2] = torch.inf
    expected = [float(row[row > 0].double().sigmoid().sum()) / (int((row > 0).sum()) + 1e-6) for row in logits]
    assert expected[3] == 0
    torch.testing.assert_close(mask_confidence(logits.clone()), torch.tensor(expected), atol=1e-6, rtol=1e-6)


def test_nothing_found() -> None:
    p = run(TWO, score_threshold=0.99)
    assert len(p) == 0 and p.masks is not None and p.masks.shape == (0, 64, 96)


def test_object_without_part_names() -> None:
    out = output([(0.1, 0.9)], [(0.9, 0.9, 0.9)], [0])
    vocabulary = Vocabulary({"dog": ["head", "tail", "ear"], "person": []})
    p = postprocess(out, vocabulary, IMAGES, [(64, 96)], PostprocessOptions(**ALL))[0]  # type: ignore[arg-type]
    assert p.names == ["person"]


@pytest.mark.parametrize(
    "options",
    [
        {"score_threshold": 1.5}, {"part_overlap": -1.0}, {"object_overlap": 1.1}, {"part_inside": 2.0},
        {"max_objects": -1}, {"part_score_threshold": 2.0},
    ],
)  # fmt: skip
def test_bad_options(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        PostprocessOptions(**options)  # type: ignore[arg-type]


def test_mask_logits_are_the_dot_product() -> None:
    embed, features = torch.randn(2, 3, 4), torch.randn(2, 4, 5, 6)
    expected = torch.zeros(2, 3, 5, 6)
    for b in range(2):
        for n in range(3):
            for y in range(5):
                for x in range(6):
                    expected[b, n, y, x] = sum(embed[b, n, c] * features[b, c, y, x] for c in range(4))
    torch.testing.assert_close(mask_logits(embed, features), expected)
    shared = torch.einsum("bne,ehw->bnhw", embed, features[0])
    torch.testing.assert_close(mask_logits(embed, features[:1]), shared)  # one image, many rows of embeddings


def test_masks_to_image_cuts_the_padding() -> None:
    logits = torch.zeros(1, 8, 16)
    logits[..., 12:] = 5.0  # only padding
    out = masks_to_image(logits, canvas=(32, 64), padded_from=(32, 44), image_size=(64, 88))
    assert out.shape == (1, 64, 88) and out.max() == 0


def test_parts_are_not_capped_by_max_objects() -> None:
    many = output([(0.9, 0.1)], [(0.5, 0.4, 0.1)] * 12, [0] * 12)
    for threshold in (0.0, 1e-9):
        assert len(run(many, max_objects=1, score_threshold=threshold)) == 13


def test_grounding_considers_the_best_query_alone() -> None:
    """The released rule: the query of highest probability, whatever its mask is worth."""
    out = output([(0.9, 0.1), (0.8, 0.1)], [], [])
    out.objects.layers[-1].mask_embed[0, 0, 0] = 0.1  # a very unsure mask
    assert run(out, max_objects=1).scores[0] > 0.7  # the second query wins by final score
    best = run(out, max_objects=1, max_queries=1)
    torch.testing.assert_close(best.scores[0], torch.tensor(0.9 * 1 / (1 + math.exp(-0.1))), atol=1e-4, rtol=0)


def test_early_stop_finds_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    out = output([(p, 0.01) for p in torch.linspace(0.05, 0.95, 40).tolist()], [], [])
    out.objects.layers[-1].mask_embed[..., 0] = torch.rand(1, 40) * 3
    everything = run(out)
    for rows in (1, 7):  # one row a product and a pass; seven a product, one a pass
        monkeypatch.setattr("partglee.modeling.frame._PIXELS_PER_PASS_CPU", 1)
        monkeypatch.setattr("partglee.modeling.frame._ROWS_PER_PRODUCT", rows)
        few = run(out, max_objects=4)
        torch.testing.assert_close(few.scores, everything.scores[:4])
        torch.testing.assert_close(few.boxes, everything.boxes[:4])
        torch.testing.assert_close(run(out).masks, everything.masks)


@pytest.mark.parametrize("options", [{"score_threshold": "a"}, {"max_objects": 1.5}])
def test_options_of_wrong_type(options: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(options))):
        PostprocessOptions(**options)  # type: ignore[arg-type]


# ---------------------------------------------------------------- parts of an expression's object


def asked(out: ModelOutput, columns: list[int], rivals: list[int], **options: float) -> tuple[list[float], float]:
    """Final scores of the rows that a part expression is answered by, and that nothing is meant."""
    frame = Frame((32, 64), (32, 48), (64, 96))
    told = ground_part(out, 0, "its head", frame, columns=columns, rivals=rivals, **{"score_threshold": 0.0, **options})
    assert set(told.names) <= {"its head"} and told.masks is not None and bool(told.level.bool().all())
    return [round(score / 0.9, 4) for score in told.scores.tolist()], told.no_target_score


def test_all_instances_of_a_part_of_the_best_object() -> None:
    # The best object is query 1 by 0.9; its part queries are 1, 2, 3, 4.
    objects = [(0.2, 0.6), (0.9, 0.3)]
    out = output(
        objects,
        [(0.99, 0.1, 0.1), (0.8, 0.3, 0.1), (0.5, 0.45, 0.9), (0.3, 0.1, 0.0001), (0.2, 0.7, 0.1)],
        [0, 1, 1, 1, 1],
    )
    scores, nothing = asked(out, [0], [0, 1])
    assert scores == [0.8, 0.5] and nothing == pytest.approx(1 - 0.8 * 0.9, abs=1e-4)  # 0.3 is less than half of 0.8
    assert asked(out, [0], [0, 1], share=0.0)[0] == [0.8, 0.5, 0.3]
    assert asked(out, [0], [0, 1], score_threshold=0.6)[0] == [0.8]
    assert asked(out, [0], [0, 1], score_threshold=0.9) == ([], pytest.approx(1 - 0.8 * 0.9, abs=1e-4))
    assert asked(out, [1], [0, 1])[0] == [0.7]
    assert asked(out, [2], [0, 1, 2])[0] == [0.9]
    # An object that is not there has no parts, however sure they are.
    absent = output([(0.2, 0.1), (0.4, 0.3)], [(0.99, 0.1, 0.1), (0.8, 0.3, 0.1)], [0, 1])
    assert asked(absent, [0], [0, 1], score_threshold=0.5) == ([], pytest.approx(0.6, abs=1e-4))
    assert asked(absent, [0], [0, 1], score_threshold=0.3) == ([0.8], pytest.approx(0.6, abs=1e-4))
    # No query of the object is called an arm first of all: the one that is called so most.
    calm = output(objects, [(0.9, 0.1, 0.8), (0.6, 0.1, 0.2), (0.5, 0.2, 0.3)], [0, 1, 1])
    assert asked(calm, [2], [0, 1, 2])[0] == [0.3]
    with pytest.raises(ValueError, match="at least one of its part names"):
        asked(calm, [], [0])
    with pytest.raises(ValueError, match="has part queries"):
        asked(calm._replace(parts=None, parent=None), [0], [0])
