"""The released top-k over (query, name) pairs, against loops."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.ops import box_iou

from partglee.modeling.multi_label import MultiLabel
from partglee.modeling.postprocess import PostprocessOptions, postprocess
from partglee.ops.masks import mask_logits, masks_to_image
from partglee.structures import (
    DecoderOutput,
    ImageBatch,
    LayerPrediction,
    ModelOutput,
    Prediction,
    TextEmbeddings,
    Vocabulary,
)

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["head", "arm"], "cup": []})
CANVAS, RESIZED, SIZE = (32, 64), (32, 48), (40, 60)
IMAGES = ImageBatch(torch.zeros(1, 3, *CANVAS), (RESIZED,))


def make_output(seed: int, *, queries: int = 6, part_queries: int = 8, masks: bool = True) -> ModelOutput:
    torch.manual_seed(seed)

    def level(count: int, names: int) -> DecoderOutput:
        embed = torch.randn(1, count, 4) if masks else None
        layer = LayerPrediction(torch.randn(1, count, names), torch.rand(1, count, 4) * 0.4 + 0.2, embed)
        return DecoderOutput(torch.zeros(1, count, 4), (layer,))

    text = TextEmbeddings(torch.zeros(3, 4), torch.zeros(4, 4))
    parent = torch.randint(queries, (1, part_queries))
    return ModelOutput(level(queries, 3), level(part_queries, 4), parent, text, torch.randn(1, 4, 8, 16))


def run(output: ModelOutput, **options: float) -> Prediction:
    chosen = PostprocessOptions(multi_label=MultiLabel(**options))  # type: ignore[arg-type]
    return postprocess(output, VOCABULARY, IMAGES, [SIZE], chosen)[0]


def oracle(output: ModelOutput, object_queries: int, part_queries: int, detections: int) -> list[tuple[object, ...]]:
    """(level, query, label, score) of the pairs that stay, best name probability first."""
    pairs = []
    for level, decoder, keep in ((0, output.objects, object_queries), (1, output.parts, part_queries)):
        assert decoder is not None
        logits = decoder.layers[-1].logits[0]
        best = sorted(range(len(logits)), key=lambda q: -float(logits[q].max()))[:keep]
        for q in best:
            for c in range(logits.shape[1]):
                pairs.append((float(logits[q, c]), level, q, c))
    pairs.sort(reverse=True)
    rows = []
    for logit, level, q, c in pairs[:detections]:
        decoder = (output.objects, output.parts)[level]
        assert decoder is not None
        embed = decoder.layers[-1].mask_embed
        assert embed is not None
        small = mask_logits(embed[0, q : q + 1], output.mask_features[0])
        mask = masks_to_image(small, canvas=CANVAS, padded_from=RESIZED, image_size=SIZE)[0]
        inside = mask[mask > 0].sigmoid()
        confidence = float(inside.mean()) if len(inside) else 0.0
        rows.append((level, q, c, float(torch.tensor(logit).sigmoid()) * confidence, mask > 0))
    return rows


@pytest.mark.parametrize(("seed", "limits"), [(0, (6, 8, 100)), (1, (3, 5, 12)), (2, (6, 0, 9)), (3, (0, 4, 9))])
def test_against_loops(seed: int, limits: tuple[int, int, int]) -> None:
    output = make_output(seed)
    expected = oracle(output, *limits)
    found = run(output, object_queries=limits[0], part_queries=limits[1], detections=limits[2])
    assert len(found) == len(expected)
    assert found.level.tolist() == [row[0] for row in expected]
    assert found.labels.tolist() == [row[2] for row in expected]
    torch.testing.assert_close(found.scores, torch.tensor([row[3] for row in expected]), atol=1e-5, rtol=1e-5)
    assert found.masks is not None
    for i, row in enumerate(expected):
        assert torch.equal(found.masks[i], row[4])
        names = VOCABULARY.part_names if row[0] else VOCABULARY.object_names
        assert found.names[i] == names[row[2]]
    check_parents(output, found, expected)


def check_parents(output: ModelOutput, found: Prediction, rows: list[tuple[object, ...]]) -> None:
    """The best row of the parent query that has the part, else its best row, else none."""
    assert output.parent is not None
    scores = found.scores.tolist()
    for i, (level, query, label, *_) in enumerate(rows):
        if level == 0:
            assert found.parent[i] == -1
            continue
        wanted = int(output.parent[0, query])  # type: ignore[index]
        candidates = [j for j, row in enumerate(rows) if row[0] == 0 and row[1] == wanted]
        fitting = [j for j in candidates if VOCABULARY.allowed[rows[j][2], label]]  # type: ignore[index]
        best = max(fitting or candidates, key=lambda j: scores[j], default=-1)
        assert found.parent[i] == best


def test_boxes_are_those_of_the_query() -> None:
    output = make_output(4)
    both = run(output)
    single = postprocess(
        output, VOCABULARY, IMAGES, [SIZE], PostprocessOptions(score_threshold=0.0, restrict_parts=False)
    )[0]
    known = {tuple(box) for box in single.boxes.tolist()}
    objects = both.boxes[both.level == 0].tolist()
    assert len(objects) == 18 and {tuple(box) for box in objects} <= known


def test_without_parts_masks_or_detections() -> None:
    output = make_output(5)._replace(parts=None, parent=None)
    assert set(run(output).level.tolist()) == {0}
    bare = make_output(5, masks=False)
    found = run(bare)
    assert found.masks is None
    logits = bare.objects.layers[-1].logits
    torch.testing.assert_close(found.scores[found.level == 0].max(), logits.max().sigmoid())
    assert len(run(output, detections=0)) == 0


@pytest.mark.parametrize("masks", [True, False])
def test_overlapping_parts_of_one_name(masks: bool) -> None:
    output, overlap = make_output(7, masks=masks), 0.3
    everything, found = run(output), run(output, part_overlap=overlap)
    order = sorted(range(len(everything)), key=lambda i: -float(everything.scores[i]))
    stays: list[int] = []
    for i in order:
        rivals = [j for j in stays if everything.level[j] == 1 and everything.labels[j] == everything.labels[i]]
        near = box_iou(everything.boxes[i : i + 1], everything.boxes[rivals]) if rivals else torch.zeros(1, 1)
        if everything.level[i] == 0 or float(near.max()) <= overlap:
            stays.append(i)
    stays.sort()
    assert 18 < len(stays) < len(everything)  # the 18 pairs of objects, some parts, not all
    torch.testing.assert_close(found.boxes, everything.boxes[stays])
    torch.testing.assert_close(found.scores, everything.scores[stays])
    assert found.names == [everything.names[i] for i in stays]
    if masks:
        assert found.masks is not None and everything.masks is not None
        assert torch.equal(found.masks, everything.masks[stays])
    for row, i in enumerate(stays):
        owner = everything.parent[i]
        assert found.parent[row] == (stays.index(int(owner)) if owner >= 0 else -1)


@pytest.mark.parametrize(
    "bad",
    [
        {"detections": -1},
        {"object_queries": 1.5},
        {"part_overlap": 2},
    ],
)
def test_bad_limits(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(bad))):
        MultiLabel(**bad)


@pytest.mark.parametrize("multi_label", [True, False])
@pytest.mark.parametrize("mask_box", [0.5, 1.0, 1.3])
def test_masks_end_at_their_box(mask_box: float, multi_label: bool) -> None:
    output = make_output(4)
    kept = {"score_threshold": 0.0, "object_overlap": None, "part_overlap": None, "part_inside": None}
    found = []
    for size in (None, mask_box):
        options = {"multi_label": MultiLabel(mask_box=size)} if multi_label else {**kept, "mask_box": size}
        found.append(postprocess(output, VOCABULARY, IMAGES, [SIZE], PostprocessOptions(**options))[0])  # type: ignore[arg-type]
    anywhere, ended = found
    assert ended.masks is not None and anywhere.masks is not None and len(ended) == len(anywhere)
    boxes = {
        (float(box.sum()), int(label)): row
        for row, (box, label) in enumerate(zip(anywhere.boxes, anywhere.labels, strict=True))
    }
    smaller = 0
    for row, (x0, y0, x1, y1) in enumerate(ended.boxes.tolist()):
        full = anywhere.masks[boxes[float(ended.boxes[row].sum()), int(ended.labels[row])]]
        reach_x, reach_y = mask_box * (x1 - x0) / 2 + 1, mask_box * (y1 - y0) / 2 + 1
        seen = torch.zeros(SIZE, dtype=torch.bool)
        left, right = round((x0 + x1) / 2 - reach_x), round((x0 + x1) / 2 + reach_x)
        top, bottom = round((y0 + y1) / 2 - reach_y), round((y0 + y1) / 2 + reach_y)
        seen[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
        assert torch.equal(ended.masks[row], full & seen)
        smaller += int(ended.masks[row].sum() < full.sum())
    assert smaller > 5


@pytest.mark.parametrize("bad", [0, -1.0, "wide"])
def test_a_box_that_masks_cannot_end_at(bad: Any) -> None:
    for kind in (MultiLabel, PostprocessOptions):
        with pytest.raises(ValueError, match="mask_box must be above 0"):
            kind(mask_box=bad)


def test_twins_are_looked_for_inside_their_boxes() -> None:
    """Two objects of one name whose masks run together are one, unless masks end at the boxes."""
    output = make_output(5, queries=2, part_queries=1)
    layer = output.objects.layers[-1]
    layer.logits[:] = torch.tensor([5.0, -9.0, -9.0])
    layer.boxes[0] = torch.tensor([[0.2, 0.5, 0.2, 0.8], [0.55, 0.5, 0.2, 0.8]])
    assert layer.mask_embed is not None
    layer.mask_embed[:] = 1.0
    output.mask_features[:] = 1.0
    options = {"score_threshold": 0.3, "object_overlap": 0.7}
    names = [
        postprocess(output, VOCABULARY, IMAGES, [SIZE], PostprocessOptions(mask_box=size, **options))[0].names  # type: ignore[arg-type]
        for size in (None, 1.2)
    ]
    assert [one.count("dog") for one in names] == [1, 2]
