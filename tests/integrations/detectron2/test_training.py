"""Training inside detectron2: the losses of our step, DefaultTrainer on one and two processes, resume, plain loops."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import old_libraries  # noqa: F401  isort: skip  new processes import this module alone

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.engine import defaults as engine_defaults
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from plugin_samples import NAMES

from partglee.cli import main
from partglee.criterion import build_criterion, sum_terms
from partglee.data import get_dataset
from partglee.engine.partglee_recipe import TrainingStep
from partglee.engine.pretrained import load_pretrained
from partglee.integrations import detectron2 as plugin
from partglee.integrations.detectron2.batches import supervised_by, training_batch

STEPS = 3


class Trainer(DefaultTrainer):
    """As people write it."""

    @classmethod
    def build_optimizer(cls, cfg: Any, model: Any) -> Any:
        return plugin.build_optimizer(cfg, model)

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Every step has the same two images, also after a resume."""
        mapper = plugin.HierarchyMapper(is_train=True, augmentations=[], image_format=cfg.INPUT.FORMAT)
        entries = DatasetCatalog.get(cfg.DATASETS.TRAIN[0])[:2]
        batch = [mapper(entry) for entry in entries]

        def endless() -> Any:
            while True:
                yield batch

        return endless()

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset_name: str) -> Any:
        folder = os.path.join(cfg.OUTPUT_DIR, "inference")
        return COCOEvaluator(dataset_name, ("bbox", "segm"), True, output_dir=folder, use_fast_impl=False)


class Seeds(HookBase):
    """Random numbers of a step follow from its number."""

    def before_step(self) -> None:
        torch.manual_seed(self.trainer.iter)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PARTGLEE_DATASETS", str(folder))
        assert main(["data", "toy", "--images", "10", "--size", "64", "64"]) == 0
    return folder


@pytest.fixture
def toy(root: Path, monkeypatch: pytest.MonkeyPatch, catalogs: None) -> str:
    monkeypatch.setenv("PARTGLEE_DATASETS", str(root))
    plugin.register_in_detectron2("toy_val")
    return plugin.register_in_detectron2("toy_train")


def configured(output: Path, *, train: str = "toy_train") -> Any:
    from detectron2.config import get_cfg

    cfg = get_cfg()
    plugin.add_partglee_config(cfg, weights="partglee-tiny")
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (train,), ()
    cfg.MODEL.DEVICE, cfg.OUTPUT_DIR, cfg.DATALOADER.NUM_WORKERS = "cpu", str(output), 0
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 2, STEPS, 1e-4
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SOLVER.WARMUP_ITERS = 2, 0
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TRAIN = 64, (64,)
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    return cfg


def trainer_of(cfg: Any, *, resume: bool) -> Any:
    trainer = Trainer(cfg)
    trainer.register_hooks([Seeds()])
    trainer.checkpointer.add_checkpointable("optimizer", trainer.optimizer)  # release 0.6 does not save it
    trainer.resume_or_load(resume=resume)
    return trainer


def state_of(trainer: Any) -> dict[str, torch.Tensor]:
    model = getattr(trainer.model, "module", trainer.model)
    return {key: value.clone() for key, value in model.model.state_dict().items()}


def test_the_losses_are_those_of_our_step(toy: str, tmp_path: Path) -> None:
    cfg = configured(tmp_path)
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    batch = next(iter(Trainer.build_train_loader(cfg)))
    torch.manual_seed(0)
    found = model(batch)
    ours, own = load_pretrained("partglee-tiny", device="cpu", training=True)
    step = TrainingStep(model=ours, criterion=build_criterion(own))
    classes = plugin.classes_of_metadata(MetadataCatalog.get(toy))
    spec = supervised_by(get_dataset(toy), classes, sampled_names=0)
    made = training_batch(batch, classes, spec, input_format="RGB", divisibility=32)
    torch.manual_seed(0)
    expected = sum_terms(step.losses(made))
    assert found.keys() == expected.keys() and "part/restriction" in found
    assert all(torch.allclose(found[name], expected[name]) for name in expected)
    assert all(value.requires_grad and value.ndim == 0 for value in found.values())
    sum(found.values()).backward()
    sum(expected.values()).backward()
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    assert len(gradients) > 100
    for name, p in model.model.named_parameters():
        assert (p.grad is None) == (name not in gradients)
        assert p.grad is None or torch.allclose(p.grad, gradients[name], atol=1e-6)


def test_training_and_a_resume_are_one_run(toy: str, tmp_path: Path) -> None:
    cfg = configured(tmp_path / "whole")
    whole = trainer_of(cfg, resume=False)
    before = state_of(whole)
    whole.train()
    losses = whole.storage.history("total_loss").values()
    assert len(losses) == STEPS and all(torch.isfinite(torch.tensor(loss)) for loss, _ in losses)
    assert any(not torch.equal(before[key], value) for key, value in state_of(whole).items())

    half = configured(tmp_path / "halves")
    half.SOLVER.MAX_ITER = 2
    trainer_of(half, resume=False).train()
    half.SOLVER.MAX_ITER = STEPS
    again = trainer_of(half, resume=True)
    assert again.start_iter == 2
    again.train()
    expected = state_of(whole)
    assert all(torch.allclose(value, expected[key], atol=1e-6) for key, value in state_of(again).items())


