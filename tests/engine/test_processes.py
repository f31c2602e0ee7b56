"""Two processes with an image each take the step that one process takes with both."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from fvcore.common.config import CfgNode as CN
from torch import distributed as dist
from training_samples import make_batch, small_config

from partglee.checkpoint import read_weights
from partglee.engine.build import build_accelerator, build_initial_model, build_trainer
from partglee.engine.failures import NonFiniteLoss
from partglee.engine.launch import _child, launch, spawn
from partglee.engine.trainer import endless
from partglee.structures import HierarchicalTargets, TrainingBatch
from partglee.testing import fill_weights

# Denoising and the points of the masks are random in each process; targets here have no masks.
EXACT = ["MODEL.DENOISING.NUM_QUERIES", 0, "SOLVER.MAX_ITER", 2]


def joined(counts: tuple[tuple[int, int], ...]) -> TrainingBatch:
    batch = make_batch(3, counts=counts)
    targets = [
        HierarchicalTargets(*(type(x)(x.labels, x.boxes) for x in (t.objects, t.parts)), t.part_parent)
        for t in batch.targets
    ]
    return batch._replace(targets=tuple(targets))


def share(batch: TrainingBatch, rank: int) -> TrainingBatch:
    rows = slice(rank, rank + 1)
    return batch._replace(images=batch.images[rows], targets=batch.targets[rows], files=batch.files[rows])


CASES = {
    "no parts in one": joined(((2, 3), (1, 0))),
    "one without targets": joined(((2, 2), (0, 0))),
}


def work(folder: str) -> int:
    """Gradients of the first step, and the weights after the second, of this process's image."""
    torch.set_num_threads(1)
    for name in CASES:
        rank = int(os.environ["RANK"])
        found = two_steps(Path(folder), name, share(CASES[name], rank), Path(folder) / f"{name} {rank}")
        if rank == 0:
            torch.save(found, Path(folder) / f"{name}.pt")
    spread(Path(folder), share(CASES["one without targets"], rank))
    break_second(Path(folder), rank)
    return 0


def break_second(folder: Path, rank: int) -> None:
    """A loss that is no number and an unreadable image in the second process, and output folders that are not one."""
    cfg = small_config(folder, [*EXACT, "OUTPUT_DIR", folder / "broken"])
    batch = share(CASES["no parts in one"], rank)._replace(unreadable=(("lost.jpg", "cut off"),) * rank)
    trainer = build_trainer(cfg, join(cfg), endless([batch]), model=fill_weights(build_initial_model(cfg)))
    if rank == 1:
        with torch.no_grad():
            trainer.model.object_decoder.heads.box_mlp.layers[-1].bias.fill_(float("nan"))
    try:
        trainer.run_step(iter(endless([batch])(0)))
    except NonFiniteLoss as error:
        (folder / f"broken {rank}.txt").write_text(str(error))
    (folder / f"unreadable {rank}.json").write_text(json.dumps(trainer.unreadable.reasons))
    # A folder that the machines do not share: the first has a checkpoint, the second has none.
    cfg.OUTPUT_DIR = str(folder / f"own {rank}")
    if rank == 0:
        (folder / "own 0" / "checkpoints" / "step_0000002").mkdir(parents=True)
    try:
        build_trainer(cfg, join(cfg), endless([batch]), model=trainer.model, resume=True)
    except ValueError as error:
        (folder / f"own {rank}.txt").write_text(str(error))


def join(cfg: CN) -> Accelerator:
    """As the command line does it, which leaves the choice of the CPU to the machine; GPUs are left alone."""
    return build_accelerator(cfg, cpu=torch.cuda.is_available() or "WORLD_SIZE" not in os.environ)


def spread(folder: Path, batch: TrainingBatch) -> None:
    """A step with spread weights, and a second after resuming."""
    output = ["OUTPUT_DIR", folder / "spread", "SOLVER.SHARDED", True]
    for steps in (1, 2):
        cfg = small_config(folder, [*EXACT, *output, "SOLVER.MAX_ITER", steps])
        accelerator = join(cfg)
        model = fill_weights(build_initial_model(cfg))
        build_trainer(cfg, accelerator, endless([batch]), model=model, resume=steps == 2).train()


