"""Random model outputs and targets for criterion tests."""

from __future__ import annotations

import torch
from torch import Tensor

from partglee.criterion import HierarchicalCriterion, LossWeights, Matcher, SetCriterion
from partglee.structures import (
    DecoderOutput,
    HierarchicalTargets,
    LayerPrediction,
    LevelTargets,
    ModelOutput,
    TextEmbeddings,
)

WIDTH, CANVAS = 6, 32
DTYPE = torch.float64


def random_boxes(*shape: int) -> Tensor:
    return torch.rand(*shape, 4, dtype=DTYPE) * 0.4 + 0.2


def random_layer(images: int, queries: int, names: int, *, masks: bool = True) -> LayerPrediction:
    tensors = (torch.randn(images, queries, names, dtype=DTYPE), random_boxes(images, queries))
    embed = torch.randn(images, queries, WIDTH, dtype=DTYPE).requires_grad_() if masks else None
    return LayerPrediction(tensors[0].requires_grad_(), tensors[1].requires_grad_(), embed)


def random_decoder(
    images: int, queries: int, names: int, *, layers: int = 3, noised: Tensor | None = None
) -> DecoderOutput:
    """`noised`: (B, M) source of denoising queries."""
    denoising: tuple[LayerPrediction, ...] = ()
    if noised is not None:
        denoising = tuple(random_layer(images, noised.shape[1], names, masks=False) for _ in range(layers))
    return DecoderOutput(
        queries=torch.zeros(images, queries, WIDTH, dtype=DTYPE),
        layers=tuple(random_layer(images, queries, names) for _ in range(layers)),
        proposals=random_layer(images, queries, names),
        denoising=denoising,
        denoising_source=noised,
    )


def random_output(
    images: int = 2,
    *,
    queries: int = 8,
    parsed: int = 4,
    per_object: int = 3,
    names: tuple[int, int] = (3, 4),
    noised: tuple[Tensor | None, Tensor | None] = (None, None),
) -> ModelOutput:
    objects = random_decoder(images, queries, names[0], noised=noised[0])
    text = TextEmbeddings(torch.zeros(names[0], WIDTH), torch.zeros(names[1], WIDTH))
    features = torch.randn(images, WIDTH, CANVAS // 4, CANVAS // 4, dtype=DTYPE).requires_grad_()
    if names[1] == 0:
        return ModelOutput(objects, None, None, text, features)
    rows = torch.stack([torch.randperm(queries)[:parsed] for _ in range(images)])
    parts = random_decoder(images, parsed * per_object, names[1], noised=noised[1])
    return ModelOutput(objects, parts, rows.repeat_interleave(per_object, dim=1), text, features)


def random_level(count: int, names: int, *, masks: bool = True) -> LevelTargets:
    made = torch.rand(count, CANVAS, CANVAS) < 0.5 if masks else None
    return LevelTargets(torch.randint(max(names, 1), (count,)), random_boxes(count), made)


def random_targets(
    objects: int, parts: int, *, names: tuple[int, int] = (3, 4), masks: bool = True, parents: bool = False
) -> HierarchicalTargets:
    part_parent = torch.arange(parts) % objects if parents else torch.full((parts,), -1)
    return HierarchicalTargets(
        random_level(objects, names[0], masks=masks), random_level(parts, names[1], masks=masks), part_parent
    )


def make_criterion(**options: object) -> HierarchicalCriterion:
    weights = options.pop("weights", LossWeights())
    return HierarchicalCriterion(
        matcher=Matcher(num_points=64), level=SetCriterion(num_points=64), weights=weights, **options
    )


def leaves(output: ModelOutput) -> dict[str, list[Tensor]]:
    """Tensors of each level that may receive gradients."""
    found: dict[str, list[Tensor]] = {"object": [], "part": []}
    for name, decoder in (("object", output.objects), ("part", output.parts)):
        if decoder is not None:
            for layer in (*decoder.layers, decoder.proposals, *decoder.denoising):
                found[name] += [t for t in layer if t is not None]
    return found
