"""The head that a dense teacher trains: its maps by hand, and that inference knows nothing of it."""

from __future__ import annotations

import torch

from partglee.config import load_config
from partglee.modeling import build_model
from partglee.modeling.dense_head import DenseHead
from partglee.structures import PixelFeatures, TextTokens

LEVELS = ((2, 3), (4, 6))  # coarse to fine


def test_maps_by_hand() -> None:
    torch.manual_seed(0)
    head, names = DenseHead(embed_dim=8, prior_prob=0.1), torch.randn(3, 8)
    memory = torch.randn(2, 6 + 24, 8)
    fine, coarse = head(PixelFeatures(memory, LEVELS, torch.zeros(2, 8, 8, 12)), names)
    assert fine.shape == (2, 3, 4, 6) and coarse.shape == (2, 3, 2, 3)
    query = head.norm(head.proj(memory[1, 6 + 2 * 6 + 5]))
    wanted = query @ head.class_proj @ names[2] - torch.log(torch.tensor(9.0))
    torch.testing.assert_close(fine[1, 2, 2, 5], wanted)
    wanted = head.norm(head.proj(memory[0, 1 * 3 + 2])) @ head.class_proj @ names[0] - torch.log(torch.tensor(9.0))
    torch.testing.assert_close(coarse[0, 0, 1, 2], wanted)


def test_training_has_it_and_inference_does_not() -> None:
    small = [
        "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.PART_DECODER.NUM_LAYERS", 1,
        "MODEL.OBJECT_DECODER.NUM_QUERIES", 10, "MODEL.OBJECT_DECODER.NUM_PARSED", 4,
    ]  # fmt: skip
    models = []
    for used in (False, True):
        torch.manual_seed(0)
        model = build_model(load_config("tiny", [*small, "MODEL.OBJECT_DECODER.DENSE_HEAD", used]))
        model.text_encoder.backend.embeddings = torch.randn(7, 1024, generator=torch.Generator().manual_seed(1))
        models.append(model)
    plain, taught = models
    assert {key for key in taught.state_dict() if key not in plain.state_dict()} == {
        f"object_decoder.dense_head.{key}"
        for key in ("class_proj", "class_bias", "proj.weight", "proj.bias", "norm.weight", "norm.bias")
    }
    taught.load_state_dict(plain.state_dict(), strict=False)
    ids = torch.arange(7).view(-1, 1)
    tokens = TextTokens(ids, torch.ones_like(ids, dtype=torch.bool), num_objects=3)
    images = plain.batch([torch.rand(3, 64, 96) * 255])
    with torch.no_grad():
        ours, theirs = (model.eval()(images, tokens) for model in models)
        assert theirs.objects.dense is None
        torch.testing.assert_close(ours.objects.layers[-1].logits, theirs.objects.layers[-1].logits, rtol=0, atol=0)
        seen = taught.train()(images, tokens).objects.dense
        assert plain.train()(images, tokens).objects.dense is None
    assert seen is not None and [tuple(one.shape) for one in seen] == [(1, 3, 8, 12), (1, 3, 4, 6), (1, 3, 2, 3)]
