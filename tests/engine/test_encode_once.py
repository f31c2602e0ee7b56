"""One image, many questions: encoded once, asked with vocabularies and with expressions; batches and many files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from reading_model import EXPRESSIONS, photo, reading_predictor, same
from torch import Tensor, nn

from partglee.config import load_config
from partglee.data import ImageRecord, get_dataset, register
from partglee.data.records import Expression
from partglee.engine import Predictor
from partglee.engine.evaluate import evaluate
from partglee.engine.image_input import ImageInput, InputImage, predict_files
from partglee.engine.partglee_answers import partglee_answerer
from partglee.modeling import build_model
from partglee.structures import Grounding, Prediction, Vocabulary
from partglee.testing import fill_weights, register_toy, tiny_model

VOCABULARIES = ({"dog": ["head", "tail"]}, {"person": ["arm"]}, ["cat", "dog"])
LOOSE = {"score_threshold": 0.0, "max_objects": 3, "max_parts_per_object": 2}


@pytest.fixture(scope="module")
def reader() -> Predictor:
    return reading_predictor()


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each pass through a backbone had."""
    from partglee.modeling.backbone import Backbone

    seen: list[int] = []
    forward = Backbone.forward
    monkeypatch.setattr(Backbone, "forward", lambda self, images: (seen.append(len(images)), forward(self, images))[1])
    return seen


@pytest.mark.parametrize("fused", [False, True])
def test_one_image_many_vocabularies(table: Path, passes: list[int], fused: bool) -> None:
    model = tiny_model(table=table, overrides=["MODEL.EARLY_FUSION.CATEGORIES", fused])
    predictor = Predictor(model=model, short_side=96, max_side=160)
    separate = [predictor(photo(), names, **LOOSE) for names in VOCABULARIES]
    del passes[:]
    encoded = predictor.encode_image(photo())
    for names, expected in zip(VOCABULARIES, separate, strict=True):
        same(predictor(encoded, names, **LOOSE), expected)
        same(predictor.decode(encoded, names, **LOOSE), expected)
    assert passes == [1] and predictor.encode_image(encoded) is encoded
    assert (encoded.pixels is None) == fused  # the pixel decoder's output is shared where no text takes part in it


def test_one_image_many_expressions(reader: Predictor, passes: list[int]) -> None:
    separate = [reader.ground(photo(), expression) for expression in EXPRESSIONS]
    del passes[:]
    encoded = reader.encode_image(photo())
    together = reader.ground(encoded, EXPRESSIONS)
    for answer, expected, expression in zip(together, separate, EXPRESSIONS, strict=True):
        assert isinstance(answer, Grounding) and len(answer) == 1 and answer.names == [expression]
        same(answer, expected, atol=1e-4, rtol=1e-4)
    same(reader.decode(encoded, expressions=EXPRESSIONS)[1], separate[1], atol=1e-4, rtol=1e-4)
    assert passes == [1]
    assert reader.ground(encoded, []) == []
    many = reader.ground(encoded, EXPRESSIONS * 4)  # more than go through the decoder at once
    same(many[10], separate[1], atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="at least one word"):
        reader.ground(encoded, ["the dog", "?"])
    with pytest.raises(ValueError, match="either a vocabulary, vocabularies= or expressions="):
        reader.decode(encoded)


def test_expressions_without_a_fusion_block(reader: Predictor) -> None:
    """Then the pixels are the same for all of them."""
    model = build_model(load_config("tiny"), text_encoder=reader.model.text_encoder)
    model.pixel_decoder.fusion = None
    plain = Predictor(model=fill_weights(model), short_side=64, max_side=96)
    encoded = plain.encode_image(photo())
    for answer, expression in zip(plain.ground(encoded, EXPRESSIONS), EXPRESSIONS, strict=True):
        same(answer, plain.ground(photo(), expression), atol=1e-4, rtol=1e-4)
    assert encoded.pixels is not None


def slow_scores(predictor: Predictor, expression: str) -> tuple[Tensor, Tensor]:
    """Final score (Q,) and mask (Q, H, W) of every object query, from the definition."""
    model = predictor.model
    text = model.text_encoder.embed_expressions([expression])
    with torch.no_grad():
        batch = model.batch([predictor.resize(photo())])
        output = model(batch, text)
    layer, (height, width) = output.objects.layers[-1], batch.sizes[0]
    assert layer.mask_embed is not None
    scores, masks = [], []
    for query in range(layer.logits.shape[1]):
        logits = torch.einsum("e,ehw->hw", layer.mask_embed[0, query], output.mask_features[0])
        canvas = nn.functional.interpolate(logits[None, None], batch.canvas, mode="bilinear", align_corners=False)
        full = nn.functional.interpolate(
            canvas[..., :height, :width], photo().shape[:2], mode="bilinear", align_corners=False
        )[0, 0]
        inside = full > 0
        confidence = full.sigmoid()[inside].mean() if inside.any() else torch.tensor(0.0)
        scores.append(layer.logits[0, query, 0].sigmoid() * confidence)
        masks.append(inside)
    return torch.stack(scores), torch.stack(masks)


