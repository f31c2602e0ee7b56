"""Our model with the golden weights gives the upstream model's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from partglee.checkpoint import convert_state_dict
from partglee.modeling import PartGLEE, build_model


@pytest.fixture(scope="module")
def golden_model(shared: Path, parity_tool: ModuleType) -> PartGLEE:
    return parity_tool.golden_model(shared / "golden")


def test_every_golden_array(golden_model: PartGLEE, shared: Path, parity_tool: ModuleType) -> None:
    golden = np.load(shared / "golden" / "partglee_r50_upstream.npz")
    ours = parity_tool.golden_arrays(golden_model, golden)
    skipped = {"image", "names", "object_mask_index", "part_mask_index"}
    assert set(ours) == set(golden.files) - skipped
    for name, value in ours.items():
        limit = 5e-5 if name.endswith("boxes") else 1e-3
        np.testing.assert_allclose(value.float().numpy(), golden[name], rtol=0, atol=limit, err_msg=name)


def test_same_query_order(golden_model: PartGLEE, shared: Path, parity_tool: ModuleType) -> None:
    golden = np.load(shared / "golden" / "partglee_r50_upstream.npz")
    ours = parity_tool.golden_arrays(golden_model, golden)
    # Each of our boxes lies nearest to the upstream box of the same row.
    for name in ("object_boxes", "part_boxes"):
        distance = torch.cdist(ours[name][0].double(), torch.from_numpy(golden[name])[0].double())
        own = distance.diagonal()
        assert (own <= distance.min(dim=1).values + 1e-5).all()


@pytest.mark.parametrize(
    ("keys", "config"),
    [("upstream_keys_r50.json", "inference_r50"), ("upstream_keys_swinl.json", "inference_swinL")],
)
@pytest.mark.parametrize("prefix", ["", "partglee."])
def test_key_files_convert_completely(shared: Path, keys: str, config: str, prefix: str) -> None:
    shapes = json.loads((shared / "golden" / keys).read_text())
    state = {prefix + k: torch.zeros(1).expand(s) for k, s in shapes.items()}
    converted, report = convert_state_dict(state, "partglee")
    assert report.unknown == []
    with torch.device("meta"):
        ours = build_model(config).state_dict()
    assert set(converted) == set(ours)
    assert {k: tuple(v.shape) for k, v in converted.items()} == {k: tuple(v.shape) for k, v in ours.items()}
    assert report.config == config


def test_text_keys_of_either_transformers_version(shared: Path) -> None:
    shapes = json.loads((shared / "golden" / "upstream_keys_r50.json").read_text())
    older = {
        k.replace("text_encoder.", "text_encoder.text_model.", 1) if k.startswith("text_encoder.") else k: s
        for k, s in shapes.items()
    }
    assert older != shapes
    converted = [set(convert_state_dict({k: torch.zeros(1).expand(s) for k, s in keys.items()}, "partglee")[0])
                 for keys in (shapes, older)]  # fmt: skip
    assert converted[0] == converted[1]
