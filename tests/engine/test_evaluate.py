"""Evaluation of a training run: files, numbers, best weights, pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import run_small, small_config

from partglee.checkpoint import read_metadata, read_weights
from partglee.config import load_config
from partglee.data.build import build_test_loader
from partglee.data.catalog import get_dataset
from partglee.data.spec import DatasetSpec
from partglee.engine import Predictor
from partglee.engine.build import build_accelerator, build_initial_model
from partglee.engine.evaluate import evaluate
from partglee.engine.hooks import best_metric
from partglee.engine.partglee_answers import partglee_answerer
from partglee.engine.partglee_recipe import PARTGLEE
from partglee.engine.pretrained import load_pretrained
from partglee.evaluation import CocoEvaluator, LvisEvaluator, dataset_evaluator
from partglee.evaluation.protocols import metric_names
from partglee.structures import Level, Prediction
from partglee.testing import TOY_VOCABULARY, register_toy, write_name_table


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes on the disk, and a table of their names."""
    folder = tmp_path_factory.mktemp("evaluate")
    register_toy("toy_evaluate", num_images=3, seed=1, size=(64, 96), folder=folder)
    prompts = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts, "dog", "person", "cat", "dog head"]
    prompts += ["dog tail", "person arm", "person lower leg"]
    write_name_table(folder / "names.npz", list(dict.fromkeys(prompts)), width=16)
    return folder


