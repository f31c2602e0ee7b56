"""Smaller pieces that give what larger ones gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from partglee.checkpoint import read_weights, write_weights
from partglee.engine.slimming import fit_feed_forward, fit_separable, slim_weights
from partglee.layers import FeedForward
from partglee.testing import tiny_model, tiny_predictor


def feed_forward() -> FeedForward:
    """Whose every second hidden unit plays no role."""
    torch.manual_seed(0)
    block = FeedForward(embed_dim=6, ffn_dim=20).requires_grad_(False)
    block.linear2.weight[:, ::2] = 0
    return block


def test_units_without_a_role_go_first() -> None:
    block, rows = feed_forward(), [torch.randn(30, 6) for _ in range(8)]
    slim, apart = fit_feed_forward(block, rows, ffn_dim=10, steps=0, generator=torch.Generator().manual_seed(0))
    assert apart < 1e-10
    torch.testing.assert_close(slim(rows[0]), block(rows[0]))


def test_fitting_meets_more_than_leaving_out() -> None:
    block, rows = feed_forward(), [torch.randn(300, 6) for _ in range(8)]
    shares = [
        fit_feed_forward(block, rows, ffn_dim=6, steps=steps, generator=torch.Generator().manual_seed(0))[1]
        for steps in (0, 200)
    ]
    assert 0 < shares[1] < 0.7 * shares[0]


def test_a_convolution_that_is_a_product_is_found() -> None:
    torch.manual_seed(0)
    depthwise, over = torch.randn(4, 1, 3, 3), torch.randn(4, 4, 1, 1)
    weight, maps = over * depthwise[:, 0], [torch.randn(4, 7, 9) for _ in range(8)]
    slim, apart = fit_separable(weight, maps, steps=0, generator=torch.Generator().manual_seed(0))
    assert apart < 1e-8
    whole = nn.functional.conv2d(maps[0][None], weight, padding=1)
    torch.testing.assert_close(slim.conv(slim.depthwise(maps[0][None])), whole, atol=1e-4, rtol=1e-4)
    other = torch.randn(4, 4, 3, 3)
    shares = [
        fit_separable(other, maps, steps=steps, generator=torch.Generator().manual_seed(0))[1] for steps in (0, 100)
    ]
    assert 0 < shares[1] < shares[0] < 1


def test_a_slim_start(table: Path, tmp_path: Path) -> None:
    predictor, files = tiny_predictor(table), list[Path]()
    for seed in range(8):
        pixels = np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        files.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).save(files[-1])
    start, out = tmp_path / "start.safetensors", tmp_path / "slim.safetensors"
    write_weights(dict(predictor.model.state_dict()), start, {"format": "pt"})
    apart = slim_weights(predictor, files, start, out, ffn_dim=32, steps=2)
    assert sorted(apart) == sorted([*(f"pixel_decoder.layers.{i}.ffn" for i in range(3)), "pixel_decoder.output"])
    assert all(0 < share < 2 for share in apart.values())
    slim = tiny_model(table=table, overrides=["MODEL.ENCODER.FFN_DIM", 32, "MODEL.ENCODER.SEPARABLE", True])
    slim.load_state_dict(read_weights(out))
    assert slim.pixel_decoder.layers[0].ffn.linear1.weight.shape == (32, 128)
    other = slim.object_decoder.decoder.layers[0].ffn.linear1.weight
    assert other.shape == (512, 128) and torch.equal(
        other, predictor.model.object_decoder.decoder.layers[0].ffn.linear1.weight
    )
    with pytest.raises(ValueError, match="expected 8 photos or more to fit to, got 7"):
        slim_weights(predictor, files[:7], start, out, ffn_dim=32)
    with pytest.raises(ValueError, match="ffn_dim must be from 1 to 512, got 513"):
        slim_weights(predictor, files, start, out, ffn_dim=513)
    predictor.model.pixel_decoder = slim.pixel_decoder
    with pytest.raises(ValueError, match="is slim already"):
        slim_weights(predictor, files, start, out, ffn_dim=32)
