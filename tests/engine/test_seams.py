"""What `Predictor` and training are made of, as functions for other programs: the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from training_samples import make_batch, small_config

from partglee.criterion import build_criterion, sum_terms, summarise, total
from partglee.engine import Predictor
from partglee.engine.inference import predict_resized
from partglee.engine.partglee_recipe import build, build_step
from partglee.engine.pretrained import load_pretrained, pretrained_config
from partglee.modeling import MultiLabel, PostprocessOptions
from partglee.structures import Prediction, Vocabulary

NAMES = Vocabulary({"dog": ["head", "tail"], "person": ["arm"]})
LOW = PostprocessOptions(score_threshold=0.01)


def photo(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_equal(found: Prediction, expected: Prediction) -> None:
    assert len(found) == len(expected) > 0 and found.names == expected.names
    for field in ("boxes", "scores", "labels", "level", "parent", "masks"):
        assert torch.equal(getattr(found, field), getattr(expected, field)), field


def test_resized_tensors_are_predicted_as_the_predictor_does(predictor: Predictor) -> None:
    photos = [photo(60, 90, 0), photo(90, 60, 1), photo(61, 92, 2)]
    expected = [next(predictor.stream([p], NAMES, LOW)) for p in photos]
    resized = [predictor.resize(p) for p in photos]
    sizes = [p.shape[:2] for p in photos]
    for image, size, one in zip(resized, sizes, expected, strict=True):
        assert_equal(predict_resized(predictor.model, [image], [size], NAMES, LOW)[0], one)
        assert_equal(predict_resized(predictor.model, [image.float()], [size], NAMES, LOW)[0], one)
    together = predict_resized(predictor.model, resized, sizes, NAMES, LOW)
    for found, one in zip(together, expected, strict=True):
        assert found.names == one.names and torch.allclose(found.boxes, one.boxes, atol=1e-3)


def test_sizes_and_precision_are_checked(predictor: Predictor) -> None:
    image = predictor.resize(photo(60, 90, 0))
    with pytest.raises(ValueError, match="a size for each of 1 images, got 2"):
        predict_resized(predictor.model, [image], [(60, 90), (60, 90)], NAMES)
    with pytest.raises(ValueError, match="precision must be one of"):
        predict_resized(predictor.model, [image], [(60, 90)], NAMES, precision="float8")


def test_the_call_answers_with_many_labels(predictor: Predictor) -> None:
    options = PostprocessOptions(multi_label=MultiLabel(detections=20))
    expected = next(predictor.stream([photo(60, 90, 0)], NAMES, options))
    assert_equal(predictor(photo(60, 90, 0), NAMES, multi_label=MultiLabel(detections=20)), expected)


def test_weights_give_a_model_and_its_configuration() -> None:
    model, cfg = load_pretrained("partglee-tiny", device="cpu")
    expected = Predictor.from_pretrained("partglee-tiny", device="cpu")
    ours, theirs = model.state_dict(), expected.model.state_dict()
    shared = [key for key in ours if not key.startswith("backbone.")]  # a predictor's is for prediction alone
    assert {key for key in theirs if not key.startswith("backbone.")} == set(shared)
    assert all(torch.equal(ours[key], theirs[key]) for key in shared)
    assert not model.training and expected.short_side == cfg.INPUT.TEST.SHORT_SIDE
    assert build_criterion(cfg).weights.class_ == cfg.CRITERION.WEIGHT.CLASS
    assert load_pretrained("partglee-tiny", device="cpu", training=True).model.training


def test_a_configuration_comes_from_somewhere(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="weights that say their configuration, or a configuration"):
        pretrained_config(None)
    assert pretrained_config(None, ["MODEL.EMBED_DIM", 32], config="tiny").MODEL.EMBED_DIM == 32


def test_terms_keep_their_gradients(tmp_path: Path) -> None:
    cfg = small_config(tmp_path)
    torch.manual_seed(0)
    step = build_step(cfg, build(cfg).train())
    torch.manual_seed(0)
    loss, logged = step(make_batch())
    loss.backward()
    expected = {name: p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
    step.zero_grad()
    torch.manual_seed(0)
    terms = step.losses(make_batch())
    summed = sum_terms(terms)
    assert len(summed) < len(terms) and set(summed) == set(logged) - {"total"}
    assert {"object/class", "part/box_giou", "part/restriction"} <= set(summed)
    assert torch.allclose(sum(summed.values()), loss) and torch.equal(total(terms.values()), loss)
    assert not any(value.requires_grad for value in summarise(terms).values())
    sum(summed.values()).backward()
    found = {name: p.grad for name, p in step.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys() and len(found) > 100
    assert all(torch.allclose(found[name], expected[name], atol=1e-5) for name in found)