def test_loss_falls_on_two_images(toy: str, tmp_path: Path) -> None:
    cfg = configured(tmp_path)
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR = 8, 3e-4
    trainer = trainer_of(cfg, resume=False)
    trainer.train()
    totals = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert sum(totals[-3:]) < sum(totals[:3])


def test_default_trainer_evaluates(toy: str, tmp_path: Path) -> None:
    cfg = configured(tmp_path)
    cfg.DATASETS.TEST, cfg.MODEL.PARTGLEE.MULTI_LABEL = ("toy_val",), True
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    results = Trainer.test(cfg, model)
    assert set(results) == {"bbox", "segm"} and results["bbox"]["AP50"] >= 0
    assert f"AP-{model.classes.names[-1]}" in results["segm"] and ":" in model.classes.names[-1]


@pytest.mark.parametrize("kind", ["objects alone", "boxes alone", "nothing"])
def test_batches_that_say_little(toy: str, tmp_path: Path, kind: str) -> None:
    cfg = configured(tmp_path)
    model = build_model(cfg)
    DetectionCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    batch = next(iter(Trainer.build_train_loader(cfg)))
    for entry in batch:
        instances = entry["instances"]
        if kind == "objects alone":
            entry["instances"] = instances[instances.gt_ids == instances.gt_object_ids]
        elif kind == "boxes alone":
            instances.remove("gt_masks")
        else:
            entry["instances"] = instances[instances.gt_ids < 0]
    losses = model(batch)
    assert ("object/mask_dice" in losses) == (kind == "objects alone")
    assert ("part/box_l1" in losses) == (kind == "boxes alone")
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()


def test_a_plain_loop(toy: str, tmp_path: Path) -> None:
    cfg = configured(tmp_path)
    model = build_model(cfg)
    checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR)
    checkpointer.load(cfg.MODEL.WEIGHTS)
    optimizer = plugin.build_optimizer(cfg, model)
    assert {group["name"] for group in optimizer.param_groups} >= {"backbone", "rest"}
    loader = build_detection_train_loader(cfg, mapper=plugin.HierarchyMapper(cfg, is_train=True))
    model.train()
    with EventStorage(0) as storage:
        for batch, _ in zip(loader, range(2), strict=False):
            losses = model(batch)
            loss = sum(losses.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            storage.put_scalars(**{name: value.item() for name, value in losses.items()})
            storage.step()
    checkpointer.save("model_last")
    assert (tmp_path / "model_last.pth").is_file()


def process(rank: int, root: str, output: str) -> None:
    """One of two: no image of the first has parts, the second has a vocabulary with parts."""
    os.environ.update(PARTGLEE_DATASETS=root, MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ["MASTER_PORT"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    # Theirs asks for a GPU of this process's number.
    engine_defaults.create_ddp_model = lambda model, **options: torch.nn.parallel.DistributedDataParallel(
        model, broadcast_buffers=False
    )
    plugin.register_in_detectron2("toy_train")

    class Half(Trainer):
        @classmethod
        def build_train_loader(cls, cfg: Any) -> Any:
            batch = next(iter(super().build_train_loader(cfg)))[rank : rank + 1]
            if rank == 0:
                instances = batch[0]["instances"]
                batch[0]["instances"] = instances[instances.gt_ids == instances.gt_object_ids]

            def endless() -> Any:
                while True:
                    yield batch

            return endless()

    cfg = configured(Path(output))
    trainer = Half(cfg)
    trainer.register_hooks([Seeds()])
    trainer.resume_or_load(resume=True)
    start = trainer.start_iter
    trainer.train()
    torch.save({"start": start, "state": state_of(trainer)}, Path(output) / f"rank_{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


def run_two(root: Path, output: Path) -> list[dict[str, Any]]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ["MASTER_PORT"] = str(probe.getsockname()[1])
    mp.spawn(process, (str(root), str(output)), nprocs=2)
    return [torch.load(output / f"rank_{rank}.pt") for rank in range(2)]


def test_two_processes(toy: str, root: Path, tmp_path: Path) -> None:
    first, second = run_two(root, tmp_path)
    assert first["start"] == second["start"] == 0
    assert first["state"].keys() == second["state"].keys()
    assert all(torch.equal(value, second["state"][key]) for key, value in first["state"].items())
    saved = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    assert all(torch.equal(saved[f"model.{key}"], value) for key, value in first["state"].items())


def test_a_set_without_parts_on_two_processes_reaches_every_weight(toy: str, tmp_path: Path) -> None:
    """What two processes wait for, seen in one: with two, every weight has a gradient, though no name is a part."""
    from partglee.integrations.detectron2 import meta_arch

    cfg = configured(tmp_path)
    cfg.MODEL.PARTGLEE.VOCABULARY = NAMES
    model = plugin.PartGLEE.from_weights("partglee-tiny", "car", training=True)
    batch = next(iter(Trainer.build_train_loader(cfg)))
    for entry in batch:
        entry["instances"].gt_classes[:] = 0
    sum(model(batch).values()).backward()
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert any(name.startswith("model.qformer") for name in without)
    model.zero_grad()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_arch, "num_processes", lambda: 2)
        sum(model(batch).values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert all(float(p.grad.abs().sum()) == 0 for name, p in model.named_parameters() if name in without)
