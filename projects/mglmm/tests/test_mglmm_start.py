"""What is saved can be read back, and what training starts from is what was given."""

from __future__ import annotations

import mglmm_helpers as helpers
import pytest
import torch
from mglmm import SegCap, load_config
from mglmm.config import build_model
from mglmm.model import MGLMM
from mglmm.recipe import MGLMM_RECIPE
from mglmm.start import load_start
from test_mglmm_use import SMALL
from torch import nn

from partglee.config import merge_overrides

ADAPTERS = ["MODEL.TUNING.MODE", "adapters", "MODEL.TUNING.RANK", 2]
MASKS_STAY = ["MODEL.TUNING.MASKS", False]


def all_of(model: MGLMM) -> dict[str, torch.Tensor]:
    return nn.Module.state_dict(model)


def shaken(model: MGLMM) -> MGLMM:
    with torch.no_grad():
        for _, weight in model.learning():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def same(one: MGLMM, other: MGLMM) -> bool:
    ours, theirs = all_of(one), all_of(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("tuning", [ADAPTERS, [*ADAPTERS, "MODEL.TUNING.PROJECTOR", False, *MASKS_STAY], MASKS_STAY])
def test_fresh_weights_that_stay_are_saved(tmp_path, tuning):
    cfg = load_config("mglmm_toy", [*SMALL, *tuning])
    model = SegCap(shaken(build_model(cfg)), cfg)
    model.save(tmp_path / "w.safetensors")
    assert same(SegCap.from_pretrained(tmp_path / "w.safetensors", device="cpu").model, model.model)


def test_networks_beside_a_frozen_partglee_are_saved():
    names = ["MODEL.MASKS.KIND", "partglee", "MODEL.MASKS.NAME", "partglee-tiny"]
    model = build_model(load_config("mglmm_toy", [*SMALL, *names, *MASKS_STAY]))
    kept = {name.split(".")[1] for name in model.state_dict() if name.startswith("masks.")}
    assert kept == {"read_prompt", "read_query", "level", "bias"}


def test_adapters_start_from_a_whole_run(tmp_path):
    """Names inside adapters are found, rows of the marks too; what stays is saved with what trains."""
    file = tmp_path / "whole.safetensors"
    cfg = load_config("mglmm_toy", SMALL)
    whole = SegCap(shaken(build_model(cfg)), cfg)
    whole.save(file)
    later = load_config("mglmm_toy", [*SMALL, *ADAPTERS, *MASKS_STAY, "MODEL.WEIGHTS", str(file)])
    model = build_model(later)
    load_start(later, model)
    picture, question = helpers.picture(50, 70), "Describe all objects in the image in detail."
    assert SegCap(model, later)(picture, question).said == whole(picture, question).said
    ours, theirs = all_of(model), all_of(whole.model)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("masks."))
    tables = model.lmm.get_input_embeddings(), whole.model.lmm.get_input_embeddings()
    ids = torch.arange(theirs["lmm.model.language_model.embed_tokens.weight"].shape[0])
    assert torch.equal(tables[0](ids), tables[1](ids))
    SegCap(shaken(model), later).save(tmp_path / "tuned.safetensors")
    assert same(SegCap.from_pretrained(tmp_path / "tuned.safetensors", device="cpu").model, model)
    back = load_config("mglmm_toy", [*SMALL, "MODEL.WEIGHTS", str(tmp_path / "tuned.safetensors")])
    with pytest.raises(ValueError, match="tensors of its language model have no place in this one"):
        load_start(back, build_model(back))
    merge_overrides(later, ["MODEL.TUNING.RANK", 3, "MODEL.WEIGHTS", str(tmp_path / "tuned.safetensors")])
    with pytest.raises(ValueError, match=r"MODE, RANK, TARGETS"):
        load_start(later, build_model(later))


def test_a_run_starts_so():
    assert MGLMM_RECIPE.load_weights is load_start
    cfg = load_config("mglmm_toy", [*SMALL, "MODEL.BACKBONE.WEIGHTS", "r50.pth"])
    with pytest.raises(ValueError, match=r"MODEL.BACKBONE.WEIGHTS is not read here.*MODEL.START names"):
        load_start(cfg, build_model(cfg))
