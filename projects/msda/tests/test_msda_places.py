"""Each place that `patch` changes, in every model of transformers: the original against ours on random inputs."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from partglee_msda import patch
from partglee_msda.patching import KEPT_AS, KEPT_IN, MODELS
from partglee_msda.replacements import by_level
from torch import Tensor

pytest.importorskip("transformers")

SHAPES = [(9, 11), (5, 6), (1, 3)]
POINTS = [3, 6, 2]  # of the levels, where a model may have several numbers


def module_of(model: str) -> ModuleType:
    return importlib.import_module(f"transformers.models.{model}.modeling_{model}")


def attention_of(model: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """What the model calls, of values (N, S, M, D), locations and weights."""
    module = module_of(model)
    if layer := getattr(module, "MultiScaleDeformableAttention", None):
        table = torch.tensor(SHAPES)
        starts = torch.tensor([0, 99, 129])
        attention = layer()
        return lambda value, locations, weights: attention(value, table, SHAPES, starts, locations, weights, 64)
    if plain := getattr(module, "multi_scale_deformable_attention", None):
        return lambda value, locations, weights: plain(value, SHAPES, locations, weights)
    second = module.multi_scale_deformable_attention_v2
    if model in KEPT_IN:  # as a layer finds it that was built before anything was patched
        holder = getattr(module, KEPT_IN[model])
        layer = holder.__new__(holder)
        torch.nn.Module.__init__(layer)
        vars(layer)[KEPT_AS] = second
        return lambda value, locations, weights: getattr(layer, KEPT_AS)(value, SHAPES, locations, weights, POINTS)
    return lambda value, locations, weights: second(value, SHAPES, locations, weights, POINTS)


def random_inputs(model: str, dtype: torch.dtype) -> list[Tensor]:
    """Locations also outside, and some far off."""
    generator = torch.Generator().manual_seed(3)
    points = (sum(POINTS),) if hasattr(module_of(model), "multi_scale_deformable_attention_v2") else (3, 4)
    value = torch.randn(2, 132, 3, 8, generator=generator)
    locations = torch.rand(2, 17, 3, *points, 2, generator=generator) * 1.6 - 0.3
    locations[0, 0] += 7
    weights = torch.randn(2, 17, 3, *points, generator=generator).flatten(3).softmax(-1).view(2, 17, 3, *points)
    return [tensor.to(dtype).requires_grad_() for tensor in (value, locations, weights)]


def run(model: str, given: list[Tensor]) -> list[Tensor]:
    out = attention_of(model)(*given)
    grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(4)).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, given, grad)]


def test_every_model_is_patched() -> None:
    with patch() as done:
        assert not done.left
        assert sorted({name.split(".")[0] for name in done.patched}) == sorted(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_forward_and_gradients_are_theirs(model: str) -> None:
    given = random_inputs(model, torch.float64)
    theirs = run(model, given)
    with patch():
        ours = run(model, given)
    for a, b in zip(theirs, ours, strict=True):
        assert a.abs().max() > 0
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("model", ["deformable_detr", "mask2former", "d_fine"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_ours_is_at_least_as_near_to_float64(model: str, dtype: torch.dtype) -> None:
    given = random_inputs(model, dtype)
    truth = run(model, [tensor.detach().double().requires_grad_() for tensor in given])
    theirs = run(model, given)
    with patch():
        ours = run(model, given)
    for exact, a, b in zip(truth, theirs, ours, strict=True):
        assert a.dtype == b.dtype == dtype
        assert (b - exact).norm() <= 1.1 * (a - exact).norm() + 1e-6 * exact.norm()


@pytest.mark.compile
@pytest.mark.parametrize("model", ["deformable_detr", "mask2former", "d_fine"])
def test_compiled_in_one_piece(model: str) -> None:
    given = random_inputs(model, torch.float32)
    with patch():
        attention = attention_of(model)
        expected, found = attention(*given), torch.compile(attention, fullgraph=True)(*given)
        wanted, got = (torch.autograd.grad(out.square().sum(), given) for out in (expected, found))
    for a, b in zip((expected, *wanted), (found, *got), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


def test_what_is_mixed_has_the_dtype_of_theirs() -> None:
    """Under autocast values are bfloat16 and weights float32."""
    value, locations, weights = random_inputs("mask2former", torch.float32)
    with patch():
        out = attention_of("mask2former")(value.bfloat16(), locations, weights)
    assert out.dtype == torch.float32


def test_the_nearest_pixel_of_rt_detr_v2_stays_theirs() -> None:
    second = module_of("rt_detr_v2").multi_scale_deformable_attention_v2
    value, locations, weights = random_inputs("rt_detr_v2", torch.float32)
    expected = second(value, SHAPES, locations, weights, POINTS, method="discrete")
    with patch():
        found = module_of("rt_detr_v2").multi_scale_deformable_attention_v2(
            value, SHAPES, locations, weights, POINTS, method="discrete"
        )
    assert torch.equal(found, expected)
    assert not torch.allclose(found, second(value, SHAPES, locations, weights, POINTS), atol=0.1)


def test_points_of_several_numbers_lie_by_level() -> None:
    locations = torch.arange(11.0)[:, None].expand(1, 1, 1, 11, 2)
    weights = torch.arange(11.0).view(1, 1, 1, 11)
    places, shares = by_level(locations, weights, POINTS)
    assert places[0, 0, 0, :, :, 0].tolist() == [[0, 1, 2, -1, -1, -1], [3, 4, 5, 6, 7, 8], [9, 10, -1, -1, -1, -1]]
    assert shares[0, 0, 0].tolist() == [[0, 1, 2, 0, 0, 0], [3, 4, 5, 6, 7, 8], [9, 10, 0, 0, 0, 0]]
