"""Part queries composed into one map, against the evaluators' own composition and a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from partglee.evaluation import compose_part_map
from partglee.modeling import PartGLEE
from partglee.modeling.frame import Frame
from partglee.modeling.part_maps import part_map
from partglee.structures import ModelOutput, Vocabulary

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm", "lower leg"]})


@pytest.fixture(scope="module")
def output(tiny: PartGLEE) -> tuple[ModelOutput, Frame]:
    images = tiny.batch([torch.randint(256, (3, 60, 90), generator=torch.Generator().manual_seed(0))])
    with torch.no_grad():
        found = tiny(images, tiny.embed(VOCABULARY))
    return found, Frame(images.canvas, images.sizes[0], (45, 70))


def pieces(output: tuple[ModelOutput, Frame], queries: int) -> tuple[np.ndarray, np.ndarray]:
    found, frame = output
    assert found.parts is not None
    layer = found.parts.layers[-1]
    kept = layer.logits[0].max(dim=1).values.topk(queries).indices
    scores = (layer.logits[0][kept].sigmoid() / 0.06).softmax(dim=1)
    masks = torch.cat([m for _, m in frame.mask_logits(layer.mask_embed[0][kept], found.mask_features[0])]).sigmoid()
    return scores.numpy(), masks.numpy()


@pytest.mark.parametrize("columns", [[0, 1], [3, 2], [0, 1, 2, 3]])
def test_oracle_obj(output: tuple[ModelOutput, Frame], columns: list[int]) -> None:
    found, frame = output
    labels = part_map(found, 0, frame, columns=columns, queries=12).numpy()
    assert labels.shape == (45, 70) and set(np.unique(labels)) <= set(columns)
    expected = compose_part_map(*pieces(output, 12), allowed=columns)
    assert (labels == expected).mean() > 0.999  # float sums in another order may decide a tie


def test_pred_all_has_background(output: tuple[ModelOutput, Frame]) -> None:
    found, frame = output
    scores, masks = pieces(output, 5)
    labels = part_map(found, 0, frame, queries=5).numpy()
    covered = masks.max(axis=0) > 0.5
    assert (labels[~covered] == 4).all() and (labels[covered] < 4).all()
    assert (labels == np.where(covered, compose_part_map(scores, masks), 4)).mean() > 0.999


def test_a_vocabulary_without_parts(output: tuple[ModelOutput, Frame]) -> None:
    found, frame = output
    with pytest.raises(ValueError, match="needs part names"):
        part_map(found, 0, frame, columns=[])
    with pytest.raises(ValueError, match="needs part names"):
        part_map(found._replace(parts=None), 0, frame)