def test_union_of_all_that_score_enough(reader: Predictor) -> None:
    scores, masks = slow_scores(reader, EXPRESSIONS[0])
    ordered = scores.sort(descending=True).values
    threshold = float(ordered[2] + ordered[3]) / 2  # three queries reach it
    answer = reader.ground(photo(), EXPRESSIONS[0], union=True, score_threshold=threshold)
    assert len(answer) == 3 and not answer.no_target
    assert answer.no_target_score == pytest.approx(1 - float(scores.max()), abs=1e-4)
    assert answer.score == pytest.approx(float(scores.max()), abs=1e-4)
    assert (answer.mask != masks[scores >= threshold].any(0)).float().mean() < 1e-3
    nothing = reader.ground(photo(), EXPRESSIONS[0], union=True, score_threshold=min(1.0, float(scores.max()) + 1e-3))
    assert nothing.no_target and not nothing.mask.any()
    assert nothing.no_target_score == pytest.approx(answer.no_target_score, abs=1e-5)
    with pytest.raises(ValueError, match=r"score_threshold must lie in \[0, 1\]"):
        reader.ground(photo(), "dog", score_threshold=2)


def test_the_best_object_alone_unless_asked(reader: Predictor) -> None:
    """The query of highest probability, as before expressions could mean several things."""
    answer = reader.ground(photo(), EXPRESSIONS[0])
    with torch.no_grad():
        text = reader.model.text_encoder.embed_expressions([EXPRESSIONS[0]])
        logits = reader.model(reader.model.batch([reader.resize(photo())]), text).objects.layers[-1].logits
    scores, masks = slow_scores(reader, EXPRESSIONS[0])
    best = int(logits[0, :, 0].argmax())
    assert len(answer) == 1 and (answer.mask != masks[best]).float().mean() < 1e-3
    assert float(answer.scores[0]) == pytest.approx(float(scores[best]), abs=1e-4)
    assert reader.ground(photo(), EXPRESSIONS[0], score_threshold=1.0).no_target


PARTS = "dog: head, tail; person: head, arm"


def test_expressions_that_mean_parts(reader: Predictor) -> None:
    """In any order beside others; parts are those of the object that the rest of the sentence describes."""
    said = ["the dog on the left", "head of the left dog", "the cat", "the person's arm"]
    answers = reader.ground(photo(), said, parts=PARTS)
    assert [answer.expression for answer in answers] == said
    for place in (0, 2):
        alone = reader.ground(photo(), said[place])
        assert torch.equal(answers[place].level, alone.level) and int(alone.level[0]) == 0
        torch.testing.assert_close(answers[place].scores, alone.scores, atol=1e-4, rtol=1e-4)
    for place, owner in ((1, "the left dog"), (3, "the person")):
        answer = answers[place]
        assert len(answer) >= 1 and set(answer.level.tolist()) == {1} and set(answer.names) == {said[place]}
        # Written out: the best object query of the owner's sentence, its part queries, the best of them by name.
        with torch.no_grad():
            text = reader.model.text_encoder.embed_expressions([owner])
            names = Vocabulary.parse(PARTS)
            text = text._replace(parts=reader.model.text_encoder.embed(names, with_tokens=False).parts)
            out = reader.model(reader.model.batch([reader.resize(photo())]), text)
        assert out.parts is not None and out.parent is not None
        best = int(out.objects.layers[-1].logits[0, :, 0].argmax())
        own = out.parts.layers[-1].logits[0][out.parent[0] == best]
        rivals, column = ([0, 1], 0) if place == 1 else ([2, 3], 3)
        called = own[own[:, rivals].argmax(1) == rivals.index(column)]
        top = called[:, column].max() if len(called) else own[:, column].max()
        assert float(answer.scores.max()) <= float(top.sigmoid()) + 1e-4
    asked: list[str] = []

    def never(text: str, names: Sequence[str]) -> None:
        asked.append(text)

    reader.ground(photo(), said, parts=PARTS, parser=never)
    assert asked == said


