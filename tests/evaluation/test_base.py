"""The base: printing, resetting, and gathering across processes."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from evaluation_worlds import dataset, feed, image, random_world, rect, result

from partglee.evaluation import (
    CocoEvaluator,
    HierarchicalEvaluator,
    SemanticPartEvaluator,
    build_evaluator,
    format_table,
)


def worker(rank, folder):
    """One of two processes: every other image, and process 1 repeats the first image as samplers do."""
    warnings.simplefilter("ignore")
    from torch import distributed

    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    truth, rows = random_world(5)
    evaluator = CocoEvaluator(ground_truth=truth)
    ids = evaluator.ground_truth.image_ids.tolist()
    results = feed(evaluator, rows, ids[rank::2] + (ids[:1] if rank else []))
    semantic = SemanticPartEvaluator(num_classes=3, base_classes=[0], mode="pred_all")
    rng = np.random.default_rng(0)
    for i in range(4):
        found, annotated = rng.integers(0, 4, (5, 5)), rng.integers(0, 3, (5, 5))
        if i % 2 == rank:
            semantic.process(i, found, annotated)
    parts = semantic.evaluate()
    with open(f"{folder}/{rank}.json", "w") as stream:
        json.dump([results, parts], stream)
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    context = torch.multiprocessing.get_context("fork")  # spawn cannot import a test module
    processes = [context.Process(target=worker, args=(rank, str(tmp_path))) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    truth, rows = random_world(5)
    alone = feed(CocoEvaluator(ground_truth=truth), rows)
    together, parts = json.loads((tmp_path / "0.json").read_text())
    assert json.loads((tmp_path / "1.json").read_text()) == [{}, {}]
    assert together.pop("issues/repeated by the sampler") == 1
    assert together == pytest.approx(alone, nan_ok=True, abs=1e-12)
    semantic = SemanticPartEvaluator(num_classes=3, base_classes=[0], mode="pred_all")
    rng = np.random.default_rng(0)
    for i in range(4):
        semantic.process(i, rng.integers(0, 4, (5, 5)), rng.integers(0, 3, (5, 5)))
    assert parts == pytest.approx(semantic.evaluate(), nan_ok=True)


def test_parents_follow_their_rows_when_processes_merge():
    """The same detections in one state and in two give the same hierarchical numbers."""
    size = (20, 20)
    dog, head = rect(0, 10, 0, 10, size), rect(0, 4, 0, 4, size)
    annotations = [(i, c, s, {"parent_id": 2 * i - 1}) for i in (1, 2) for c, s in ((1, dog), (2, head))]
    truth = dataset(
        [image(1, size), image(2, size)], annotations, [{"id": 1, "name": "dog"}, {"id": 2, "name": "dog:head"}]
    )
    rows = {i: [result(i, 1, dog, 0.9, id=1), result(i, 2, head, 0.8, id=2, parent_id=1)] for i in (1, 2)}
    parts = [HierarchicalEvaluator(ground_truth=truth) for _ in range(2)]
    for i, evaluator in enumerate(parts, start=1):
        evaluator.process(i, rows[i])
    parts[1].process(1, rows[1])  # repeated
    results = parts[0].compute([evaluator.state() for evaluator in parts])
    assert results["segm/hAP"] == pytest.approx(100)
    assert results["segm/num_matched_parts"] == 2
    assert parts[0].issues.counts["repeated by the sampler"] == 1


def test_reset_forgets():
    truth, rows = random_world(2)
    evaluator = CocoEvaluator(ground_truth=truth)
    first = feed(evaluator, rows)
    evaluator.reset()
    assert feed(evaluator, rows) == pytest.approx(first, nan_ok=True)


def test_table():
    rows = {"bbox/AP": 12.3456, "bbox/APr": float("nan"), "segm/AP": 1.0, "segm/APr": 2.0, "num_images": 200.0}
    text = format_table(rows)
    assert text.split() == ["AP", "APr", "bbox", "12.346", "-", "segm", "1.000", "2.000", "num_images", "200"]
    assert len(text.splitlines()) == 5  # one head for bbox and segm, one for the rest


def test_by_name():
    truth, _ = random_world(2)
    assert isinstance(build_evaluator("coco", ground_truth=truth, kinds=("bbox",)), CocoEvaluator)
    with pytest.raises(ValueError, match="there is no evaluator 'voc'; there are coco"):
        build_evaluator("voc")
