"""Whole models of transformers, tiny and random: what they answer, and every gradient, with their operator and ours."""

from __future__ import annotations

import pytest
import torch
from partglee_msda import patch, replacements
from torch import Tensor, nn

pytest.importorskip("transformers")

import msda_models


def with_gradients(model: nn.Module, given: dict[str, Tensor]) -> tuple[list[Tensor], dict[str, Tensor]]:
    found = [out.masked_fill(out.isinf(), 0) for out in msda_models.outputs(model, given)]  # logits of no word
    trained = {key: parameter for key, parameter in model.named_parameters() if parameter.requires_grad}
    gradients = torch.autograd.grad(sum(out.square().sum() for out in found), trained.values(), allow_unused=True)
    named = {key: grad for key, grad in zip(trained, gradients, strict=True) if grad is not None}
    return [out.detach() for out in found], named


@pytest.mark.parametrize("name", msda_models.MODELS)
def test_answers_and_gradients_are_the_same(name: str) -> None:
    """In float64, where no order of sums can hide a mistake."""
    model, given = msda_models.build(name).double(), msda_models.inputs(name, torch.float64)
    theirs, their_gradients = with_gradients(model, given)
    with patch():
        ours, our_gradients = with_gradients(model, given)
    assert len(theirs) == 2
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11)
    assert their_gradients.keys() == our_gradients.keys()
    assert any("sampling_offsets" in key for key in their_gradients)
    largest = max(float(grad.abs().max()) for grad in their_gradients.values())
    for key, grad in their_gradients.items():
        torch.testing.assert_close(our_gradients[key], grad, rtol=1e-6, atol=1e-13 * largest, msg=key)


@pytest.mark.parametrize("name", msda_models.MODELS)
def test_answers_are_the_same_in_float32(name: str) -> None:
    model, given = msda_models.build(name), msda_models.inputs(name)
    with torch.no_grad():
        theirs = msda_models.outputs(model, given)
        with patch():
            ours = msda_models.outputs(model, given)
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", msda_models.MODELS)
def test_the_comparison_can_fail(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model's answers depend on the operator, and the operator that is asked is ours."""
    model, given = msda_models.build(name), msda_models.inputs(name)
    right = replacements.attend
    monkeypatch.setattr(replacements, "attend", lambda *given: 2 * right(*given))
    with torch.no_grad():
        theirs = msda_models.outputs(model, given)
        with patch():
            wrong = msda_models.outputs(model, given)
    for a, b in zip(theirs, wrong, strict=True):
        assert not torch.allclose(a, b, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", msda_models.MODELS)
@pytest.mark.parametrize("how", ["model", "autocast"])
def test_bfloat16_trains(name: str, how: str) -> None:
    """Half precision moves what a model selects, so whole answers are not compared; test_msda_places.py measures it."""
    given = msda_models.inputs(name, torch.bfloat16 if how == "model" else torch.float32)
    model = msda_models.build(name)
    model = model.to(torch.bfloat16) if how == "model" else model
    with torch.autocast("cpu", torch.bfloat16, enabled=how == "autocast"):
        theirs, their_gradients = with_gradients(model, given)
        with patch():
            ours, our_gradients = with_gradients(model, given)
    assert [(out.shape, out.dtype) for out in ours] == [(out.shape, out.dtype) for out in theirs]
    assert all(bool(out.isfinite().all()) for out in ours)
    assert their_gradients.keys() == our_gradients.keys()
    assert all(bool(grad.isfinite().all()) for grad in our_gradients.values())


@pytest.mark.gpu
@pytest.mark.parametrize("name", msda_models.MODELS)
def test_answers_and_gradients_are_the_same_on_a_gpu(name: str) -> None:
    model, given = msda_models.build(name).double().cuda(), msda_models.inputs(name, torch.float64, "cuda")
    theirs, their_gradients = with_gradients(model, given)
    with patch():
        ours, our_gradients = with_gradients(model, given)
    for a, b in zip(theirs, ours, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-8, atol=1e-10)
    largest = max(float(grad.abs().max()) for grad in their_gradients.values())
    for key, grad in their_gradients.items():
        torch.testing.assert_close(our_gradients[key], grad, rtol=1e-5, atol=1e-11 * largest, msg=key)


@pytest.mark.slow  # minutes; test_msda_places.py compiles the attention alone
@pytest.mark.compile
@pytest.mark.parametrize("name", ["mask2former", "rt_detr", "d_fine"])
def test_compiled_models_answer_the_same(name: str) -> None:
    model, given = msda_models.build(name), msda_models.inputs(name)
    with patch(), torch.no_grad():
        expected = msda_models.outputs(model, given)
        found = msda_models.outputs(torch.compile(model), given)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=2e-5)
