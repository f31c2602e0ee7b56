"""Part queries as one map of part labels (OV-PARTS).

P part queries, Cp part names, (H, W) the original image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from partglee.modeling.frame import Frame, ImageQueries
from partglee.structures import ModelOutput

_COLUMNS_PER_PASS = 16  # full-size maps in memory at once


@torch.no_grad()
def part_map(
    output: ModelOutput,
    i: int,
    frame: Frame,
    *,
    columns: Sequence[int] | None = None,
    queries: int = 100,
    temperature: float = 0.06,
) -> Tensor:
    """Label of each pixel of image `i`.

    A name's score at a pixel is the sum over queries of softmax(probabilities / temperature) times the probability of
    the mask.

    Args:
        columns: Oracle-Obj: the part names that the known object has; every pixel gets one of them. None: Pred-All: all
            names compete, and a pixel that no query's mask covers (probability above 0.5) is background, Cp.
        queries: kept, by their best name.
        temperature: of the softmax over the names.

    Returns:
        (H, W) long on the CPU; of equal scores the lowest label.

    Raises:
        ValueError: for a vocabulary without parts, or no columns.
    """
    image = ImageQueries(output, i, frame)
    logits = image.parts
    if logits is None or (columns is not None and not len(columns)):
        raise ValueError("a part map needs part names; give the vocabulary parts")
    assert image.embed is not None
    kept = logits.max(dim=1).values.topk(min(queries, len(logits))).indices
    weights = (logits[kept].sigmoid() / temperature).softmax(dim=1)  # (P', Cp)
    names = list(range(logits.shape[1])) if columns is None else sorted(columns)
    embed = image.embed[len(image.objects) + kept]
    masks = torch.cat([m.sigmoid() for _, m in frame.mask_logits(embed, image.features)])
    best = masks.new_full(masks.shape[1:], -1.0)
    label = torch.zeros(masks.shape[1:], dtype=torch.long, device=masks.device)
    for start in range(0, len(names), _COLUMNS_PER_PASS):
        some = names[start : start + _COLUMNS_PER_PASS]
        score, place = torch.einsum("qc,qhw->chw", weights[:, some], masks).max(dim=0)
        label = torch.where(score > best, torch.tensor(some, device=label.device)[place], label)
        best = best.maximum(score)
    if columns is None:
        label = torch.where(masks.max(dim=0).values > 0.5, label, logits.shape[1])
    return label.cpu()
