"""The graph as a module, in eager mode: row by row what the library's own post-processing says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_export import VOCABULARY, small_model
from torch import Tensor

from partglee.engine.inference import predict_resized
from partglee.export.graph import DetectionGraph
from partglee.export.prepare import ready_for_export
from partglee.modeling import PartGLEE
from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.postprocess import PostprocessOptions
from partglee.structures import Vocabulary


def photos() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(0, 256, (3, 64, width), generator=generator, dtype=torch.uint8) for width in (96, 64, 64)]


def assert_same(found: dict[str, Tensor], model: PartGLEE, image: Tensor, options: PostprocessOptions) -> int:
    """Rows, in order; the number of them."""
    height, width = image.shape[1:]
    wanted = predict_resized(model, [image], [(height, width)], VOCABULARY, options)[0]
    assert found["labels"].tolist() == wanted.labels.tolist()
    assert found["level"].tolist() == wanted.level.tolist()
    assert found["parent"].tolist() == wanted.parent.tolist()
    torch.testing.assert_close(found["boxes"], wanted.boxes, rtol=0, atol=1e-3)
    torch.testing.assert_close(found["scores"], wanted.scores, rtol=0, atol=1e-5)
    assert wanted.masks is not None and found["masks"].shape == (len(wanted.labels), height // 4, width // 4)
    if len(wanted.labels):
        full = torch.nn.functional.interpolate(found["masks"][None], size=(height, width), mode="bilinear")[0] > 0
        if options.mask_box is not None:
            full &= reach(wanted.boxes, options.mask_box, (height, width))
        assert (full == wanted.masks).float().mean() > 0.999
    return len(wanted.labels)


def reach(boxes: Tensor, size: float, image: tuple[int, int]) -> Tensor:
    """(N, H, W) of an image: where a mask of each box may lie, row by row."""
    reached = torch.zeros(len(boxes), *image, dtype=torch.bool)
    for (x0, y0, x1, y1), row in zip(boxes.tolist(), reached, strict=True):
        (left, right), (top, bottom) = (
            (max(0, round((a + b - size * (b - a)) / 2 - 1)), max(0, round((a + b + size * (b - a)) / 2 + 1)))
            for a, b in ((x0, x1), (y0, y1))
        )
        row[top:bottom, left:right] = True
    return reached


@pytest.mark.parametrize(
    "options",
    [
        PostprocessOptions(score_threshold=0.0),
        PostprocessOptions(score_threshold=0.45, part_score_threshold=0.3),
        PostprocessOptions(score_threshold=0.2, object_overlap=0.1, part_overlap=0.1, part_inside=0.3),
        PostprocessOptions(score_threshold=0.2, object_overlap=0.2, across_names=True, max_objects=2),
        PostprocessOptions(score_threshold=0.1, object_overlap=None, part_overlap=None, part_inside=None),
        PostprocessOptions(score_threshold=0.1, restrict_parts=False, max_parts_per_object=1),
        PostprocessOptions(score_threshold=0.1, mask_box=0.7, object_overlap=0.2, part_inside=0.5),
        PostprocessOptions(score_threshold=1.0),
    ],
)
def test_row_by_row(table: Path, options: PostprocessOptions) -> None:
    model = small_model(table)
    graph = DetectionGraph(model=ready_for_export(model), vocabulary=VOCABULARY, options=options).eval()
    with torch.no_grad():
        counts = [assert_same(graph(image[None]), model, image, options) for image in photos()]
    assert all(counts) or options.score_threshold == 1.0


def test_names_as_inputs(table: Path) -> None:
    model = small_model(table)
    model.selection = Vocabulary(["dog", "cat"])
    options = PostprocessOptions(score_threshold=0.1)
    graph = DetectionGraph(model=ready_for_export(model), vocabulary=None, options=options).eval()
    text = model.embed(VOCABULARY)
    with torch.no_grad():
        found = graph(photos()[0][None], text.objects, text.parts, VOCABULARY.allowed)
    assert assert_same(found, model, photos()[0], options)


def test_names_that_training_lacked_are_shifted_in_a_fixed_vocabulary(table: Path) -> None:
    model = small_model(table)
    model.selection = Vocabulary(["cat"])
    options, scores = PostprocessOptions(score_threshold=0.1), []
    for shift in (0.0, 1.5):
        model.unseen_shift = shift
        graph = DetectionGraph(model=ready_for_export(model), vocabulary=VOCABULARY, options=options).eval()
        with torch.no_grad():
            found = graph(photos()[0][None])
            assert assert_same(found, model, photos()[0], options)
        scores.append(found["scores"].max())
    assert scores[1] > scores[0]


def test_without_parts(table: Path) -> None:
    model, names = small_model(table), Vocabulary(["dog", "cat"])
    options = PostprocessOptions(score_threshold=0.0)
    with torch.no_grad():
        found = DetectionGraph(model=ready_for_export(model), vocabulary=names, options=options).eval()(
            photos()[0][None]
        )
    assert len(found["labels"]) and set(found["level"].tolist()) == {0} and set(found["parent"].tolist()) == {-1}


def test_the_copy_answers_alike_and_the_model_stays_as_it_is(table: Path) -> None:
    model = small_model(table)
    kinds = [type(module) for module in model.modules()]
    ready = ready_for_export(model)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        for ours, theirs in zip(ready.backbone(x), model.backbone(x), strict=True):
            torch.testing.assert_close(ours, theirs)
    assert [type(module) for module in model.modules()] == kinds
    assert "Conv2dSame" not in [type(module).__name__ for module in ready.modules()]
    assert "Conv2dSame" in [kind.__name__ for kind in kinds]


@pytest.mark.parametrize(
    "options",
    [
        PostprocessOptions(masks=False),
        PostprocessOptions(max_queries=1),
        PostprocessOptions(multi_label=MultiLabel()),
    ],
)
def test_options_without_room(table: Path, options: PostprocessOptions) -> None:
    with pytest.raises(ValueError, match="has no option"):
        DetectionGraph(model=small_model(table), vocabulary=VOCABULARY, options=options)


def test_fused_names_cannot_be_inputs(table: Path) -> None:
    model = small_model(table)
    model.fuse_categories = True
    with pytest.raises(ValueError, match="fixed vocabulary"):
        DetectionGraph(model=model, vocabulary=None)
