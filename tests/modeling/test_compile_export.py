"""torch.compile and torch.export of the image path."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from partglee.modeling import PartGLEE
from partglee.structures import TextEmbeddings, Vocabulary
from partglee.testing import tiny_model

pytestmark = pytest.mark.compile
VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["arm"]})


class ImagePath(nn.Module):
    """Images to logits, boxes and mask factors, the vocabulary fixed."""

    def __init__(self, model: PartGLEE, text: TextEmbeddings) -> None:
        super().__init__()
        self.model = model
        self.text = text

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(images, self.text)
        assert output.parts is not None and output.parent is not None
        objects, parts = output.objects.layers[-1], output.parts.layers[-1]
        return objects.logits, objects.boxes, parts.logits, parts.boxes, output.parent, output.mask_features


@pytest.fixture
def path(tiny: PartGLEE) -> ImagePath:
    return ImagePath(tiny, tiny.embed(VOCABULARY))


@pytest.fixture
def shallow(table: Path) -> ImagePath:
    """The same path with one layer of each kind: tracing time grows with depth, what is traced does not."""
    layers = ("ENCODER", "OBJECT_DECODER", "QFORMER", "PART_DECODER")
    overrides = [v for name in layers for v in (f"MODEL.{name}.NUM_LAYERS", 1)]
    model = tiny_model(table=table, overrides=overrides)
    return ImagePath(model, model.embed(VOCABULARY))


def close(ours: tuple[torch.Tensor, ...], theirs: tuple[torch.Tensor, ...], tolerance: float = 1e-3) -> None:
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def check_one_graph(path: ImagePath, sizes: tuple[tuple[int, int], ...]) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(path, fullgraph=True, backend="eager")
    with torch.no_grad():
        for size in sizes:
            images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
            close(compiled(images), path(images))


def test_no_graph_break(shallow: ImagePath) -> None:
    """fullgraph=True raises at a graph break."""
    check_one_graph(shallow, ((64, 64),))


@pytest.mark.slow
def test_no_graph_break_in_the_whole_model(path: ImagePath) -> None:
    check_one_graph(path, ((64, 96),))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("c++") is None, reason="inductor needs a C++ compiler")
def test_compiled_stages_give_the_same(path: ImagePath) -> None:
    torch._dynamo.reset()
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = path(images)
        model = path.model
        stages = (model.backbone, model.pixel_decoder, model.object_decoder, model.qformer, model.part_decoder)
        try:
            for stage in stages:
                stage.compile(fullgraph=True)
            ours = path(images)
        finally:
            for stage in stages:
                stage._compiled_call_impl = None
    close(ours, expected)


def test_export_with_a_fixed_vocabulary(path: ImagePath) -> None:
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        exported = torch.export.export(path, (images,))
        other = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
        close(exported.module()(other), path(other))