def test_an_answer_as_a_line(reader: Predictor) -> None:
    answer = reader.ground(photo(), EXPRESSIONS[0], union=True, score_threshold=0.0)
    told = answer.to_dict(image_id=7)
    assert len(told["results"]) == 1 and len(told["instances"]) == len(answer) > 1 and told["no_target"] is False
    whole = Prediction.from_json(answer.to_json())
    assert whole.masks is not None and torch.equal(whole.masks[0], answer.mask)
    assert float(whole.scores[0]) == pytest.approx(float(answer.scores.max()))
    torch.testing.assert_close(whole.boxes[0, :2], answer.boxes[:, :2].amin(dim=0))
    torch.testing.assert_close(whole.boxes[0, 2:], answer.boxes[:, 2:].amax(dim=0))
    empty = answer.select([]).to_dict(image_id=7)
    assert empty["results"] == empty["instances"] == [] and empty["no_target"] is True


@pytest.mark.parametrize(("threshold", "nothing"), [(0.0, 0.0), (1.0, 100.0)])
def test_generalized_expressions_are_scored(
    reader: Predictor, tmp_path: Path, threshold: float, nothing: float
) -> None:
    """A threshold that everything reaches finds no absent target, one that nothing reaches finds them all."""
    register_toy("toy_union", num_images=2, seed=3, size=(48, 64))
    spec = get_dataset("toy_union")
    scenes = spec.read()
    said = (Expression("the thing", (0,)), Expression("a zebra"))

    class Said(list[ImageRecord]):
        vocabulary = scenes.vocabulary

    records = Said(replace(scenes[i], expressions=said) for i in range(2))
    register(replace(spec, evaluator="referring", reader=lambda spec: records), replace=True)
    overrides = [
        "DATASETS.TEST", ["toy_union"], "DATALOADER.NUM_WORKERS", 0, "INPUT.TEST.SHORT_SIDE", 48,
        "TEST.EXPRESSION_UNION", True, "TEST.SCORE_THRESHOLD", threshold,
    ]  # fmt: skip
    results, _ = evaluate(
        load_config("tiny", overrides), reader.model, Accelerator(cpu=True), answerer=partglee_answerer, folder=tmp_path
    )
    assert results["toy_union/mask/N-acc"] == nothing and results["toy_union/mask/T-acc"] == 100 - nothing
    assert (results["toy_union/mask/gIoU"] >= 50) == (nothing == 100)
    lines = [json.loads(line) for line in (tmp_path / "toy_union.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["the thing", "a zebra"] * 2
    assert all(line["no_target"] == (nothing == 100) and 0 <= line["no_target_score"] <= 1 for line in lines)


# ---------------------------------------------------------------- batches


def test_batches_give_what_each_image_gives(predictor: Predictor, passes: list[int]) -> None:
    sizes = [(60, 90), (40, 40), (60, 88), (90, 60), (61, 90), (60, 90)]
    images = [photo(*size, seed=i) for i, size in enumerate(sizes)]
    alone = predictor(images, VOCABULARIES[0], **LOOSE)
    assert passes == [1] * 6
    del passes[:]
    together = predictor(images, VOCABULARIES[0], **LOOSE, batch_size=3)
    assert passes == [3, 1, 1, 1]
    for ours, expected in zip(together, alone, strict=True):
        same(ours, expected, atol=1e-3, rtol=1e-3)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        predictor(images, VOCABULARIES[0], batch_size=0)


def test_squashed_images() -> None:
    assert ImageInput(squash=(48, 32)).read(photo()).resized.shape == (3, 48, 32)
    with pytest.raises(ValueError, match="squash"):
        ImageInput(squash=(0, 32))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_many_files(predictor: Predictor, tmp_path: Path, batch_size: int) -> None:
    files = [tmp_path / f"{name}.png" for name in "abcde"]
    for file in files:
        Image.fromarray(photo()).save(file)
    files[1].write_bytes(b"nothing")
    files.append(tmp_path / "gone.png")
    asked: list[int] = []

    def predict(images: list[InputImage]) -> list[Prediction]:
        asked.append(len(images))
        if any((image.file_name or "").endswith("d.png") for image in images):
            raise RuntimeError("out of memory")
        return list(predictor(images, VOCABULARIES[0], **LOOSE, batch_size=batch_size))

    found = list(predict_files(predictor, files, predict, batch_size=batch_size))
    assert [file for file, _ in found] == files
    kinds = [type(answer) for _, answer in found]
    assert kinds == [Prediction, ValueError, Prediction, RuntimeError, Prediction, FileNotFoundError]
    assert found[0][1].file_name == str(files[0])
    assert asked == ([1] * 4 if batch_size == 1 else [4, 1, 1, 1, 1])