def two_steps(folder: Path, name: str, batch: TrainingBatch, output: Path) -> list[dict[str, torch.Tensor]]:
    cfg = small_config(folder, [*EXACT, "OUTPUT_DIR", output])
    accelerator = join(cfg)
    # Fresh box heads predict one box for all parts, so that matches are ties.
    model = fill_weights(build_initial_model(cfg))
    trainer = build_trainer(cfg, accelerator, endless([batch]), model=model)
    step, gradients = trainer.optimizer.step, {}

    def watch() -> None:
        gradients.update({n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None})
        step()

    trainer.optimizer.step = watch
    stream = iter(endless([batch])(0))
    trainer.run_step(stream)
    first = dict(gradients)
    trainer.optimizer.step = step
    trainer.run_step(stream)
    return [first, {n: p.detach().clone() for n, p in trainer.model.named_parameters()}]


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_two_processes_take_the_step_of_one(tmp_path: Path) -> None:
    small_config(tmp_path)  # writes the table
    assert spawn(work, (str(tmp_path),), num_processes=2) == 0
    for name, batch in CASES.items():
        alone = two_steps(tmp_path, name, batch, tmp_path / f"{name} alone")
        together = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert alone[0].keys() == together[0].keys() and len(alone[0]) > 50, name
        for key, gradient in alone[0].items():
            torch.testing.assert_close(together[0][key], gradient, atol=1e-4, rtol=1e-3, msg=f"{name} {key}")
        assert sum(float(g.abs().sum()) for g in alone[0].values()) > 1
    compare_spread(tmp_path)
    said = (tmp_path / "broken 0.txt").read_text()
    assert "image_3_1.jpg" in said and "image_3_0.jpg" not in said and "gradients" not in said
    assert "image_3_1.jpg" in (tmp_path / "broken 1.txt").read_text()
    found = [json.loads((tmp_path / f"unreadable {rank}.json").read_text()) for rank in (0, 1)]
    assert found == [{"lost.jpg": "cut off"}] * 2  # all processes count what one has met
    assert all("all machines share" in (tmp_path / f"own {rank}.txt").read_text() for rank in (0, 1))
    assert [file.name for file in (tmp_path / "broken").glob("*.pt")] == ["non_finite_0000000_1.pt"]


def compare_spread(folder: Path) -> None:
    """Spread weights, saved, resumed and saved again, are those of one process."""
    cfg = small_config(folder, [*EXACT, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", folder / "whole"])
    model = fill_weights(build_initial_model(cfg))
    batches = endless([CASES["one without targets"]])
    build_trainer(cfg, build_accelerator(cfg, cpu=True), batches, model=model).train()
    expected, found = (read_weights(folder / name / "model_final.safetensors") for name in ("whole", "spread"))
    assert expected.keys() == found.keys()
    for key, value in expected.items():
        # In front of a norm, a bias has no gradient but rounding errors, which Adam makes steps of.
        if not (key.startswith("pixel_decoder.input_proj.") and key.endswith("conv.bias")):
            torch.testing.assert_close(found[key], value, atol=3e-4, rtol=1e-3, msg=key)
    norms = [json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[1]) for name in ("whole", "spread")]
    assert norms[0]["gradient_norm"] == pytest.approx(norms[1]["gradient_norm"], rel=1e-2)
    # The mean of what the processes minimise is what one process minimises.
    assert norms[0]["loss/total"] == pytest.approx(norms[1]["loss/total"], rel=1e-2)


def fail(kind: str) -> int:
    if kind == "raise":
        raise ValueError("what the user did wrong")
    return 3


@pytest.mark.parametrize(("rank", "said"), [(0, 1), (1, 0)])
def test_mistakes_are_told_once(
    rank: int, said: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as error:
        _child(rank, fail, ("raise",), 2, 29500)
    assert error.value.code == 2 and capsys.readouterr().err.count("what the user did wrong") == said


def test_processes_that_do_not_join_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = small_config(tmp_path)
    build_accelerator(cfg, cpu=True)  # this process is alone from now on
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="started 3 processes, but 1 found each other"):
        build_accelerator(cfg, cpu=True)


def test_launch_in_this_process() -> None:
    assert launch(fail, ("status",)) == 3


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(ValueError, match=r"--num-gpus 99.*torchrun"):
        launch(fail, ("status",), num_gpus=99)
