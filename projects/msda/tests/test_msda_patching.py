"""`patch` and `unpatch`: there and back in every order, models built before and after, and what is left alone."""

from __future__ import annotations

import copy
import importlib
import io
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from partglee_msda import patch, patching, replacements, unpatch
from partglee_msda.ops import native

pytest.importorskip("transformers")

import msda_models
from transformers.models.d_fine import modeling_d_fine
from transformers.models.deformable_detr import modeling_deformable_detr
from transformers.models.mask2former import modeling_mask2former


@pytest.fixture(autouse=True)
def _back() -> Iterator[None]:
    yield
    unpatch()


def state() -> tuple[Any, ...]:
    """What is in three kinds of places now."""
    kept = vars(modeling_d_fine.DFineMultiscaleDeformableAttention).get(patching.KEPT_AS)
    layer = modeling_deformable_detr.MultiScaleDeformableAttention.forward
    return layer, modeling_mask2former.multi_scale_deformable_attention, kept


def test_there_and_back() -> None:
    before = state()
    assert before[2] is None
    done = patch()
    assert state()[:2] == (replacements.layer_forward, replacements.function)
    assert isinstance(state()[2], property)
    assert "mask2former.multi_scale_deformable_attention" in done.patched and not done.left
    assert "mask2former" in repr(done)
    unpatch()
    assert state() == before
    unpatch()
    assert state() == before


def everything() -> dict[tuple[str, ...], object]:
    """Each attribute of each module that may be patched, and of each class there."""
    found: dict[tuple[str, ...], object] = {}
    for model in patching.MODELS:
        module = importlib.import_module(f"transformers.models.{model}.modeling_{model}")
        for name, value in vars(module).items():
            found[model, name] = value
            if isinstance(value, type):
                found |= {(model, name, key): part for key, part in vars(value).items()}
    return found


def test_nothing_else_is_touched_and_everything_comes_back() -> None:
    before = everything()
    done, patched = patch(), everything()
    assert len({key for key in patched if patched[key] is not before.get(key)}) == len(done.patched)
    unpatch()
    after = everything()
    assert after.keys() == before.keys() and all(after[key] is before[key] for key in before)


def test_a_second_call_changes_nothing_and_one_undoes_both() -> None:
    before = state()
    first, patched = patch(), state()
    assert patch().patched == first.patched
    assert state() == patched
    unpatch()
    assert state() == before


def test_blocks_stand_in_each_other() -> None:
    before = state()
    with patch():
        patched = state()
        with patch():
            assert state() == patched
        assert state() == patched
        with pytest.raises(KeyError), patch():
            raise KeyError
        assert state() == patched
    assert state() == before
    patch()
    with patch():
        unpatch()
        assert state() == before
    assert state()[:2] == patched[:2]  # as it was before the block


@pytest.mark.parametrize("name", msda_models.MODELS)
def test_models_built_before_and_after(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    right = replacements.attend
    monkeypatch.setattr(replacements, "attend", lambda *given: calls.append(1) or right(*given))
    given = msda_models.inputs(name)

    def ours(model: torch.nn.Module) -> int:
        calls.clear()
        with torch.no_grad():
            msda_models.outputs(model, given)
        return len(calls)

    early = msda_models.build(name)
    assert ours(early) == 0
    patch()
    late = msda_models.build(name)
    assert ours(early) == ours(late) > 0
    unpatch()
    assert ours(early) == ours(late) == 0


def test_a_model_built_while_patched_is_copied_and_saved() -> None:
    patch()
    model = msda_models.build("d_fine")
    twin = copy.deepcopy(model)
    file = io.BytesIO()
    torch.save(model, file)
    unpatch()
    file.seek(0)
    given = msda_models.inputs("d_fine")
    with torch.no_grad():
        expected = msda_models.outputs(model, given)
        for other in (twin, torch.load(file, weights_only=False)):
            for a, b in zip(expected, msda_models.outputs(other, given), strict=True):
                assert torch.equal(a, b)


def test_an_attention_of_ones_own_stays() -> None:
    """Who has put another function into a layer of D-FINE keeps it."""
    layer = msda_models.build("d_fine").model.decoder.layers[0].encoder_attn

    def own() -> None:
        pass

    layer.ms_deformable_attn_core = own
    patch()
    assert layer.ms_deformable_attn_core is own
    layer.ms_deformable_attn_core = modeling_d_fine.multi_scale_deformable_attention_v2
    assert layer.ms_deformable_attn_core is not modeling_d_fine.multi_scale_deformable_attention_v2
    unpatch()
    assert layer.ms_deformable_attn_core is modeling_d_fine.multi_scale_deformable_attention_v2


def test_what_somebody_else_has_put_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    original = modeling_mask2former.multi_scale_deformable_attention
    patch()
    modeling_mask2former.multi_scale_deformable_attention = theirs = lambda *given: None
    try:
        unpatch()
        assert modeling_mask2former.multi_scale_deformable_attention is theirs
    finally:
        modeling_mask2former.multi_scale_deformable_attention = original


def test_another_form_is_left_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(value: object, locations: object) -> None:
        pass

    monkeypatch.setattr(modeling_mask2former, "multi_scale_deformable_attention", other)
    monkeypatch.delattr(modeling_deformable_detr, "MultiScaleDeformableAttention")
    monkeypatch.setitem(sys.modules, "transformers.models.rf_detr.modeling_rf_detr", None)
    done = patch()
    assert done.left.keys() == {"mask2former", "deformable_detr", "rf_detr"}
    assert "takes value, locations" in done.left["mask2former"]
    assert "no attention in a form that is known" in done.left["deformable_detr"]
    assert "cannot be imported" in done.left["rf_detr"]
    assert modeling_mask2former.multi_scale_deformable_attention is other
    assert "d_fine.DFineMultiscaleDeformableAttention" in done.patched


def test_without_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patching.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install transformers"):
        patch()
    unpatch()


def test_a_missing_library_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The models work all the same: plain PyTorch computes."""
    monkeypatch.setattr(native, "CPU", native.NativeLibrary(native.LIBRARY_DIR / "libpartglee_ops.so", "not built"))
    model, given = msda_models.build("mask2former"), msda_models.inputs("mask2former")
    with torch.no_grad():
        expected = msda_models.outputs(model, given)
        with pytest.warns(RuntimeWarning, match=r"no compiled operator for cpu \(not built\).*C\+\+ compiler"):
            patch()
        for a, b in zip(expected, msda_models.outputs(model, given), strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-4)