def config(place: Path, output: Path, *overrides: Any) -> Any:
    size = ["INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 96]
    return small_config(place, ["DATASETS.TEST", ["toy_evaluate"], *size, "OUTPUT_DIR", output, *overrides])


def perfect(record: Any) -> Prediction:
    from partglee.data.segmentation import decode

    rows = [*record.objects, *record.parts]
    names = [TOY_VOCABULARY.object_names[o.label] for o in record.objects]
    names += [TOY_VOCABULARY.part_names[p.label] for p in record.parts]
    return Prediction(
        boxes=torch.tensor([i.box for i in rows]), scores=torch.ones(len(rows)), names=names,
        labels=torch.tensor([i.label for i in rows]), parent=torch.tensor([i.parent for i in rows]),
        level=torch.tensor([Level.OBJECT] * len(record.objects) + [Level.PART] * len(record.parts)),
        masks=torch.stack([torch.from_numpy(decode(i.segmentation, record.height, record.width)) for i in rows]),
        image_size=(record.height, record.width),
    )  # fmt: skip


def test_perfect_predictions_score_100(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the file and back: ids, names, masks and parents arrive."""
    cfg = config(place, tmp_path)
    truth = iter([record for record, _ in build_test_loader(cfg, "toy_evaluate")])
    monkeypatch.setattr(
        Predictor, "predict_batch", lambda self, images, names, options: (perfect(next(truth)) for _ in images)
    )
    accelerator = build_accelerator(cfg, cpu=True)
    results, _ = evaluate(cfg, build_initial_model(cfg), accelerator, answerer=partglee_answerer, folder=tmp_path)
    rates = {k: v for k, v in results.items() if "num_" not in k}
    assert len(rates) == 24 and all(v == pytest.approx(100) for v in rates.values()), rates
    lines = [json.loads(line) for line in (tmp_path / "toy_evaluate.jsonl").read_text().splitlines()]
    assert [line["image_id"] for line in lines] == [1, 2, 3] and lines[0]["file_name"].endswith(".jpg")


def test_evaluation_while_training(place: Path, tmp_path: Path) -> None:
    cfg = config(
        place, tmp_path, "TEST.PERIOD", 2, "SOLVER.EMA_DECAY", 0.5, "TEST.IMAGES", 1,
        "TEST.BEST", "toy_evaluate/object/box/AP", "TEST.DETECTIONS", 20,
    )  # fmt: skip
    trainer = run_small(cfg)
    assert trainer.step.training
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if any(k.startswith("eval/") for k in line)]
    assert [line["iteration"] for line in evaluations] == [2, 4]
    for key in ("object/box/AP", "part/mask/AP50", "hierarchy/box/hAP"):
        assert f"eval/toy_evaluate/{key}" in evaluations[0] and f"eval/ema/toy_evaluate/{key}" in evaluations[0]
    found = {key.removeprefix("eval/toy_evaluate/") for key in evaluations[0] if key.startswith("eval/toy_evaluate/")}
    spec = get_dataset("toy_evaluate")
    assert found <= set(metric_names(spec, spec.read()))  # what TEST.BEST is checked against before the first step
    assert (tmp_path / "predictions" / "toy_evaluate.jsonl").is_file()
    assert (tmp_path / "predictions" / "ema" / "toy_evaluate.jsonl").is_file()
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(tmp_path), size_guidance={"images": 0}).Reload()
    tags = board.Tags()
    assert "loss/total" in tags["scalars"] and "rate/rest" in tags["scalars"]
    assert len([t for t in tags["images"] if t.startswith("toy_evaluate/")]) == 1
    # The final weights know their configuration.
    final, _ = load_pretrained(tmp_path / "model_final.safetensors", device="cpu")
    ours = trainer.model.state_dict()
    assert all(torch.equal(ours[k], v) for k, v in final.state_dict().items())
    averaged = read_weights(tmp_path / "model_final_ema.safetensors")
    assert any(not torch.equal(ours[k], averaged[k]) for k in averaged)


def test_the_best_stays(place: Path, tmp_path: Path) -> None:
    """Raw and averaged weights compete; a later, worse evaluation changes nothing, also after resuming."""
    key = "toy_evaluate/part/mask/AP50"
    scores = iter([10.0, 30.0, 20.0, 20.0])  # raw, averaged, raw, averaged

    def fake(*args: Any, **options: Any) -> tuple[dict[str, float], dict[str, Any]]:
        return {"toy_evaluate/object/box/AP": 1.0, key: next(scores)}, {}

    recipe = replace(PARTGLEE, evaluate=fake)
    overrides = ["TEST.PERIOD", 2, "SOLVER.EMA_DECAY", 0.5, "TEST.BEST", key]
    cfg = config(place, tmp_path, *overrides)
    run_small(cfg, recipe=recipe)
    file = tmp_path / "model_best.safetensors"
    metadata = read_metadata(file)
    assert (metadata["metric"], metadata["value"], metadata["iteration"]) == (key, "30.0", "2")
    assert metadata["averaged"] == "True"
    kept = read_weights(tmp_path / "checkpoints" / "step_0000002" / "ema.safetensors")
    best = read_weights(file)
    assert all(torch.equal(best[k], v) for k, v in kept.items())
    scores = iter([29.0, 29.5])
    run_small(config(place, tmp_path, *overrides, "SOLVER.MAX_ITER", 5), resume=True, recipe=recipe)
    assert read_metadata(file)["iteration"] == "2"
    scores = iter([31.0, 29.5])
    run_small(config(place, tmp_path, *overrides, "SOLVER.MAX_ITER", 5), resume=True, recipe=recipe)
    assert read_metadata(file)["value"] == "31.0" and read_metadata(file)["averaged"] == "False"


def test_which_metric_is_best(caplog: pytest.LogCaptureFixture) -> None:
    results = {"a/issues/x": 1.0, "a/hierarchy/box/num_matched_parts": 1.0, "a/box/AP": 5.0, "ema/a/box/AP": 6.0}
    assert best_metric("", results) == "a/box/AP"
    assert best_metric("a/hierarchy/box/num_matched_parts", results) == "a/hierarchy/box/num_matched_parts"
    assert best_metric("a/box/AP50", results) == "a/box/AP"
    assert best_metric("", {}) is None


def test_evaluators_of_data_sets(place: Path, tmp_path: Path) -> None:
    spec = get_dataset("toy_evaluate")
    records = spec.read()
    assert isinstance(dataset_evaluator(replace(spec, evaluator="lvis"), records), LvisEvaluator)
    for name in ("", "joint"):
        assert dataset_evaluator(replace(spec, evaluator=name), records).name == "objects and parts"
    assert spec.evaluator == "joint"
    assert dataset_evaluator(replace(spec, evaluator="hierarchical"), records).name == "hierarchical"
    assert type(dataset_evaluator(replace(spec, evaluator="coco"), records)) is CocoEvaluator
    with pytest.raises(ValueError, match="'referring', which takes no detections"):
        dataset_evaluator(replace(spec, evaluator="referring"), records)
    with pytest.raises(ValueError, match="no evaluator 'cocoo'"):
        dataset_evaluator(replace(spec, evaluator="cocoo"), records)
    assert isinstance(spec, DatasetSpec) and load_config("tiny").TEST.DETECTIONS == 300
