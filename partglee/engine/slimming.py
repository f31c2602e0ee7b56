"""A start for a slimmer pixel decoder: its two widest pieces, replaced by smaller ones that were fitted to what they
give on photos (as layers are taught one by one in FitNets, arXiv 1412.6550).

What is slimmed: the feed-forward blocks of the encoder, to their hidden units that matter most, and the 3x3 convolution
before the mask features, to `SeparableConvNorm`. Training goes on from there.

N rows of an encoder layer, E width, F hidden units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from partglee.checkpoint import read_weights, write_weights
from partglee.engine.predictor import Predictor
from partglee.layers import FeedForward, SeparableConvNorm
from partglee.modeling.pixel_decoder import PixelDecoder

_ROWS = 400  # of a layer that a photo gives
_ROWS_A_STEP = 2048
_MAPS_A_STEP = 2
_OUTPUT = "pixel_decoder.output"


def slim_weights(
    predictor: Predictor,
    photos: Sequence[str | Path],
    start: str | Path,
    out: str | Path,
    *,
    ffn_dim: int,
    steps: int = 300,
    seed: int = 0,
) -> dict[str, float]:
    """Write `start` with a slimmer pixel decoder, for `MODEL.ENCODER.FFN_DIM` and `MODEL.ENCODER.SEPARABLE True`.

    Args:
        predictor: with the same pixel decoder as `start`, not slimmed yet.
        photos: unlabelled files; a hundred or more. An eighth of them is kept to measure on.
        start: a `.safetensors` file that training could start from.
        out: a `.safetensors` file.
        ffn_dim: hidden units that stay of each feed-forward block.
        steps: of fitting, each piece.

    Returns:
        Of each piece by its key the share of the variance of what it gave that is not met, on photos kept apart.

    Raises:
        ValueError: for fewer than 8 photos, a decoder that is slim already, or more hidden units than there are.
    """
    decoder = predictor.model.pixel_decoder
    if isinstance(decoder.output, SeparableConvNorm):
        raise ValueError("the pixel decoder is slim already; expected one with a full 3x3 convolution")
    if len(photos) < 8:
        raise ValueError(f"expected 8 photos or more to fit to, got {len(photos)}")
    blocks = _blocks(decoder)
    for block in blocks:
        if not 0 < ffn_dim <= block.linear1.out_features:
            raise ValueError(f"ffn_dim must be from 1 to {block.linear1.out_features}, got {ffn_dim}")
    state, apart = read_weights(start), dict[str, float]()
    generator = torch.Generator().manual_seed(seed)
    rows, maps = _watch(predictor, photos, generator)
    for i, block in enumerate(blocks):
        key = f"pixel_decoder.layers.{i}.ffn"
        slim, apart[key] = fit_feed_forward(block, rows[i], ffn_dim=ffn_dim, steps=steps, generator=generator)
        state |= {f"{key}.{name}": value for name, value in slim.state_dict().items()}
    conv, apart[_OUTPUT] = fit_separable(decoder.output.conv.weight, maps, steps=steps, generator=generator)
    state |= {f"{_OUTPUT}.{name}.weight": getattr(conv, name).weight.detach() for name in ("depthwise", "conv")}
    write_weights(state, out, {"format": "pt"})
    return apart


def fit_feed_forward(
    block: FeedForward, rows: Sequence[Tensor], *, ffn_dim: int, steps: int, generator: torch.Generator
) -> tuple[FeedForward, float]:
    """A narrower block that gives what `block` does for (N, E) inputs, and the share of it that it does not meet."""
    kept = max(1, len(rows) // 8)
    known, unseen = torch.cat(list(rows[:-kept])), torch.cat(list(rows[-kept:]))
    slim = FeedForward(embed_dim=known.shape[1], ffn_dim=ffn_dim)
    with torch.no_grad():
        wanted = block(known)
        weight = F.relu(block.linear1(known)).square().mean(0) * block.linear2.weight.square().sum(0)
        best = weight.topk(ffn_dim).indices
        slim.linear1.weight.copy_(block.linear1.weight[best])
        slim.linear1.bias.copy_(block.linear1.bias[best])
        slim.linear2.weight.copy_(block.linear2.weight[:, best])
        slim.linear2.bias.copy_(block.linear2.bias)
        scale = wanted.var(0).mean()

    def loss() -> Tensor:
        some = torch.randint(len(known), (_ROWS_A_STEP,), generator=generator)
        return (slim(known[some]) - wanted[some]).square().mean() / scale

    _fit(slim.parameters(), loss, steps=steps, rate=2e-3)
    with torch.no_grad():
        there = block(unseen)
        return slim, float((slim(unseen) - there).square().mean() / there.var(0).mean())


def fit_separable(
    weight: Tensor, maps: Sequence[Tensor], *, steps: int, generator: torch.Generator
) -> tuple[SeparableConvNorm, float]:
    """Of (E, E, 3, 3) weights and maps (E, h, w) that they are applied to: one convolution of each channel and one over
    them, and the share of what the weights give that they do not meet.

    It starts from the best product of the two for each input channel (its first singular vectors).
    """
    channels, kept = weight.shape[0], max(1, len(maps) // 8)
    known, unseen = maps[:-kept], maps[-kept:]
    slim = SeparableConvNorm(channels=channels, num_groups=1)
    with torch.no_grad():
        left, value, right = torch.linalg.svd(weight.transpose(0, 1).flatten(2), full_matrices=False)
        root = value[:, :1].sqrt()
        slim.depthwise.weight.copy_((right[:, 0] * root).view(channels, 1, 3, 3))
        slim.conv.weight.copy_((left[:, :, 0] * root).t().view(channels, channels, 1, 1))
        wanted = [F.conv2d(x[None], weight, padding=1) for x in maps]
        scale = torch.stack([x.square().mean((0, 2, 3)) for x in wanted]).mean(0)

    def apart(place: int) -> Tensor:
        given = slim.conv(slim.depthwise(maps[place][None]))
        return ((given - wanted[place]).square().mean((0, 2, 3)) / scale).mean()

    def loss() -> Tensor:
        some = torch.randint(len(known), (_MAPS_A_STEP,), generator=generator).tolist()
        return torch.stack([apart(place) for place in some]).mean()

    _fit((*slim.depthwise.parameters(), *slim.conv.parameters()), loss, steps=steps, rate=3e-3)
    with torch.no_grad():
        return slim, float(torch.stack([apart(len(known) + i) for i in range(len(unseen))]).mean())


def _fit(parameters: Iterable[nn.Parameter], loss: Callable[[], Tensor], *, steps: int, rate: float) -> None:
    with torch.enable_grad():
        optimizer = torch.optim.Adam(list(parameters), lr=rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
        for _ in range(steps):
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()
            schedule.step()


def _blocks(decoder: PixelDecoder) -> list[FeedForward]:
    return [module for module in decoder.layers.modules() if isinstance(module, FeedForward)]


def _watch(
    predictor: Predictor, photos: Sequence[str | Path], generator: torch.Generator
) -> tuple[list[list[Tensor]], list[Tensor]]:
    """What each layer's feed-forward block reads (some rows of each photo), and the last convolution."""
    decoder = predictor.model.pixel_decoder
    blocks = _blocks(decoder)
    rows: list[list[Tensor]] = [[] for _ in blocks]
    maps: list[Tensor] = []

    def of_layer(place: int) -> Callable[..., None]:
        def hook(module: nn.Module, given: tuple[Any, ...]) -> None:
            some = torch.randperm(given[0].shape[1], generator=generator)[:_ROWS]
            rows[place].append(given[0][0, some].float().cpu())

        return hook

    handles = [block.register_forward_pre_hook(of_layer(i)) for i, block in enumerate(blocks)]
    handles.append(
        decoder.output.register_forward_pre_hook(lambda module, given: maps.append(given[0][0].float().cpu()))
    )
    try:
        for photo in photos:
            encoded = predictor.encode_image(photo)
            with torch.no_grad():
                decoder(encoded.maps)
    finally:
        for handle in handles:
            handle.remove()
    return rows, maps
