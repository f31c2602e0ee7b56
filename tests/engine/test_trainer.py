"""Steps that cannot be taken, accumulated passes, and what the log says."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from training_samples import OBJECTS, losses, make_batch, run_small, small_config

from partglee.engine.build import build_accelerator, build_initial_model, build_trainer
from partglee.engine.failures import NonFiniteLoss
from partglee.engine.trainer import Hook, Trainer, endless, seed_step
from partglee.structures import BatchNames, LevelSupervision, Supervision, TrainingBatch


class BreakLoss(Hook):
    """From one step on, a weight is not a number, or is put right again."""

    def __init__(self, steps: tuple[int, ...]) -> None:
        self.steps = steps
        self.warnings: list[str] = []

    def before_train(self, trainer: Trainer) -> None:
        self._set(trainer)

    def after_step(self, trainer: Trainer) -> None:
        self._set(trainer)

    def _set(self, trainer: Trainer) -> None:
        bias = trainer.model.object_decoder.heads.mask_mlp.layers[-1].bias
        with torch.no_grad():
            bias.fill_(float("nan") if trainer.iteration in self.steps else 0.0)

    def on_warning(self, message: str) -> None:
        self.warnings.append(message)


def nothing() -> TrainingBatch:
    """Images without targets on an unlabelled background."""
    open_level = LevelSupervision(background=(False, False))
    return make_batch(counts=((0, 0), (0, 0)))._replace(supervision=Supervision(open_level, open_level))


def test_a_non_finite_loss_stops_with_the_images(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLoss, match=r"step 1: .* toy1 \(terms: .*object/mask.*image_1_0\.jpg, image_1_1\.jpg"):
        run_small(small_config(tmp_path), hooks=[BreakLoss((1,))])
    dump = torch.load(tmp_path / "run" / "non_finite_0000001_0.pt", weights_only=True)
    batch = make_batch(1)
    assert dump["iteration"] == 1 and dump["batches"][0]["files"] == list(batch.files)
    assert torch.equal(dump["batches"][0]["images"][1], batch.images[1])
    assert torch.equal(dump["batches"][0]["targets"][0]["parts"][1], batch.targets[0].parts.boxes)


def test_some_non_finite_losses_are_skipped(tmp_path: Path) -> None:
    cfg = small_config(tmp_path, ["SOLVER.MAX_NON_FINITE", 1])
    hook = BreakLoss((1,))
    trainer = run_small(cfg, hooks=[hook])
    assert trainer.iteration == 4 and trainer.counts == {"non-finite": 1}
    assert len(hook.warnings) == 1 and "image_1_0.jpg" in hook.warnings[0]
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    lines = losses(tmp_path)
    assert "loss/total" not in lines[2] and "loss/total" in lines[3]
    (tmp_path / "two").mkdir()
    with pytest.raises(NonFiniteLoss):
        run_small(small_config(tmp_path / "two", ["SOLVER.MAX_NON_FINITE", 1]), hooks=[BreakLoss((1, 3))])


class BreakGradient(Hook):
    """In the second step a gradient is not a number, though the losses are."""

    def before_train(self, trainer: Trainer) -> None:
        weight = trainer.model.object_decoder.heads.mask_mlp.layers[-1].weight
        weight.register_hook(lambda grad: grad * float("nan") if trainer.iteration == 1 else None)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_non_finite_gradient_never_reaches_the_weights(tmp_path: Path, clip: float) -> None:
    cfg = small_config(tmp_path, ["SOLVER.CLIP_GRADIENTS", clip, "SOLVER.MAX_NON_FINITE", 1])
    hook = BreakLoss(())
    trainer = run_small(cfg, hooks=[BreakGradient(), hook])
    assert trainer.counts == {"non-finite": 1} and trainer.iteration == 4
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert "step 1: " in hook.warnings[0] and "all losses are finite, the gradients are not" in hook.warnings[0]
    norms = [line.get("gradient_norm") for line in losses(tmp_path).values()]
    assert norms[1] is None and all(norm > 0 for norm in (norms[0], *norms[2:]))


def test_the_gradient_norm_is_known_without_clipping(tmp_path: Path) -> None:
    found = []
    for clip in (0.0, 1e9):
        cfg = small_config(tmp_path, ["SOLVER.CLIP_GRADIENTS", clip, "OUTPUT_DIR", tmp_path / str(clip)])
        trainer = build_trainer(cfg, build_accelerator(cfg, cpu=True), endless([make_batch(0)]))
        found.append(trainer.run_step(iter(endless([make_batch(0)])(0))).gradient_norm)
    assert found[0] == found[1] > 0


def test_a_batch_without_supervision_is_skipped(tmp_path: Path) -> None:
    seen = {}

    class Watch(Hook):
        def after_step(self, trainer: Trainer) -> None:
            seen[trainer.iteration] = [p.detach().clone() for p in trainer.model.parameters()], trainer.record.skipped

    trainer = run_small(small_config(tmp_path), [make_batch(0), nothing()], hooks=[Watch()])
    assert trainer.counts == {"nothing supervised": 2}
    assert [seen[i][1] for i in (1, 2, 3, 4)] == ["", "nothing supervised"] * 2
    assert all(torch.equal(a, b) for a, b in zip(seen[1][0], seen[2][0], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(seen[2][0], seen[3][0], strict=True))


def test_object_data_leaves_the_part_branch_alone(tmp_path: Path) -> None:
    batch = make_batch(counts=((2, 0), (1, 0)))._replace(names=BatchNames(OBJECTS))
    cfg = small_config(tmp_path, ["SOLVER.MAX_ITER", 1])
    before = build_initial_model(cfg).state_dict()
    after = run_small(cfg, [batch]).model.state_dict()
    changed = {k.split(".")[0] for k in before if not torch.equal(before[k], after[k])}
    assert "object_decoder" in changed and not changed & {"qformer", "part_decoder"}


def test_accumulated_passes_average_their_gradients(tmp_path: Path) -> None:
    """Against the two passes taken by hand."""
    batches = [make_batch(0), make_batch(1)]
    cfg = small_config(tmp_path, ["SOLVER.ACCUMULATE", 2, "MODEL.DENOISING.NUM_QUERIES", 0])
    trainer = build_trainer(cfg, build_accelerator(cfg, cpu=True), endless(batches, accumulate=2))
    found: list[torch.Tensor] = []
    trainer.optimizer.step = lambda: found.extend(p.grad.clone() for p in trained if p.grad is not None)
    trainer.clip = 0
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    record = trainer.run_step(iter(batches))
    assert record.sources == ("toy0", "toy1")
    seed_step(cfg.SOLVER.SEED, 0, 0)
    outputs = [trainer.step(batch) for batch in batches]
    sum(o.loss / 2 for o in outputs).backward()
    expected = [p.grad for p in trained if p.grad is not None]
    assert len(found) == len(expected) > 50
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    total = sum(o.terms["total"] for o in outputs) / 2
    torch.testing.assert_close(record.terms["total"], total)


def test_a_loader_that_ends_is_told(tmp_path: Path) -> None:
    cfg = small_config(tmp_path)
    trainer = build_trainer(cfg, build_accelerator(cfg, cpu=True), lambda step: [make_batch()])
    with pytest.raises(ValueError, match="loader ended"):
        trainer.train()


def test_an_error_ends_the_loader(tmp_path: Path) -> None:
    """The error keeps the frame of the loop; workers that stayed would keep the process from ending."""
    told: list[str] = []

    def batches(step: int) -> Iterator[TrainingBatch]:
        try:
            while True:
                yield make_batch()
        finally:
            told.append("closed")

    class Breaks(Hook):
        def after_step(self, trainer: Trainer) -> None:
            raise RuntimeError("in the middle")

    cfg = small_config(tmp_path)
    trainer = build_trainer(cfg, build_accelerator(cfg, cpu=True), batches, extra_hooks=[Breaks()])
    with pytest.raises(RuntimeError, match="in the middle") as kept:
        trainer.train()
    assert kept.traceback and told == ["closed"]


def test_a_vocabulary_that_comes_again_is_tokenised_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from partglee.text import TextEncoder

    calls = []
    original = TextEncoder.tokenize
    monkeypatch.setattr(TextEncoder, "tokenize", lambda self, names: calls.append(names) or original(self, names))
    run_small(small_config(tmp_path))
    assert len(calls) == 1


def test_logs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from partglee.engine.logging import set_up_logging

    set_up_logging(tmp_path / "run")
    run_small(small_config(tmp_path, ["SOLVER.MAX_ITER", 5, "SOLVER.LOG_PERIOD", 2]))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 4, 5]  # the last step is always written
    for key in ("loss/total", "loss/object/class", "loss/part/restriction", "time/data", "time/step", "rate/rest"):
        assert all(isinstance(line[key], float) for line in lines), key
    console = capsys.readouterr().out
    assert "4/5 eta 0:00:0" in console and "object: " in console and "part: " in console and " lr " in console
    assert console == (tmp_path / "run" / "log.txt").read_text()
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))


def test_metrics_of_steps_that_are_taken_again_are_dropped(tmp_path: Path) -> None:
    from partglee.engine.logging import MetricsFile

    file = tmp_path / "metrics.jsonl"
    file.write_text('{"iteration": 1}\n{"iteration": 2}\n{"iteration": 3}\n{"iterat')
    MetricsFile(file, start=2).write(3, {"again": 1})
    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"iteration": 1}, {"iteration": 2}, {"iteration": 3, "again": 1},
    ]  # fmt: skip


def test_a_system_without_resource_logs_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no such module: what imports the trainer must not need it, and the log goes on without the number."""
    from partglee.engine import hooks

    assert "resource" not in vars(hooks)
    assert hooks._peak_memory(torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "resource", None)
    assert hooks._peak_memory(torch.device("cpu")) is None
    run_small(small_config(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert lines and not any("memory_mib" in line for line in lines)
