"""Two processes with one image each and averaged gradients = one process with both images."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from criterion_samples import leaves, make_criterion, random_output, random_targets
from torch import distributed as dist

from partglee.criterion import total
from partglee.structures import DecoderOutput, HierarchicalTargets, ModelOutput
from partglee.structures.supervision import LevelSupervision, Supervision

NORMS = ("released", "paper", "mean")
OBJECT_DATA = "object data in the second process"


def batch() -> tuple[ModelOutput, list[HierarchicalTargets]]:
    """The same random batch in every process; the second image has no parts. Matching and losses without masks."""
    torch.manual_seed(0)
    source = torch.tensor([[0, 1, -2], [0, -1, -1]])
    output = random_output(2, noised=(source, None))
    return output, [random_targets(3, 4, masks=False), random_targets(1, 0, masks=False)]


def image(output: ModelOutput, index: int) -> ModelOutput:
    """One image of a batch; gradients still arrive at the whole."""

    def cut(decoder: DecoderOutput) -> DecoderOutput:
        return torch.utils._pytree.tree_map(lambda t: t if t is None else t[index : index + 1], decoder)

    assert output.parts is not None and output.parent is not None
    rows = slice(index, index + 1)
    return output._replace(
        objects=cut(output.objects),
        parts=cut(output.parts),
        parent=output.parent[rows],
        mask_features=output.mask_features[rows],
    )


def gradients(output: ModelOutput) -> list[torch.Tensor]:
    found = leaves(output)
    return [torch.zeros_like(t) if t.grad is None else t.grad for t in (*found["object"], *found["part"])]


def norm_of(case: str) -> str:
    return case if case in NORMS else "released"


def worker(rank: int, store: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for case in (*NORMS, OBJECT_DATA):
        output, targets = batch()
        own = image(output, rank)
        if case == OBJECT_DATA and rank == 1:
            own = own._replace(parts=None, parent=None)  # its vocabulary has no part names
        losses = make_criterion(restriction_norm=norm_of(case))(own, targets[rank : rank + 1])
        total(losses.values()).backward()
        averaged = gradients(output)
        for grad in averaged:
            dist.all_reduce(grad)
        if rank == 0:
            torch.save([g / 2 for g in averaged], Path(folder) / f"{case}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="torch was built without distributed")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    mp.spawn(worker, args=(str(tmp_path / "store"), str(tmp_path)), nprocs=2)
    for case in (*NORMS, OBJECT_DATA):
        output, targets = batch()
        parts = LevelSupervision(background=(True, False) if case == OBJECT_DATA else None)
        losses = make_criterion(restriction_norm=norm_of(case))(output, targets, Supervision(parts=parts))
        total(losses.values()).backward()
        for one, two in zip(gradients(output), torch.load(tmp_path / f"{case}.pt"), strict=True):
            torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
