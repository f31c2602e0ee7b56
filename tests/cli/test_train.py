"""`partglee train` on toy scenes: train, resume, evaluate, and the mistakes that end before the first step."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from partglee.cli import main
from partglee.engine import run
from partglee.modeling.folding import ready_for_prediction
from partglee.modeling.fused_convolution import FusedConv
from partglee.testing import TOY_VOCABULARY, write_name_table, write_toy_dataset

SMALL = [
    "MODEL.EMBED_DIM", 32, "MODEL.FFN_DIM", 32, "MODEL.NUM_HEADS", 4, "MODEL.EARLY_FUSION.INNER_DIM", 16,
    "MODEL.ENCODER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_LAYERS", 1, "MODEL.PART_DECODER.NUM_LAYERS", 1,
    "MODEL.QFORMER.NUM_LAYERS", 1, "MODEL.OBJECT_DECODER.NUM_QUERIES", 10, "MODEL.OBJECT_DECODER.NUM_PARSED", 4,
    "MODEL.TEXT.TABLE.WIDTH", 16, "MODEL.BACKBONE.NAME", "test_efficientnet", "MODEL.WEIGHTS", "",
    "INPUT.TRAIN.SIZE", [64, 64], "INPUT.TEST.SHORT_SIDE", 64, "INPUT.TEST.MAX_SIDE", 64, "DATALOADER.NUM_WORKERS", 0,
    "SOLVER.LOG_PERIOD", 1, "SOLVER.CHECKPOINT_PERIOD", 2, "TEST.IMAGES", 0, "TEST.DETECTIONS", 20,
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: photos, one annotation file, a table of names."""
    folder = tmp_path_factory.mktemp("my")
    write_toy_dataset(folder / "my_parts", 6, 3, (64, 96))
    names = [*TOY_VOCABULARY.object_prompts, *TOY_VOCABULARY.part_prompts]
    write_name_table(folder / "names.npz", names, width=16)
    return folder


def train(place: Path, output: Path, *more: Any, options: Sequence[str] = ()) -> int:
    """The example of the documentation, made small."""
    images = [
        {"NAME": f"my_parts_{s}", "ANNOTATIONS": str(place / "my_parts" / "annotations.json"),
         "IMAGES": str(place / "my_parts"), "SELECT": select}
        for s, select in (("train", [0.0, 0.7]), ("val", [0.7, 1.0]))
    ]  # fmt: skip
    values = [*SMALL, "DATASETS.CUSTOM", images, "MODEL.TEXT.TABLE.FILE", place / "names.npz", "OUTPUT_DIR", output]
    command = ["train", "--config-file", "finetune_example", "--num-gpus", "0", *options]
    return main([*command, *map(str, [*values, *more])])


def steps(output: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss/total" in line]


def test_train_resume_evaluate(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    assert train(place, one, "SOLVER.MAX_ITER", 4) == 0
    assert (one / "model_best.safetensors").is_file() and (one / "config.yaml").is_file()
    assert "object/box" in capsys.readouterr().out
    # A run that is refused, and an evaluation, leave the configuration of the training alone.
    assert train(place, one, "SOLVER.MAX_ITER", 5) == 2 and "--resume" in capsys.readouterr().err
    best = ["MODEL.WEIGHTS", one / "model_best.safetensors"]
    assert train(place, one, *best, "SOLVER.MAX_ITER", 6, options=["--eval-only"]) == 0
    assert "MAX_ITER: 4\n" in (one / "config.yaml").read_text()
    # Stopped at 2 and resumed: the same images, the same losses.
    assert train(place, two, "SOLVER.MAX_ITER", 2, "DATASETS.TEST", [], "TEST.BEST", "", "SOLVER.SCHEDULE", "step") == 0
    (two / "metrics.jsonl").unlink()
    assert train(place, two, "SOLVER.MAX_ITER", 4, "DATASETS.TEST", [], "TEST.BEST", "", options=["--resume"]) == 0
    assert [s["iteration"] for s in steps(two)] == [3, 4]
    # Weights alone.
    weights = ["MODEL.WEIGHTS", one / "model_final.safetensors"]
    answering: list[nn.Module] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "ready_for_prediction", lambda model: answering.append(model) or ready_for_prediction(model))
        assert train(place, tmp_path / "eval", *weights, options=["--eval-only"]) == 0
    assert any(isinstance(module, FusedConv) for model in answering for module in model.modules())
    assert "object/box" in capsys.readouterr().out
    lines = (tmp_path / "eval" / "predictions" / "my_parts_val.jsonl").read_text().splitlines()
    assert len(lines) == 2
    # Training starts from them, too.
    assert train(place, tmp_path / "more", *weights, "SOLVER.MAX_ITER", 1, "DATASETS.TEST", [], "TEST.BEST", "") == 0


def test_the_loader_goes_on_where_it_was(place: Path, tmp_path: Path) -> None:
    """Bit for bit with the real loader, colour changes and cropping."""
    quiet = ["DATASETS.TEST", [], "TEST.BEST", "", "SOLVER.MAX_ITER", 4, "INPUT.TRAIN.COLOR", 0.3]
    assert train(place, tmp_path / "whole", *quiet) == 0
    assert train(place, tmp_path / "cut", *quiet) == 0
    checkpoints = tmp_path / "cut" / "checkpoints"
    (checkpoints / "step_0000004" / "state.pt").write_bytes(b"broken")
    assert train(place, tmp_path / "cut", *quiet, options=["--resume"]) == 0
    keys = [k for k in steps(tmp_path / "whole")[0] if k.startswith(("loss/", "gradient_norm"))]
    pick = lambda folder: [{k: s[k] for k in ("iteration", *keys)} for s in steps(folder)]  # noqa: E731
    assert pick(tmp_path / "whole") == pick(tmp_path / "cut")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["SOLVER.BASE_RL", 1], "unknown key SOLVER.BASE_RL; the nearest known one is SOLVER.BASE_LR"),
        (["DATASETS.TRAIN", ["my_parts_trian"]], "'my_parts_trian'; did you mean 'my_parts_train'"),
        (["MODEL.WEIGHTS", "lost.safetensors"], "lost.safetensors"),
        (["MODEL.TEXT.TABLE.FILE", "lost.npz"], "lost.npz"),
        (["TEST.BEST", "my_parts_val/part/mask/AP5"], "'my_parts_val/part/mask/AP5' is no metric of its data set; did"),
        (["TEST.PERIOD", -1], "TEST.PERIOD must be at least 0, got -1"),
        (["SOLVER.PRECISION", "bfloat16"], "SOLVER.PRECISION must be no, bf16 or fp16, got 'bfloat16'"),
    ],
)
def test_mistakes_end_before_the_first_step(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[Any], message: str
) -> None:
    assert train(place, tmp_path / "run", *more) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_tool_is_the_command(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import runpy

    monkeypatch.setattr(sys, "argv", ["train_net.py", "--config-file", "tinny"])
    with pytest.raises(SystemExit) as status:
        runpy.run_path(str(root / "tools" / "train_net.py"), run_name="__main__")
    assert status.value.code == 2 and "did you mean tiny" in capsys.readouterr().err
