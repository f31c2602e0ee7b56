"""A run of the recipe: the library's loop trains, saves, resumes, evaluates; files are scored by the library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import rela
import torch
from rela.cli import main
from rela.recipe import answerer
from rela_helpers import tiny_config
from safetensors.torch import load_file

from partglee.data.referring import build_referring_loader
from partglee.engine.build import build_accelerator, build_trainer
from partglee.engine.expression_step import ExpressionStep
from partglee.engine.recipe import converters, get_recipe
from partglee.structures import ReferringBatch
from partglee.testing import register_toy_referring

register_toy_referring("tiny_referring", size=(64, 64), num_val=3)
RUN = [
    "DATASETS.TRAIN", ["tiny_referring_train"], "DATASETS.TEST", ["tiny_referring_val"], "TEST.BEST", "",
    "SOLVER.MAX_ITER", 4, "SOLVER.EMA_DECAY", 0.9, "SOLVER.ACCUMULATE", 2, "SOLVER.LOG_PERIOD", 1,
    "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.PERIOD", 4, "MODEL.FUSION.PLACE", "memory",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    (folder / "tiny.yaml").write_text(tiny_config([*RUN, "OUTPUT_DIR", str(folder / "out")]).dump(), encoding="utf-8")
    assert main(["train", "--config-file", str(folder / "tiny.yaml"), "--num-gpus", "0"]) == 0
    return folder


def test_it_trains_and_evaluates(run: Path) -> None:
    assert (run / "out" / "model_best.safetensors").is_file() or (run / "out" / "model_final.safetensors").is_file()
    logged = [json.loads(line) for line in (run / "out" / "metrics.jsonl").read_text().splitlines()]
    keys = set().union(*logged)
    assert {"loss/rela/mask", "loss/rela/minimap", "loss/rela/no_target", "loss/rela/dice"} <= keys
    assert any(key.endswith("tiny_referring_val/mask/gIoU") for key in keys)


def test_resuming_is_the_same_run(run: Path, tmp_path: Path) -> None:
    """Stopped after two steps and gone on with: the weights of the uninterrupted run, bit for bit."""
    config = tmp_path / "tiny.yaml"
    config.write_text(tiny_config([*RUN, "OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.TEST", []]).dump())
    common = ["train", "--config-file", str(config), "--num-gpus", "0"]
    assert main([*common, "SOLVER.MAX_ITER", "2", "SOLVER.SCHEDULE", "step"]) == 0
    assert main([*common, "--resume", "SOLVER.SCHEDULE", "step"]) == 0
    whole = tmp_path / "whole"
    assert main([*common, "OUTPUT_DIR", str(whole), "SOLVER.SCHEDULE", "step"]) == 0
    resumed, straight = (sorted((folder / "checkpoints").glob("step_*"))[-1] for folder in (tmp_path / "out", whole))
    assert (resumed.name, straight.name) == ("step_0000004", "step_0000004")
    for file in sorted(straight.glob("*.safetensors")):
        ours, theirs = load_file(resumed / file.name), load_file(file)
        assert set(ours) == set(theirs) and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_evaluation_of_a_weights_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = next((run / "out").glob("model_*.safetensors"))
    arguments = ["eval", "--weights", str(weights), "--dataset", "tiny_referring_val", "--output", str(tmp_path)]
    assert main([*arguments, "--device", "cpu"]) == 0
    assert "tiny_referring_val/mask/gIoU" in capsys.readouterr().out
    lines = [json.loads(line) for line in (tmp_path / "tiny_referring_val.jsonl").read_text().splitlines()]
    assert {"image_id", "expression", "text", "results", "no_target", "no_target_score"} <= set(lines[0])


def test_losses_fall() -> None:
    """Fifteen steps on one batch: a step that does not move its weights, or moves them the wrong way, shows."""
    cfg = tiny_config([*RUN, "SOLVER.ACCUMULATE", 1])
    torch.manual_seed(0)
    step = rela.RELA.build_step(cfg, rela.build_model(cfg).train())
    batch = next(iter(build_referring_loader(cfg)))
    optimizer = torch.optim.Adam(step.parameters(), lr=3e-3)
    losses = []
    for _ in range(15):
        output = step(batch)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(float(output.loss.detach()))
    assert losses[-1] < 0.7 * losses[0]
    assert float(output.terms["total"]) == pytest.approx(sum(float(v) for k, v in output.terms.items() if k != "total"))


def test_a_batch_without_expressions_is_zero() -> None:
    cfg = tiny_config(RUN)
    step = rela.RELA.build_step(cfg, rela.build_model(cfg).train())
    assert isinstance(step, ExpressionStep)
    nothing = torch.zeros(0, dtype=torch.long)
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    batch = ReferringBatch(
        (image,), (64, 64), (), nothing, torch.zeros(0, 64, 64, dtype=torch.bool), nothing.bool(), nothing
    )
    output = step(batch)
    output.loss.backward()
    assert output.loss == 0 and not output.terms


def test_a_sentence_that_cannot_be_read_is_told_with_its_image() -> None:
    cfg = tiny_config(RUN)
    step = rela.RELA.build_step(cfg, rela.build_model(cfg).train())
    batch = next(iter(build_referring_loader(cfg)))
    last = int(batch.image_of[-1])
    files = tuple(f"{row}.jpg" for row in range(len(batch.images)))
    batch = batch._replace(expressions=(*batch.expressions[:-1], "a \ud800 car"), files=files)
    with pytest.raises(ValueError, match=rf"^image '{last}.jpg', sentence 'a \\ud800 car': "):
        step(batch)


def test_weights_of_another_project_are_refused(tmp_path: Path) -> None:
    from partglee.checkpoint import write_weights
    from partglee.engine.build import build_initial_model
    from partglee.engine.weight_files import CONFIG_TEXT

    cfg = tiny_config(["MODEL.WEIGHTS", str(tmp_path / "w.safetensors")])
    state = rela.build_model(tiny_config()).state_dict()
    for recipe, fits in (("unires", False), ("rela", True), ("partglee", True)):
        write_weights(state, tmp_path / "w.safetensors", {CONFIG_TEXT: f"RECIPE: {recipe}"})
        if fits:
            build_initial_model(cfg, recipe=rela.RELA)
            continue
        with pytest.raises(
            ValueError, match=r"w.safetensors is of a model 'unires', .*start from weights of 'rela' or"
        ):
            build_initial_model(cfg, recipe=rela.RELA)


def test_groups_of_the_optimizer(tmp_path: Path) -> None:
    cfg = tiny_config([*RUN, "OUTPUT_DIR", str(tmp_path), "SOLVER.TEXT_MULTIPLIER", 0.5, "DATASETS.TEST", []])
    model = rela.build_model(cfg)
    trainer = build_trainer(cfg, build_accelerator(cfg, cpu=True), recipe=rela.RELA, model=model)
    groups = {group["name"]: group for group in trainer.optimizer.param_groups}
    assert groups["text"]["initial_lr"] == 0.5 * cfg.SOLVER.BASE_LR
    assert groups["backbone"]["initial_lr"] == cfg.SOLVER.BACKBONE_MULTIPLIER * cfg.SOLVER.BASE_LR
    undecayed = {id(p) for name, group in groups.items() if name.endswith("no_decay") for p in group["params"]}
    assert {id(model.region_decoder.content), id(model.region_decoder.position)} <= undecayed
    assert id(model.region_decoder.minimap.weight) not in undecayed
    assert groups["rest_no_decay"]["weight_decay"] == 0 and groups["rest"]["weight_decay"] == 0.05


def test_the_recipe_is_known() -> None:
    assert get_recipe("rela") is rela.RELA and converters()["rela"] is rela.RELA
    assert isinstance(answerer(tiny_config(), rela.build_model(tiny_config())), rela.Predictor)


def test_words_of_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "words.txt"
    assert main(["words", str(target), "--dataset", "tiny_referring_val"]) == 0
    words = target.read_text().splitlines()
    assert main(["words", str(tmp_path / "no" / "words.txt"), "--dataset", "tiny_referring_val"]) == 2
    assert "there is no folder" in capsys.readouterr().err and not (tmp_path / "no").exists()
    assert main(["words", str(target), "--dataset", "tiny_referring_val"]) == 0
    assert "the" in words and "MODEL.TEXT.BERT.NUM_WORDS must be" in capsys.readouterr().out


def test_help_tells_all_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(name in told for name in ("train", "predict", "eval", "convert", "export", "words"))
