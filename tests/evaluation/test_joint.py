"""AP of both levels in one table, against the evaluators of each level alone."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from evaluation_worlds import feed, perfect_rows

from partglee.data.records import ImageRecord, Instance
from partglee.evaluation import CocoEvaluator, HierarchicalEvaluator, joint_evaluator
from partglee.evaluation.joint import ground_truth_of
from partglee.structures import Level, Prediction, Vocabulary

VOCABULARY = Vocabulary({"dog": ["head", "tail"], "person": ["head"], "cup": []})
SIZE = (60, 80)


class Listed(list[ImageRecord]):
    """Records in a list."""

    vocabulary = VOCABULARY


def square(x: float, y: float, side: float) -> tuple[tuple[float, float, float, float], tuple[tuple[float, ...], ...]]:
    return (x, y, x + side, y + side), ((x, y, x + side, y, x + side, y + side, x, y + side),)


def instance(label: int, x: float, y: float, side: float, **options: Any) -> Instance:
    box, polygon = square(x, y, side)
    return Instance(label, box, polygon, **options)


def make_records(masks: bool = True) -> Listed:
    generator = torch.Generator().manual_seed(0)
    records = Listed()

    def draw(high: int) -> float:
        return float(torch.randint(high, (), generator=generator))

    for number in range(6):
        objects = [instance(int(draw(3)), draw(40), draw(20), 12 + draw(20)) for _ in range(3)]
        parts = [instance(int(draw(3)), draw(60), draw(40), 4 + draw(10), parent=int(draw(3))) for _ in range(4)]
        parts.append(instance(2, 5, 5, 10))  # without a parent
        objects.append(instance(1, 0, 0, 30, crowd=True))
        if not masks:
            objects = [Instance(o.label, o.box, None, o.parent, o.crowd) for o in objects]
            parts = [Instance(p.label, p.box, None, p.parent, p.crowd) for p in parts]
        records.append(ImageRecord(Path(f"{number}.jpg"), *SIZE, 100 + number, tuple(objects), tuple(parts)))
    return records


def predict(record: ImageRecord, *, noise: float, seed: int) -> Prediction:
    """The annotations, moved about, some renamed, in random order of scores."""
    generator = torch.Generator().manual_seed(seed)
    rows = [(o, Level.OBJECT) for o in record.objects] + [(p, Level.PART) for p in record.parts]
    boxes = torch.tensor([instance.box for instance, _ in rows])
    boxes = (boxes + noise * torch.randn(boxes.shape, generator=generator)).clamp(min=0)
    boxes[:, 2:] = boxes[:, 2:].maximum(boxes[:, :2] + 2).minimum(torch.tensor([80.0, 60.0]))
    masks = torch.zeros(len(rows), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    labels = torch.tensor([instance.label for instance, _ in rows])
    renamed = torch.rand(len(rows), generator=generator) < 0.2
    labels = torch.where(renamed, torch.randint(3, labels.shape, generator=generator), labels)
    names = [
        (VOCABULARY.part_names if level else VOCABULARY.object_names)[label]
        for label, (_, level) in zip(labels.tolist(), rows, strict=True)
    ]
    return Prediction(
        boxes=boxes, masks=masks, scores=torch.rand(len(rows), generator=generator), labels=labels, names=names,
        level=torch.tensor([level for _, level in rows]), image_size=SIZE,
        parent=torch.tensor([instance.parent if level else -1 for instance, level in rows]),
    )  # fmt: skip


def test_levels_equal_evaluators_of_one_level() -> None:
    records = make_records()
    joint = joint_evaluator(records)
    linked = HierarchicalEvaluator(ground_truth=ground_truth_of(records), category_map=joint.category_map)
    alone = {}
    for level in ("object", "part"):
        truth = ground_truth_of(records)
        wanted = truth.categories.is_part == (level == "part")
        alone[level] = CocoEvaluator(ground_truth=truth, category_map=joint.category_map, per_category=True), wanted
    for i, record in enumerate(records):
        prediction = predict(record, noise=1.0, seed=i)
        for evaluator in (joint, linked, alone["object"][0], alone["part"][0]):
            evaluator.process(record.image_id, prediction)
    results, hierarchy = joint.evaluate(), linked.evaluate()
    assert 5 < results["object/box/AP"] < 95 and 5 < results["part/mask/AP"] < 95
    for kind, shown in (("bbox", "box"), ("segm", "mask")):
        for level, (evaluator, wanted) in alone.items():
            single = evaluator.evaluate()
            names = [n for n, w in zip(evaluator.ground_truth.categories.names, wanted, strict=True) if w]
            values = [v for v in (single[f"{kind}/AP-{name}"] for name in names) if v == v]
            assert results[f"{level}/{shown}/AP"] == pytest.approx(sum(values) / len(values))
        for metric in ("hAP", "hAP50", "parent_accuracy", "num_parts_without_parent"):
            assert results[f"hierarchy/{shown}/{metric}"] == pytest.approx(hierarchy[f"{kind}/{metric}"])
    assert results["hierarchy/box/num_parts_without_parent"] == 6


def test_perfect_predictions() -> None:
    records = make_records()
    evaluator = joint_evaluator(records)
    for record in records:
        prediction = predict(record, noise=0.0, seed=0)
        prediction.labels[:] = torch.tensor([i.label for i in (*record.objects, *record.parts)])
        evaluator.process(record.image_id, prediction)
    results = evaluator.evaluate()
    for key in ("object/box/AP", "part/box/AP", "object/mask/AP50", "part/mask/AP50", "hierarchy/box/hAP"):
        assert results[key] == pytest.approx(100), key


def test_boxes_alone() -> None:
    evaluator = joint_evaluator(make_records(masks=False))
    assert evaluator.kinds == ("bbox",)


def test_objects_alone() -> None:
    class Objects(Listed):
        vocabulary = Vocabulary(["dog", "person", "cup"])

    records = Objects(ImageRecord(r.file, r.height, r.width, r.image_id, r.objects) for r in make_records())
    evaluator = joint_evaluator(records)
    prediction = predict(records[0], noise=0.0, seed=0)
    evaluator.process(100, prediction)
    assert not any(key.startswith(("part/", "hierarchy/")) for key in evaluator.evaluate())


def test_categories_and_areas() -> None:
    truth = ground_truth_of(make_records())
    assert truth.categories.names == ("dog", "person", "cup", "dog:head", "dog:tail", "person:head")
    assert truth.categories.is_part.tolist() == [False] * 3 + [True] * 3
    assert truth.area[0] == pytest.approx(truth.boxes[0, 2] ** 2, rel=0.2)


def test_one_annotation_without_a_mask_is_told() -> None:
    """It alone is left out where masks are scored, which must not go unseen; its box stands for it."""
    records = make_records()
    first = records[0]
    lost = Instance(first.parts[0].label, first.parts[0].box, None, first.parts[0].parent)
    whole = joint_evaluator(make_records())
    records[0] = replace(first, parts=(lost, *first.parts[1:]))
    evaluator = joint_evaluator(records)
    assert evaluator.kinds == ("bbox", "segm")
    rows = perfect_rows(whole.ground_truth)
    with pytest.warns(UserWarning, match="1 x annotation without a mask; first: row .* it has none"):
        results = feed(evaluator, rows)
    assert results["issues/annotation without a mask"] == 1
    scored = {key: value for key, value in results.items() if key.endswith("AP")}
    assert len(scored) >= 4 and scored == pytest.approx(dict.fromkeys(scored, 100.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing to tell where all or none have one
        assert not any(key.startswith("issues/") for key in feed(joint_evaluator(make_records()), rows))
        assert joint_evaluator(make_records(masks=False)).kinds == ("bbox",)
