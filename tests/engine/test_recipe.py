"""A model of another kind gets the whole training of the library from a recipe alone."""

from __future__ import annotations

import json
import os
import pickle
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from second_model import RECIPE, Coverage, CoverageStep

from partglee.checkpoint import read_metadata, read_weights
from partglee.cli import main
from partglee.config import load_config
from partglee.engine import Predictor
from partglee.engine.failures import NonFiniteLoss
from partglee.engine.launch import spawn
from partglee.engine.optimizer import parameter_groups
from partglee.engine.recipe import Recipe, get_recipe, register_recipe
from partglee.engine.run import run, work
from partglee.engine.step import StepOutput
from partglee.engine.trainer import endless
from partglee.testing import register_toy

VALUES = """
RECIPE: coverage
DATASETS: {TRAIN: [toy_recipe], TEST: [toy_recipe]}
INPUT: {TRAIN: {SIZE: [32, 48]}}
DATALOADER: {NUM_WORKERS: 0}
SOLVER: {BATCH_SIZE: 4, ACCUMULATE: 2, MAX_ITER: 5, CHECKPOINT_PERIOD: 2, LOG_PERIOD: 1, EMA_DECAY: 0.9, BASE_LR: 0.01}
TEST: {PERIOD: 2, BEST: toy_recipe/right}
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scenes, and the configuration of a project."""
    folder = tmp_path_factory.mktemp("project")
    register_toy("toy_recipe", num_images=4, seed=2, size=(32, 48), folder=folder)
    (folder / "coverage.yaml").write_text(VALUES)
    return folder


def train(place: Path, output: Path, *more: Any, recipe: Recipe = RECIPE, **options: Any) -> int:
    values = ["OUTPUT_DIR", output, *more]
    return run(recipe, config_file=place / "coverage.yaml", overrides=values, num_gpus=0, **options)


def lines(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def losses(output: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if k.startswith(("loss/", "gradient"))} for line in lines(output)]


class StopAfterThree(CoverageStep):
    """Its seventh pass, the first of the fourth step, is interrupted."""

    passes = 0

    def forward(self, batch: Any) -> Any:
        self.passes += 1
        if self.passes > 6:
            raise KeyboardInterrupt
        return super().forward(batch)


