"""From a photo and sentences to answers: one pass over the image, rules of no-target, instances, files, bad input."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rela
import torch
from PIL import Image
from rela.cli import main
from rela.predictor import AnswerOptions
from rela_helpers import save_tiny, tiny_config, tiny_rela

from partglee.engine.answerers import AnswersExpressions
from partglee.structures import Level, Prediction
from partglee.text.word_pieces import vocabulary_file

EXPRESSIONS = ["the red car", "all boats", "a zebra"]


@pytest.fixture(scope="module")
def predictor() -> rela.Predictor:
    return rela.Predictor.around(tiny_rela(), tiny_config())


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def saying(predictor: rela.Predictor, none: float, **options: object) -> rela.Predictor:
    """The same predictor with another no-target answer (probability) and other options."""
    model = tiny_rela()
    with torch.no_grad():
        last = model.region_decoder.no_target.layers[-1]
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0.0, float(torch.logit(torch.tensor(none)))]))
    made = rela.Predictor.around(model, tiny_config())
    made.options = AnswerOptions(**options)
    return made


def test_answers(predictor: rela.Predictor, photo: np.ndarray) -> None:
    answers = predictor(photo, EXPRESSIONS)
    assert [answer.expression for answer in answers] == EXPRESSIONS
    for answer in answers:
        assert answer.mask.shape == (50, 70) and answer.mask.dtype == torch.bool
        assert 0 <= answer.score <= 1 and answer.score == 1 - answer.no_target_score
        assert answer.minimap.shape == (4, 4) and bool(((answer.minimap >= 0) & (answer.minimap <= 1)).all())
        assert isinstance(answer.no_target, bool)
    one = predictor(photo, EXPRESSIONS[0])
    assert isinstance(one, rela.Answer) and torch.equal(one.mask, answers[0].mask)
    assert isinstance(predictor, AnswersExpressions) and predictor.answer(photo, []) == []


def test_in_half_of_the_precision(predictor: rela.Predictor, photo: np.ndarray) -> None:
    """bfloat16 features meet heads that stay in float32."""
    half = rela.Predictor.around(tiny_rela(), tiny_config(), precision="bfloat16")
    for answer, whole in zip(half(photo, EXPRESSIONS), predictor(photo, EXPRESSIONS), strict=True):
        assert answer.no_target_score == pytest.approx(whole.no_target_score, abs=0.05)
        assert (answer.mask != whole.mask).float().mean() < 0.2


def test_an_image_is_encoded_once(predictor: rela.Predictor, photo: np.ndarray) -> None:
    calls: list[int] = []
    hook = predictor.model.pixel_decoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        encoded = predictor.encode_image(photo)
        answers = predictor(encoded, EXPRESSIONS)
        assert predictor.encode_image(encoded) is encoded and len(calls) == 1
    finally:
        hook.remove()
    for answer, text in zip(answers, EXPRESSIONS, strict=True):
        alone = predictor(encoded, text)
        assert alone.no_target_score == pytest.approx(answer.no_target_score, abs=1e-4)
        assert (alone.mask != answer.mask).float().mean() < 0.01


def test_a_few_at_once_are_the_same(predictor: rela.Predictor, photo: np.ndarray) -> None:
    together = predictor(photo, EXPRESSIONS)
    predictor.expressions_at_once, before = 1, predictor.expressions_at_once
    try:
        for one, other in zip(together, predictor(photo, EXPRESSIONS), strict=True):
            assert one.no_target_score == pytest.approx(other.no_target_score, abs=1e-4)
    finally:
        predictor.expressions_at_once = before


@pytest.mark.parametrize(("kept", "pieces"), [(2**25, [3]), (2 * 16 * 16 * 32 * 4, [2, 1]), (1, [1, 1, 1])])
def test_large_maps_are_decoded_in_pieces(
    predictor: rela.Predictor, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch, kept: int, pieces: list[int]
) -> None:
    """16 x 16 maps of 32 channels: as many together as fit, words read once for all."""
    together = predictor(photo, EXPRESSIONS)
    monkeypatch.setattr("rela.predictor._KEPT_BYTES", kept)
    asked: list[int] = []
    read: list[int] = []
    decode, words = predictor.model.decode, predictor.model.read
    monkeypatch.setattr(predictor.model, "decode", lambda e, w, i: (asked.append(len(i)), decode(e, w, i))[1])
    monkeypatch.setattr(predictor.model, "read", lambda texts: (read.append(len(texts)), words(texts))[1])
    for one, other in zip(together, predictor(photo, EXPRESSIONS), strict=True):
        assert one.expression == other.expression
        assert one.no_target_score == pytest.approx(other.no_target_score, abs=1e-4)
        torch.testing.assert_close(one.minimap, other.minimap, atol=1e-4, rtol=1e-4)
        assert (one.mask != other.mask).float().mean() < 0.01
    assert asked == pieces and read == [3]


def test_confidence_is_the_mean_probability_inside(predictor: rela.Predictor, photo: np.ndarray) -> None:
    answer = predictor(photo, EXPRESSIONS[0], clear=False)
    model, encoded = predictor.model, predictor.encode_image(photo)
    with torch.no_grad():
        logits = model.decode(encoded.features, model.read(EXPRESSIONS[:1]), torch.tensor([0])).masks
    up = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    up = torch.nn.functional.interpolate(up, size=(50, 70), mode="bilinear", align_corners=False)[0]
    inside = (up[1] - up[0]).sigmoid()[up[1] > up[0]]
    assert answer.confidence == pytest.approx(float(inside.mean()), abs=1e-5) and answer.confidence > 0.5
    cleared = predictor(photo, EXPRESSIONS[0], no_target="pixels", min_pixels=50 * 70 + 1)
    assert cleared.confidence == 0 and not cleared.mask.any()


def test_mask_is_the_argmax_at_native_resolution(predictor: rela.Predictor, photo: np.ndarray) -> None:
    """Squashed to 64 x 64, two channels brought back to the image, the larger one wins."""
    answer = predictor(photo, EXPRESSIONS[0], clear=False)
    model, small = predictor.model, Image.fromarray(photo).resize((64, 64), Image.Resampling.BILINEAR)
    with torch.no_grad():
        batch = model.batch([torch.from_numpy(np.array(small)).permute(2, 0, 1)])
        logits = model(batch, model.read(EXPRESSIONS[:1]), torch.tensor([0])).masks
    up = torch.nn.functional.interpolate(logits, size=(64, 64), mode="bilinear", align_corners=False)
    up = torch.nn.functional.interpolate(up, size=(50, 70), mode="bilinear", align_corners=False)[0]
    assert torch.equal(answer.mask, up[1] > up[0])


@pytest.mark.parametrize(
    ("none", "options", "no_target", "empty"),
    [
        (0.9, {}, True, True),
        (0.1, {}, False, False),
        (0.9, {"clear": False}, True, False),  # as released
        (0.4, {"threshold": 0.3}, True, True),
        (0.9, {"threshold": 0.95}, False, False),
        (0.9, {"no_target": "pixels"}, False, False),  # the paper's 50-pixel rule does not ask the classifier
        (0.1, {"no_target": "pixels", "min_pixels": 50 * 70 + 1}, True, True),
        (0.1, {"no_target": "either", "min_pixels": 50 * 70 + 1}, True, True),
        (0.9, {"no_target": "either", "min_pixels": 0}, True, True),
    ],
)
def test_rules_of_no_target(
    predictor: rela.Predictor, photo: np.ndarray, none: float, options: dict, no_target: bool, empty: bool
) -> None:
    answer = saying(predictor, none, **options)(photo, EXPRESSIONS[0])
    assert answer.no_target is no_target and (not answer.mask.any()) is empty
    assert answer.no_target_score == pytest.approx(none, abs=1e-4)
    told = answer.to_dict()
    assert told["no_target"] is no_target and len(told["results"]) == (0 if empty else 1)
    assert (told["height"], told["width"]) == (50, 70) and json.dumps(told)


def answer_with(mask: torch.Tensor, **options: object) -> rela.Answer:
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    return rela.Answer(
        expression="the dogs", mask=mask, no_target=not mask.any(), no_target_score=0.2, confidence=0.9,
        minimap=torch.zeros(2, 2), pixels=pixels, **options,
    )  # fmt: skip


def two_squares() -> torch.Tensor:
    mask = torch.zeros(40, 40, dtype=torch.bool)
    mask[2:12, 2:12] = True
    mask[20:35, 20:35] = True
    mask[38, 0] = True  # a speck
    return mask


def test_instances_are_connected_pixels() -> None:
    found = answer_with(two_squares()).instances
    assert found.boxes.tolist() == [[20, 20, 35, 35], [2, 2, 12, 12]] and found.names == ["the dogs"] * 2
    assert found.scores.tolist() == pytest.approx([0.72, 0.72])
    assert len(answer_with(torch.zeros(4, 4, dtype=torch.bool)).instances) == 0


def test_instances_are_objects_where_a_model_finds_them() -> None:
    """One object of two lies in the mask with most of its pixels; where none does, connected pixels are told."""
    masks = torch.zeros(2, 40, 40, dtype=torch.bool)
    masks[0, 0:14, 0:14] = True
    masks[1, 0:40, 30:40] = True

    def finder(pixels: np.ndarray, rows: list[int]) -> Prediction:
        assert pixels.shape == (40, 40, 3)
        return Prediction(
            boxes=torch.tensor([[0, 0, 14, 14], [30, 0, 40, 40]])[rows], scores=torch.tensor([0.9, 0.8])[rows],
            labels=torch.zeros(len(rows)), names=["dog"] * len(rows), level=torch.full((len(rows),), int(Level.OBJECT)),
            parent=torch.full((len(rows),), -1), image_size=(40, 40), masks=masks[rows],
        )  # fmt: skip

    found = answer_with(two_squares(), find_objects=partial(finder, rows=[0, 1])).instances
    assert found.names == ["dog"] and found.boxes.tolist() == [[0, 0, 14, 14]]
    assert len(answer_with(two_squares(), find_objects=partial(finder, rows=[1])).instances) == 2


def test_pictures(predictor: rela.Predictor, photo: np.ndarray) -> None:
    drawn, nothing = answer_with(two_squares()).draw(), answer_with(torch.zeros(40, 40, dtype=torch.bool)).draw()
    assert drawn.width >= 40 and drawn.height > 40  # the sentence stands below
    assert np.asarray(drawn.convert("RGB")).any() and nothing.height > 40


@pytest.mark.parametrize(
    ("expressions", "message"),
    [
        ([], "at least one expression"),
        (["car", " "], "expression 1 is ' '"),
        (["?"], "'?'"),
        (["🚗🚗"], "expression 0 is"),
    ],
)
def test_expressions_without_a_word(
    predictor: rela.Predictor, photo: np.ndarray, expressions: list, message: str
) -> None:
    with pytest.raises(ValueError, match="write what to look for" if expressions else message) as error:
        predictor(photo, expressions)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("asked", "told"), [(5, "a sentence or a list"), (None, "a sentence or a list"), ([3], "expression is text")]
)
def test_expressions_that_are_no_text(predictor: rela.Predictor, photo: np.ndarray, asked: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        predictor(photo, asked)
    with pytest.raises(ValueError, match=r"expression 1 holds half of a character: 'the \\ud800 car'"):
        predictor(photo, ["a car", "the \ud800 car"])


def test_weights_of_the_library_are_named() -> None:
    message = (
        "partglee-tiny.safetensors is for the recipe 'partglee', not for 'rela'; the library's own Predictor reads it"
    )
    with pytest.raises(ValueError, match=message):
        rela.Predictor.from_pretrained("partglee-tiny")


def test_wrong_options(predictor: rela.Predictor, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="there are no_target, min_pixels, clear, threshold"):
        predictor(photo, "a car", score=0.5)
    with pytest.raises(ValueError, match="no_target must be one of"):
        predictor(photo, "a car", no_target="maybe")
    with pytest.raises(ValueError, match="expressions_at_once"):
        rela.Predictor(
            model=predictor.model, image_input=predictor.input, options=AnswerOptions(), expressions_at_once=0
        )


def test_weights_that_know_their_configuration(tmp_path: Path, photo: np.ndarray) -> None:
    file = save_tiny(tmp_path / "tiny.safetensors")
    made = rela.Predictor.from_pretrained(file, device="cpu")
    said = rela.Predictor.around(tiny_rela(), tiny_config())(photo, EXPRESSIONS)
    for one, other in zip(made(photo, EXPRESSIONS), said, strict=True):
        assert torch.equal(one.mask, other.mask) and one.no_target_score == other.no_target_score


def test_exported_weights_carry_their_words(tmp_path: Path, photo: np.ndarray) -> None:
    words = tmp_path / "words.txt"
    words.write_text(vocabulary_file("toy").read_text())
    file = save_tiny(tmp_path / "tiny.safetensors", ["MODEL.TEXT.BERT.VOCABULARY", str(words)])
    assert main(["export", str(file), str(tmp_path / "whole.safetensors")]) == 0
    said = rela.Predictor.from_pretrained(file, device="cpu")(photo, EXPRESSIONS)
    words.unlink()
    with pytest.raises(ValueError, match="no vocabulary"):
        rela.Predictor.from_pretrained(file, device="cpu")
    made = rela.Predictor.from_pretrained(tmp_path / "whole.safetensors", device="cpu")
    assert [a.no_target_score for a in made(photo, EXPRESSIONS)] == [a.no_target_score for a in said]


def test_files_without_weights(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    with pytest.raises(ValueError, match="no weights file"):
        rela.Predictor.from_pretrained(tmp_path / "none.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(ValueError, match="does not say which configuration"):
        rela.Predictor.from_pretrained(tmp_path / "plain.safetensors")
    with pytest.warns(UserWarning, match="answers will be random"):
        rela.Predictor.from_config(_yaml(tmp_path), device="cpu")
    with pytest.raises(ValueError, match="missing"):
        rela.Predictor.from_config(_yaml(tmp_path), tmp_path / "plain.safetensors", device="cpu")


def _yaml(folder: Path) -> Path:
    file = folder / "tiny.yaml"
    file.write_text(tiny_config().dump(), encoding="utf-8")
    return file


def test_command_line(tmp_path: Path, photo: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    file = save_tiny(tmp_path / "tiny.safetensors")
    Image.fromarray(photo).save(tmp_path / "photo.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    out = tmp_path / "out"
    common = ["--weights", str(file), "--device", "cpu", "--output", str(out)]
    images = ["predict", str(tmp_path / "photo.png"), str(tmp_path / "broken.png")]
    assert main([*images, *common, "--expression", "the car", "--expression", "all boats"]) == 1  # one cannot be read
    lines = [json.loads(line) for line in (out / "answers.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines] == ["the car", "all boats"]
    assert all(line["file_name"].endswith("photo.png") and "no_target" in line for line in lines)
    assert len(list(out.glob("*.jpg"))) == 2
    told = capsys.readouterr()
    assert "broken.png" in told.err
    said = [line for line in told.out.splitlines() if "photo.png: " in line]
    assert len(said) == 2 and "'the car': " in said[0] and "'all boats': " in said[1]  # one line each, no arrays
    assert all("score" in line for line in said) and "tensor(" not in told.out
    assert main([*images, *common, "--expression", " "]) == 2
    assert "write what to look for" in capsys.readouterr().err