def test_train_evaluate_and_resume_bit_for_bit(place: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(place, whole) == 0
    with pytest.raises(KeyboardInterrupt):
        train(place, cut, recipe=replace(RECIPE, build_step=lambda cfg, model: StopAfterThree(model)))
    assert max(line["iteration"] for line in lines(cut)) == 3
    torch.manual_seed(99)
    assert train(place, cut, resume=True) == 0
    assert losses(whole) == losses(cut) and len([x for x in losses(whole) if "loss/coverage/square" in x]) == 5
    for name in ("model_final", "model_final_ema", "model_best"):
        one, two = (read_weights(folder / f"{name}.safetensors") for folder in (whole, cut))
        assert all(torch.equal(one[key], two[key]) for key in one) and set(one) == set(Coverage(width=4).state_dict())
    evaluated = [line for line in lines(whole) if "eval/toy_recipe/right" in line]
    assert [line["iteration"] for line in evaluated] == [2, 4, 5]
    assert all(line["eval/toy_recipe/right"] != line["eval/ema/toy_recipe/right"] for line in evaluated)
    assert len(json.loads((whole / "predictions" / "ema" / "toy_recipe.json").read_text())) == 4
    assert "RECIPE: coverage" in read_metadata(whole / "model_best.safetensors")["partglee_config_text"]
    # The weights are evaluated by a run of their own, with the same number.
    best = ["MODEL.WEIGHTS", whole / "model_final.safetensors"]
    assert train(place, tmp_path / "eval", *best, eval_only=True) == 0
    again, first = (folder / "predictions" / "toy_recipe.json" for folder in (tmp_path / "eval", whole))
    assert again.read_bytes() == first.read_bytes()


def processes(config: Path, folder: Path, precision: str, kinds: tuple[bool, ...]) -> int:
    """What each of some processes does: three steps, data-parallel or sharded."""
    torch.set_num_threads(1)
    register_toy("toy_recipe", num_images=4, seed=2, size=(32, 48))
    quiet = ["DATASETS.TEST", [], "TEST.BEST", "", "SOLVER.EMA_DECAY", 0.0, "SOLVER.ACCUMULATE", 1]
    quiet += ["SOLVER.MAX_ITER", 3]
    for sharded in kinds:
        place = ["OUTPUT_DIR", folder / str(sharded), "SOLVER.SHARDED", sharded, "SOLVER.PRECISION", precision]
        work(RECIPE, load_config(config, [*quiet, *place], defaults=RECIPE.defaults), False, False, on_the_cpu())
    return 0


def on_the_cpu() -> bool:
    """The command line leaves the choice to the machine; here GPUs are left alone."""
    return torch.cuda.is_available() or os.environ["WORLD_SIZE"] == "1"


@pytest.mark.slow  # precision belongs to a process, and a new one takes its time
def test_bfloat16(place: Path, tmp_path: Path) -> None:
    assert spawn(processes, (place / "coverage.yaml", tmp_path, "bf16", (False,)), num_processes=1) == 0
    weights = read_weights(tmp_path / "False" / "model_final.safetensors")
    assert all(weight.dtype == torch.float32 for key, weight in weights.items() if "num_batches" not in key)
    assert lines(tmp_path / "False")[-1]["iteration"] == 3


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch was built without distributed")
def test_two_processes_average_or_share_the_weights(place: Path, tmp_path: Path) -> None:
    """Data-parallel and sharded, the second with a model that has no `shard_units`, take the same steps."""
    assert spawn(processes, (place / "coverage.yaml", tmp_path, "no", (False, True)), num_processes=2) == 0
    one, two = (read_weights(tmp_path / name / "model_final.safetensors") for name in ("False", "True"))
    assert not torch.equal(one["head.weight"], torch.zeros(1, 4))
    for key in one:
        if "running" not in key:  # batch norms count their own images
            torch.testing.assert_close(two[key], one[key], atol=1e-5, rtol=1e-4, msg=key)


def test_which_weights_decay() -> None:
    """Norms, biases and what the recipe calls an embedding do not; the backbone has its own rate."""
    model = Coverage(width=4)
    cfg = RECIPE.defaults()
    groups = parameter_groups(
        model, base_lr=1.0, weight_decay=0.1, group_of=partial(RECIPE.group_of, cfg), embeddings=RECIPE.embeddings,
        norm_decay=False,
    )  # fmt: skip
    names = {id(p): n for n, p in model.named_parameters()}
    found = {g["name"]: ({names[id(p)] for p in g["params"]}, g["lr"]) for g in groups}
    assert found == {
        "backbone": ({"backbone.0.weight"}, 0.1),
        "backbone_no_decay": ({"backbone.0.bias", "backbone.1.weight", "backbone.1.bias"}, 0.1),
        "rest": ({"head.weight"}, 1.0),
        "rest_no_decay": ({"place", "head.bias"}, 1.0),
    }


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["MODEL.WIDTH", 0], "MODEL.WIDTH must be at least 1, got 0"),
        (["MODEL.WIDHT", 5], "unknown key MODEL.WIDHT; the nearest known one is MODEL.WIDTH"),
        (["TEST.BEST", "toy_recipe/rigth"], "'toy_recipe/rigth' is no metric .*; did you mean 'toy_recipe/right'"),
        (["SOLVER.BATCH_SIZE", 3], "must be a multiple of 2"),
        (["MODEL.WEIGHTS", "lost.safetensors"], "lost.safetensors"),
    ],
)
def test_mistakes_are_told_before_the_first_step(place: Path, tmp_path: Path, more: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        train(place, tmp_path, *more)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_recipe_without_evaluation(place: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'coverage' has no evaluation; set DATASETS\.TEST \[\]"):
        train(place, tmp_path, recipe=replace(RECIPE, evaluate=None))


def test_by_the_command_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The configuration names the recipe, --import its module; terms are logged by the first part of their path."""
    command = ["train", "--import", "second_model", "--config-file", str(place / "coverage.yaml"), "--num-gpus", "0"]
    assert main([*command, "OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", "1"]) == 0
    assert re.search(r"1/1 eta .* \| loss [\d.]+ \| coverage: square [\d.]+ \| step ", capsys.readouterr().out)
    assert "coverage" in (tmp_path / "config.yaml").read_text()
    final = read_weights(tmp_path / "model_final.safetensors")
    torch.save({f"net.{key}": value for key, value in final.items()}, tmp_path / "released.pth")
    files = [str(tmp_path / "released.pth"), str(tmp_path / "converted.safetensors")]
    assert main(["convert", "--from", "netcov", "--config-file", str(place / "coverage.yaml"), *files]) == 0
    assert "coverage.yaml: every parameter is there" in capsys.readouterr().out
    assert main([*command, "--eval-only", "OUTPUT_DIR", str(tmp_path / "eval"), "MODEL.WEIGHTS", files[1]]) == 0
    with pytest.raises(ValueError, match=r"is for the recipe 'coverage', not for 'partglee'"):
        Predictor.from_pretrained(files[1])
    assert main(["convert", "--from", "netcoff", *files]) == 2
    assert "no recipe converts it; did you mean 'netcov'" in capsys.readouterr().err


def test_a_batch_of_another_kind_is_dumped_field_by_field(place: Path, tmp_path: Path) -> None:
    class Pairs(NamedTuple):
        left: torch.Tensor
        right: Any
        source: str = "pairs"
        files: tuple[str, ...] = ("a.jpg",)
        unreadable: tuple[tuple[str, str], ...] = ()

    class Broken(torch.nn.Module):
        def __init__(self, model: Coverage) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Pairs) -> StepOutput:
            loss = self.model(batch.left).sum() * float("nan")
            return StepOutput(loss, {"total": loss.detach()})

    left = torch.rand(1, 3, 16, 16)
    batches = endless([Pairs(left, {"size": (2, 3), "where": Path("x")})])
    broken = replace(
        RECIPE, build_step=lambda cfg, model: Broken(model), train_batches=lambda cfg, accelerator, data: batches
    )
    with pytest.raises(NonFiniteLoss, match=r"a batch of pairs .*images: a\.jpg"):
        train(place, tmp_path, recipe=broken)
    (dumped,) = torch.load(tmp_path / "non_finite_0000000_0.pt", weights_only=True)["batches"][:1]
    assert torch.equal(dumped["left"], left) and dumped["files"] == ("a.jpg",)
    assert dumped["right"] == {"size": (2, 3), "where": repr(Path("x"))}


def test_recipes_travel_to_other_processes() -> None:
    for recipe in (RECIPE, get_recipe("partglee")):
        assert pickle.loads(pickle.dumps(recipe)).build_step is recipe.build_step


def blocks(source: str) -> set[tuple[str, ...]]:
    """Any four lines that follow each other, without imports, comments and lone brackets."""
    lines = [line.strip() for line in source.splitlines()]
    own = [line for line in lines if len(line) > 1 and not line.startswith(("import ", "from ", "#"))]
    return {tuple(own[i : i + 4]) for i in range(len(own) - 3)}


def test_a_model_needs_no_line_of_the_library(root: Path) -> None:
    library = {file: blocks(file.read_text(encoding="utf-8")) for file in (root / "partglee").rglob("*.py")}
    source = (root / "tests" / "engine" / "second_model.py").read_text(encoding="utf-8")
    assert not [file for file, theirs in library.items() if theirs & blocks(source)]
    # The check can fail.
    trainer = root / "partglee" / "engine" / "trainer.py"
    stolen = "\n".join(trainer.read_text(encoding="utf-8").splitlines()[-8:])
    assert trainer in [file for file, theirs in library.items() if theirs & blocks(f"{source}\n{stolen}")]


def test_recipes_by_name() -> None:
    assert get_recipe("partglee").name == "partglee"
    with pytest.raises(ValueError, match=r"unknown recipe 'partgle'; did you mean 'partglee'.*--import PROJECT"):
        get_recipe("partgle")
    with pytest.raises(ValueError, match="'partglee' is registered already"):
        register_recipe(replace(RECIPE, name="partglee"))
    with pytest.raises(ValueError, match="defaults of recipe 'other' must set RECIPE to its name, got 'coverage'"):
        register_recipe(replace(RECIPE, name="other"))
